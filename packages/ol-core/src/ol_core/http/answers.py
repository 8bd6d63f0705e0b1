"""What an answer means: its JSON, or the failure that it stands for, told without secrets."""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, TypeVar

import httpx
from pydantic import AfterValidator, BeforeValidator, TypeAdapter, ValidationError

from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.http.redaction import redact, redact_url, secrets_of

T = TypeVar("T")

_OTHER_YEAR = re.compile(r"(?:\+?(?P<late>[1-9][0-9]{4,})|-[0-9]{4,}|0000)-[0-9]{2}-[0-9]{2}(?:[T ][0-9]|\Z)")


def _in_years(value: object) -> object:
    year = _OTHER_YEAR.match(value) if isinstance(value, str) else None
    if not year:
        return value
    return datetime.max if year["late"] else datetime.min  # noqa: DTZ901 - UTC, without saying so


def _naive_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is None:
        return value
    try:
        return value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        return datetime.max if value.year > 1 else datetime.min  # noqa: DTZ901 - UTC, without saying so


NaiveUtc = Annotated[datetime | None, BeforeValidator(_in_years), AfterValidator(_naive_utc)]
"""A time as records and tables hold it: UTC, without saying so; where an answer states no offset it is UTC already.

One outside the years 1 to 9999, which no datetime holds, becomes the first or the last time of them.
"""

_REFUSED = frozenset({425, 429})
_UNANSWERED = frozenset({408, 502, 503, 504, 520, 521, 522, 523, 524})  # from 520 on: Cloudflare, of the server behind
_NEVER_SERVED = frozenset({501, 505})
_MISSING = frozenset({404, 410})
_REMEDIES = {
    401: "; check the token or the client's credentials",
    403: "; the account that asks lacks a permission",
    404: "; it does not exist, or is hidden from the account that asks",
}
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_AVAILABLE_IN = re.compile(r"available in ([0-9]+(?:\.[0-9]+)?) second", re.IGNORECASE)
_LONGEST_WAIT_SECONDS = 86_400.0
"""A server that asks for more is asked again after a day all the same."""
_READ_CHARACTERS = 20_000
_SHOWN_CHARACTERS = 200


class NotActedOn(TransientFailure):
    """The server did nothing with the request (throttled, never connected): any method may be repeated."""


class Unanswered(TransientFailure):
    """The server may have acted on the request: only idempotent ones may be repeated."""


def failure(response: httpx.Response) -> OlError:
    """Return the failure that an answer outside 200 to 299 stands for."""
    status, text, after = response.status_code, described(response), _retry_after_seconds(response)
    throttled = status == httpx.codes.FORBIDDEN and "rate limit exceeded" in text.lower()  # Canvas
    if throttled or status in _REFUSED:
        return NotActedOn(text, retry_after_seconds=after)
    if status in _UNANSWERED:
        return Unanswered(text, retry_after_seconds=after)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR and status not in _NEVER_SERVED:
        return TransientFailure(text, retry_after_seconds=after)
    if response.has_redirect_location:
        target = redact(redact_url(response.headers["location"]), _secrets(response))
        text += f"; it redirects to {target}: configure the address that answers"
    return (UpstreamMissing if status in _MISSING else PermanentFailure)(text + _REMEDIES.get(status, ""))


def described(response: httpx.Response) -> str:
    """Return method, address, status and a short excerpt of an answer."""
    request = response.request
    answer = f"{request.method} {redact_url(request.url)} answered {response.status_code}"
    excerpt = " ".join(redact(response.text[:_READ_CHARACTERS], _secrets(response)).split())[:_SHOWN_CHARACTERS]
    return f"{answer}: {excerpt}" if excerpt else answer


def _secrets(response: httpx.Response) -> set[str]:
    return secrets_of([response.request, *(one.request for one in response.history)])


def _retry_after_seconds(response: httpx.Response) -> float | None:
    stated: str = response.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(stated):
        return min(float(stated), _LONGEST_WAIT_SECONDS)
    if until := http_date(stated):
        now = http_date(response.headers.get("date", "")) or datetime.now(UTC)
        return min(max(0.0, (until - now).total_seconds()), _LONGEST_WAIT_SECONDS)
    in_text = _AVAILABLE_IN.search(response.text[:_READ_CHARACTERS])
    return min(float(in_text[1]), _LONGEST_WAIT_SECONDS) if in_text else None


def http_date(text: str) -> datetime | None:
    """Return a date in any of the forms that HTTP has, UTC where it states no zone; None for what is not a date."""
    try:
        stated = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return stated if stated.tzinfo else stated.replace(tzinfo=UTC)


def read_json(response: httpx.Response, adapter: TypeAdapter[T]) -> T:
    """Return an answer's JSON in the shape that the adapter states.

    JSON is UTF-8, whatever an answer says of itself; where it is not, a byte order mark or the stated charset decides.

    Raises:
        TransientFailure: it is JSON, and ends early.
        PermanentFailure: the answer is something else, such as a login page or JSON of another shape.
    """
    content = _as_utf8(response)
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        unreadable = _unreadable(response, content, error)
    raise unreadable  # out here, its context is not an error whose text shows the values


def _as_utf8(response: httpx.Response) -> bytes:
    content = response.content
    for charset in (json.detect_encoding(content), response.charset_encoding):
        try:
            text = content.decode(charset or "utf-8")
            return content if charset == "utf-8" else text.encode()
        except (UnicodeError, LookupError):
            continue
    return content


def _ends_inside_a_character(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _unreadable(response: httpx.Response, content: bytes, error: ValidationError) -> OlError:
    what = f"{response.request.method} {redact_url(response.request.url)} answered {response.status_code}"
    problem = error.errors(include_input=False, include_url=False)[0]
    if problem["type"] != "json_invalid":
        return PermanentFailure(f"{what} with JSON of another shape: {_problems(error)}")
    kind = redact(response.headers.get("content-type", "no content type"))[:_SHOWN_CHARACTERS]
    begins_as_json = content.lstrip()[:1] in {b"{", b"["} or (not content.strip() and "json" in kind)
    if not begins_as_json:
        return PermanentFailure(f"{what} with {kind} where JSON is valid; check the address and the login")
    if "EOF while parsing" in problem["msg"] or _ends_inside_a_character(content):
        return TransientFailure(f"{what} with JSON that is not whole ({len(content)} bytes)")
    return PermanentFailure(f"{what} with {kind} that is not JSON, although it begins as such ({len(content)} bytes)")


def validated(adapter: TypeAdapter[T], value: object, *, source: str) -> T:
    """Return a value from outside in the shape that the adapter states.

    Raises:
        PermanentFailure: it has another shape; the message names the fields, never their values.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problems = _problems(error)
    raise PermanentFailure(f"{source}: the answer has another shape: {problems}")


def _problems(error: ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'answer'}: {one['msg']}" for one in problems[:3])
