"""Keeps credentials that course authors put into settings out of every row.

Course settings hold LTI passports, API keys of graders, repository addresses with a login. A setting is known by its
name; inside free text (URLs, markup in an attribute) a credential is known by what stands before it.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache

from ol_openedx.archive.values import storable

_SECRET_NAME = re.compile(
    r"passport|secret|passw|credential|token|giturl|git_url|remote_gradebook|authorization"
    r"|(?:api|access|private|consumer|shared|lti|client|auth|secret|encryption)[_-]?key|^key$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"(?P<before>(?:passw(?:or)?d|secret|token|signature|credential|passports?"
    r"|(?:api|access|private|consumer|shared|lti|client|auth)[_-]?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&<>]+"
    r"|(?P<scheme>[a-z][a-z0-9+.-]{0,20}://)[^\s/@\"'<>]+@",
    re.IGNORECASE,
)
# One of these is in every text that the patterns above match; looking for them first is many times faster.
_HINTS = ("passw", "passport", "secret", "credential", "token", "signature", "key", "git", "gradebook", "author", "@")
_REMOVED = "[removed]"
_MAX_DEPTH = 64


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a setting of this name may hold a credential."""
    return _SECRET_NAME.search(name) is not None


def without_secrets(value: object, depth: int = 0) -> object:
    """A parsed JSON value without the settings whose names say secret, and with credentials in its texts replaced.

    Raises:
        RecursionError: The value is nested deeper than any course setting is.
    """
    if isinstance(value, str):
        return redacted_text(value)
    if depth > _MAX_DEPTH:
        raise RecursionError(f"nested deeper than {_MAX_DEPTH}")
    if isinstance(value, Mapping):
        return {key: without_secrets(item, depth + 1) for key, item in value.items() if not is_secret_name(str(key))}
    if isinstance(value, list):
        return [without_secrets(item, depth + 1) for item in value]
    return value


def redacted_text(text: str) -> str:
    """The text with credentials replaced; a text that holds JSON is cleaned as JSON."""
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    if text.lstrip()[:1] in ("{", "["):
        try:
            return storable(json.dumps(without_secrets(json.loads(text)), ensure_ascii=False))
        except (ValueError, RecursionError):
            pass
    return _SECRET_TEXT.sub(_replacement, text)


def _replacement(match: re.Match[str]) -> str:
    kept: str = match["before"] or match["scheme"]
    return f"{kept}{_REMOVED}" + ("@" if match["scheme"] else "")
