"""What is kept out of messages and logs: secrets by their names, by their places in a URL, and by their values."""

import logging
import re
from collections.abc import Collection, Iterable
from itertools import chain
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit, urlunsplit

import httpx

_SHOWN_PARAMETERS = frozenset({"page", "page_size", "per_page", "include[]", "task_id"})
_SECRET_NAME = r"(?:token|secret|signature|verifier|passw(?:or)?d|credential|authorization|cookie|api[_-]?key)[\w-]*"  # noqa: S105 - a pattern
_SECRET_IN_TEXT = re.compile(
    rf"""(://|\b(?:bearer|jwt)\s+|{_SECRET_NAME}[\\"']*\s*[=:>]\s*)"""
    r"""((?<=://)[^/?#\s"'<>]+(?=@)|(?<!://)(?:\\*"[^"]*"?|\\*'[^']*'?|(?:(?:basic|bearer|jwt)\s+)?[^\s"'&,;}<]+))""",
    re.IGNORECASE,
)
_IS_SECRET_NAME = re.compile(_SECRET_NAME, re.IGNORECASE)
_SHORTEST_SECRET = 6
"""Shorter values are words as well; they would be missing where they tell something."""
_LOGGERS = ("httpx", *(f"httpcore.{name}" for name in ("connection", "http11", "http2", "proxy", "socks")))


def redact(text: str, values: Collection[str] = ()) -> str:
    """Return a text without given values, and without the secrets that its wording gives away."""
    for value in sorted(values, key=len, reverse=True):
        for form in {value, quote(value, safe=""), quote_plus(value)}:
            text = text.replace(form, "...")
    return _SECRET_IN_TEXT.sub(r"\1...", text)


def redact_url(url: httpx.URL | str) -> str:
    """Return a URL without its login, its fragment, and the values of parameters that may sign it."""
    try:
        parts = urlsplit(str(url))
    except ValueError:  # its text may hold anything
        return "an address that cannot be read"
    query = parse_qsl(parts.query, keep_blank_values=True)
    shown = "&".join(f"{name}={value if name in _SHOWN_PARAMETERS else '...'}" for name, value in query)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, shown, ""))


def secrets_of(requests: Iterable[httpx.Request]) -> set[str]:
    """Return what requests hold that an answer must not give away when it repeats them."""
    found: set[str] = set()
    for request in requests:
        url, headers = request.url, request.headers
        found |= {value for name, value in url.params.multi_items() if name not in _SHOWN_PARAMETERS}
        found |= {url.username, url.password, url.userinfo.decode()}
        stated = (value for name, value in headers.items() if _IS_SECRET_NAME.search(name))
        found |= set(chain.from_iterable((value, value.rpartition(" ")[2]) for value in stated))
        if headers.get("content-type") == "application/x-www-form-urlencoded":
            form = parse_qsl(request.content.decode(errors="replace"))
            found |= {value for name, value in form if _IS_SECRET_NAME.search(name)}
    return {value for value in found if len(value) >= _SHORTEST_SECRET}


def quiet_logs() -> None:
    """Keep secrets out of what httpx and httpcore log: whole URLs, and at level DEBUG the headers of answers."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_without_secrets)


def _without_secrets(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(redact_url(one) if isinstance(one, httpx.URL) else one for one in record.args)
    if record.name.startswith("httpcore"):  # "receive_response_headers.complete return_value=(..., [(b'Set-Cookie',"
        record.msg = re.split(r" (?:return_value|exception)=", str(record.msg), maxsplit=1)[0]
    return True
