"""What an answer means: its JSON, or the failure that it stands for, told without secrets."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing

T = TypeVar("T")

_UNANSWERED = frozenset({408, 502, 503, 504})
_MISSING = frozenset({404, 410})
_REMEDIES = {
    401: "; check the token or the client's credentials",
    403: "; the account that asks lacks a permission",
    404: "; it does not exist, or is hidden from the account that asks",
}
_SHOWN_PARAMETERS = frozenset({"page", "page_size", "per_page", "include[]", "task_id"})
_SECRET_NAME = r"(?:token|secret|signature|verifier|password|credential)[\w-]*"  # noqa: S105 - a pattern
_SECRET_IN_TEXT = re.compile(
    rf"""(\b(?:bearer|jwt)\s+|{_SECRET_NAME}["']?\s*[=:]\s*["']?)[^\s"'&,;}}]+""", re.IGNORECASE
)
_SECONDS = re.compile(r"\d+(\.\d+)?")
_AVAILABLE_IN = re.compile(r"available in (\d+(?:\.\d+)?) second", re.IGNORECASE)
_EXCERPT_CHARACTERS = 2000


class NotActedOn(TransientFailure):
    """The server did nothing with the request (throttled, never connected): any method may be repeated."""


class Unanswered(TransientFailure):
    """The server may have acted on the request: only idempotent ones may be repeated."""


def failure(response: httpx.Response) -> OlError:
    """Return the failure that an answer outside 200 to 299 stands for."""
    status, text, after = response.status_code, described(response), _retry_after_seconds(response)
    throttled = status == httpx.codes.FORBIDDEN and "rate limit exceeded" in text.lower()  # Canvas
    if throttled or status == httpx.codes.TOO_MANY_REQUESTS:
        return NotActedOn(text, retry_after_seconds=after)
    if status in _UNANSWERED:
        return Unanswered(text, retry_after_seconds=after)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return TransientFailure(text, retry_after_seconds=after)
    if response.has_redirect_location:
        text += f"; it redirects to {redact_url(response.headers['location'])}: configure the address that answers"
    return (UpstreamMissing if status in _MISSING else PermanentFailure)(text + _REMEDIES.get(status, ""))


def described(response: httpx.Response) -> str:
    """Return method, address, status and a short excerpt of an answer."""
    request = response.request
    answer = f"{request.method} {redact_url(request.url)} answered {response.status_code}"
    excerpt = " ".join(redact(response.text[:_EXCERPT_CHARACTERS]).split())[:200]
    return f"{answer}: {excerpt}" if excerpt else answer


def _retry_after_seconds(response: httpx.Response) -> float | None:
    stated: str = response.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(stated):
        return float(stated)
    try:
        until = parsedate_to_datetime(stated)
        now = parsedate_to_datetime(response.headers["date"]) if "date" in response.headers else datetime.now(UTC)
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):  # no date, or one without a zone
        in_text = _AVAILABLE_IN.search(response.text[:_EXCERPT_CHARACTERS])
        return float(in_text[1]) if in_text else None


def read_json(response: httpx.Response, adapter: TypeAdapter[T]) -> T:
    """Return an answer's JSON in the shape that the adapter states.

    Raises:
        TransientFailure: JSON was announced and is not whole.
        PermanentFailure: the answer is something else, such as a login page or JSON of another shape.
    """
    try:
        return adapter.validate_json(response.content)
    except ValidationError as error:  # raised `from None`: its text shows the values
        what = f"{response.request.method} {redact_url(response.request.url)} answered {response.status_code}"
        kind = response.headers.get("content-type", "no content type")
        if error.errors()[0]["type"] != "json_invalid":
            raise PermanentFailure(f"{what} with JSON of another shape: {_problems(error)}") from None
        if "json" in kind:
            raise TransientFailure(f"{what} with JSON that is not whole ({len(response.content)} bytes)") from None
        raise PermanentFailure(f"{what} with {kind} where JSON is valid; check the address and the login") from None


def validated(adapter: TypeAdapter[T], value: object, *, source: str) -> T:
    """Return a value from outside in the shape that the adapter states.

    Raises:
        PermanentFailure: it has another shape; the message names the fields, never their values.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise PermanentFailure(f"{source}: the answer has another shape: {_problems(error)}") from None


def _problems(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'answer'}: {one['msg']}" for one in problems[:3])


def redact(text: str) -> str:
    """Return a text without the secrets that its wording gives away."""
    return _SECRET_IN_TEXT.sub(r"\1...", text)


def redact_url(url: httpx.URL | str) -> str:
    """Return a URL without its login, its fragment, and the values of parameters that may sign it."""
    parts = urlsplit(str(url))
    query = parse_qsl(parts.query, keep_blank_values=True)
    shown = "&".join(f"{name}={value if name in _SHOWN_PARAMETERS else '...'}" for name, value in query)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, shown, ""))
