"""`Link` headers as RFC 8288 has them: quoted strings, lists of relations, names in any case, opaque addresses."""

import re
from collections.abc import Iterator

import httpx

from ol_core.failures import PermanentFailure
from ol_core.http.redaction import redact_url

_PARAMETER = (
    r'[ \t]*+;[ \t]*+(?:(?P<name>[^\s"=;,<>]++)[ \t]*+'
    r'(?:=[ \t]*+(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<bare>[^\s";,]*+)))?)?'
)
_PARAMETERS = re.compile(_PARAMETER)
_LINK = re.compile(rf"<(?P<target>[^<>]*+)>(?P<parameters>(?:{_PARAMETER})*+)[ \t]*+(?:,|\Z)")
_BETWEEN = re.compile(r"[ \t,]*+")
_QUOTED_PAIR = re.compile(r"\\(.)")


def linked(response: httpx.Response, relation: str) -> str | None:
    """Return the address that an answer's `Link` headers name for a relation, as it stands there; None for none.

    Raises:
        PermanentFailure: the headers cannot be read, or name several.
    """
    header = ", ".join(response.headers.get_list("link"))
    try:
        targets = {target for target, relations in _links(header) if relation in relations}
    except ValueError as error:
        problem = f"{error} of its {len(header)} characters; valid is <address>; rel={relation}"
    else:
        if len(targets) < 2:  # noqa: PLR2004 - one or none
            return next(iter(targets), None)
        problem = f"it names {len(targets)} addresses for rel={relation}; one is valid"
    what = f"{response.request.method} {redact_url(response.request.url)} answered {response.status_code}"
    raise PermanentFailure(f"{what} with a Link header that cannot be read: {problem}")


def _links(header: str) -> Iterator[tuple[str, list[str]]]:
    """Yield target and relations of each link."""
    at = 0
    while (between := _BETWEEN.match(header, at)) and (at := between.end()) < len(header):
        link = _LINK.match(header, at)
        if not link:
            raise ValueError(f"no link begins or none ends after character {at}")
        yield link["target"].strip(), _relations(link["parameters"])
        at = link.end()


def _relations(parameters: str) -> list[str]:
    for one in _PARAMETERS.finditer(parameters):
        if one["name"] and one["name"].lower() == "rel":  # a second one does not count
            stated = (one["bare"] or "").strip("'") if one["quoted"] is None else _QUOTED_PAIR.sub(r"\1", one["quoted"])
            return stated.lower().split()
    return []
