"""What lies in an archive, held in constant memory, and the digest of it.

Which folder is the course's root is known when `course.xml` has come by, and a tar may hold it last. So each file
leaves one line in a spool (memory first, then a temporary file), and everything that depends on the root, the
static files' rows and the digest among them, is made by reading the spool back.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

_SPOOL_BYTES = 1024**2
_DIGEST_BYTES = 256
_DIGEST_VERSION = b"openedx-content-1"


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of the archive.

    Attributes:
        path: As the archive names it, root folder included.
        size_bytes: Its size.
        sha256: Of its bytes, hexadecimal; empty for a refused member.
        reason: Why it was refused, a slug; empty for a file that was read.
        detail: More about that.
    """

    path: str
    size_bytes: int
    sha256: str = ""
    reason: str = ""
    detail: str = ""


class Inventory:
    """The members of an archive in their order; use as a context manager."""

    def __init__(self) -> None:
        # Closed by __exit__, after it has been read back as often as needed.
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+", encoding="utf-8", newline="\n")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add(self, entry: Entry) -> None:
        """Append a member."""
        line = json.dumps([entry.path, entry.size_bytes, entry.sha256, entry.reason, entry.detail])
        self._spool.write(f"{line}\n")

    def __iter__(self) -> Iterator[Entry]:
        self._spool.seek(0)
        for line in self._spool:
            yield Entry(*json.loads(line))


class ContentDigest:
    """Digest of a course's content: a multiset hash over (path, size, bytes), so neither order nor tar headers count.

    A rename, moved bytes and an added empty file change it; member order, times, owners, the gzip header, folder
    entries and the root folder's name do not. Each record is stretched to 2048 bits before they are added up, since
    sums of short hashes collide on purpose within reach.
    """

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0

    def add(self, path: str, entry: Entry) -> None:
        """Add a member by its path below the course root (outside it, as the archive names it)."""
        record = json.dumps([path, entry.size_bytes, entry.sha256, entry.reason]).encode()
        self._sum += int.from_bytes(hashlib.shake_256(record).digest(_DIGEST_BYTES), "big")
        self._count += 1

    def hexdigest(self) -> str:
        """The digest, 64 hexadecimal digits."""
        total = (self._sum % (1 << (8 * _DIGEST_BYTES))).to_bytes(_DIGEST_BYTES, "big")
        return hashlib.sha256(_DIGEST_VERSION + self._count.to_bytes(8, "big") + total).hexdigest()
