"""What makes two cartridges the same content.

Canvas rewrites imsmanifest.xml and everything in course_settings/ at every export, with new dates and in a new order:
their bytes say nothing. What they mean does: it enters as a canonical outline, beside the bytes of all other members.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping


def content_digest(members: Mapping[str, tuple[int, str]], outline: object) -> str:
    """The digest of a cartridge.

    Args:
        members: Path -> (bytes, SHA-256) of every member whose bytes are content.
        outline: What manifest and settings mean, as JSON values without identifiers and dates of export.

    Returns:
        SHA-256, hexadecimal. JSON keeps the parts apart: no two different inputs are written alike.
    """
    return _sha256([sorted([path, *values] for path, values in members.items()), outline])


def content_version(cartridge_digest: str, *, published: Iterable[str], metadata: Mapping[str, object]) -> str:
    """The version of a course's content: its cartridge, what of it is published, and its metadata.

    Args:
        cartridge_digest: `Cartridge.content_digest`.
        published: Names of what is published; order and repetition do not matter.
        metadata: JSON values; the order of keys does not matter, the order of lists does.

    Returns:
        SHA-256, hexadecimal.
    """
    return _sha256([cartridge_digest, sorted(set(published)), metadata])


def _sha256(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
