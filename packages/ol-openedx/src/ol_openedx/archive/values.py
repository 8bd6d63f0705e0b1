"""Values of course settings, as XML attributes and policy files write them.

By the age of the course an attribute holds plain text or JSON: `"2030-01-01T00:00:00Z"`, quotation marks included.
"""

import json
import math
from datetime import UTC, datetime

_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def text_value(value: object) -> str | None:
    """Text of a setting, without JSON quotation marks; `null` is None."""
    if value is None or value == "null":
        return None
    if not isinstance(value, str):
        return json_text(value)
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        parsed = json_value(value)
        value = parsed if isinstance(parsed, str) else value
    return storable(value)


def timestamp_value(value: object) -> datetime | None:
    """A date and time as naive UTC; without an offset it is UTC already.

    Raises:
        ValueError: Neither empty nor ISO 8601.
    """
    text = text_value(value)
    if text is None or not text.strip():
        return None
    try:
        parsed = datetime.fromisoformat(text.strip())
        return parsed.astimezone(UTC).replace(tzinfo=None) if parsed.tzinfo else parsed
    except OverflowError as error:
        raise ValueError(str(error)) from error


def boolean_value(value: object) -> bool | None:
    """True, False, or None where the setting is absent or says neither."""
    text = text_value(value)
    return {"true": True, "false": False}.get((text or "").strip().lower())


def seconds_value(value: object) -> float | None:
    """A duration; 0.0, which the platform writes for external videos, is unknown."""
    try:
        seconds = float(text_value(value) or "nan")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def json_value(value: object) -> object:
    """What a JSON attribute holds; None where it is not JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def json_text(value: object) -> str:
    """Canonical JSON: sorted keys, so that the same settings are the same text."""
    return storable(_CANONICAL.encode(value))


def storable(text: str) -> str:
    r"""The text with lone surrogates, which UTF-8 cannot hold, written as `\udXXX`."""
    return text.encode("utf-8", "backslashreplace").decode()
