"""The members of an untrusted tar.gz, one after the other, in one forward pass and constant memory.

Nothing is extracted. The gzip stream is read to its end, so a wrong checksum, a cut file and trailing bytes are errors;
`tarfile` alone checks none of these and takes a tar cut between two members for a whole one.
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO, cast

from ol_openedx.archive.limits import ArchiveError, ArchiveLimits

_CHUNK_BYTES = 64 * 1024
_HEADER_BYTES = 1024**2  # a pax or GNU long-name header; tarfile reads one at once
_END_BYTES = 2 * tarfile.BLOCKSIZE
_NAME_BYTES = 1024
_NAME_PART_BYTES = 255
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class RefusedMember:
    """A member that is not read: `reason` is a slug of the quarantine table, `path` is safe to print and store."""

    path: str
    reason: str
    detail: str
    size_bytes: int


class Member:
    """A regular file of the archive.

    Attributes:
        path: Name without leading `./`, parts joined by `/`.
        size_bytes: Size that its header states.
    """

    __slots__ = ("_stream", "path", "size_bytes")

    def __init__(self, path: str, size_bytes: int, stream: "_TarStream") -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._stream = stream

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes, once, before the next member is asked for."""
        return self._stream.take(self.size_bytes)


class ArchiveMembers:
    """Iterates over a tar.gz once; after the last member the whole stream has been verified.

    Folders are passed over. Files that operating systems and git leave behind (`._*`, `.DS_Store`, `__MACOSX`, `.git`)
    are skipped and counted. Links, devices, unsafe names and the second member of a name come as `RefusedMember`.

    Attributes:
        skipped_count: Members skipped so far.
    """

    def __init__(self, raw: BinaryIO, *, name: str, limits: ArchiveLimits) -> None:
        self.skipped_count = 0
        self._name = name
        self._limits = limits
        self._stream = _TarStream(raw, name=name, limits=limits)
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[Member | RefusedMember]:
        tar = self._open()
        count = 0
        while (header := self._next(tar)) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header; the stubs omit it
            count += 1
            if count > self._limits.members:
                raise ArchiveError(
                    self._name, f"more than {self._limits.members} members (limit members={self._limits.members})"
                )
            if (member := self._member(header)) is not None:
                yield member
        self._stream.finish(tar.offset)

    def _open(self) -> tarfile.TarFile:
        try:
            return tarfile.TarFile(
                fileobj=cast("io.BytesIO", self._stream), mode="r", encoding="utf-8", errors="surrogateescape"
            )
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise ArchiveError(self._name, f"not a gzip-compressed tar ({error})") from error

    def _next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        try:
            return tar.next()
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise ArchiveError(
                self._name, f"the tar is damaged or cut ({error})", member=self._stream.member
            ) from error

    def _member(self, header: tarfile.TarInfo) -> Member | RefusedMember | None:
        shown = header.name.encode("utf-8", "backslashreplace").decode()
        self._stream.member = shown
        if header.size < 0 or header.size > self._limits.member_bytes:
            raise ArchiveError(
                self._name,
                f"{header.size} bytes are not within the limit member_bytes={self._limits.member_bytes}",
                member=shown,
            )
        if problem := _name_problem(header.name):
            return RefusedMember(shown, "unsafe_name", problem, header.size)
        parts = [part for part in header.name.split("/") if part not in ("", ".")]
        if header.isdir():
            return None
        if _is_litter(parts):
            self.skipped_count += 1
            return None
        path = "/".join(parts)
        if refusal := _type_problem(header):
            return RefusedMember(path, *refusal, header.size)
        return self._first_of_name(path, header.size)

    def _first_of_name(self, path: str, size_bytes: int) -> Member | RefusedMember:
        key = int.from_bytes(blake2b(path.encode(), digest_size=8).digest(), "big")
        if key in self._seen:
            detail = "an earlier member has this name; the first one is used"
            return RefusedMember(path, "duplicate_member", detail, size_bytes)
        self._seen.add(key)
        return Member(path, size_bytes, self._stream)


def _name_problem(name: str) -> str | None:
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    parts = name.split("/")
    checks = (
        (name.startswith("/"), "an absolute name"),
        (".." in parts, "the name leaves its folder (..)"),
        ("\0" in name or "\\" in name, "the name holds a NUL or a backslash"),
        (_DRIVE.match(name) is not None, "the name starts with a drive letter"),
        (size_bytes > _NAME_BYTES, f"the name is longer than {_NAME_BYTES} bytes"),
        (
            any(len(part.encode()) > _NAME_PART_BYTES for part in parts),
            f"a part of the name is longer than {_NAME_PART_BYTES} bytes",
        ),
    )
    return next((problem for failed, problem in checks if failed), None)


def _is_litter(parts: list[str]) -> bool:
    return any(part.startswith("._") or part in (".DS_Store", "__MACOSX", ".git") for part in parts)


def _type_problem(header: tarfile.TarInfo) -> tuple[str, str] | None:
    if header.issym() or header.islnk():
        return "link_member", "symbolic and hard links are not followed"
    if header.isdev():
        return "device_member", "devices and pipes are not read"
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) or header.sparse is not None:
        return "special_member", "only regular files are read"
    if not header.name.strip("./"):
        return "unsafe_name", "a file without a name"
    return None


class _CountingReader(io.RawIOBase):
    def __init__(self, raw: BinaryIO) -> None:
        self.count = 0
        self._raw = raw

    def read(self, size: int = -1, /) -> bytes:
        data = self._raw.read(size)
        self.count += len(data)
        return data


class _TarStream:
    """The decompressed bytes, forward only; what `tarfile` needs of a file (`read`, `tell`, `seek`) and no more."""

    def __init__(self, raw: BinaryIO, *, name: str, limits: ArchiveLimits) -> None:
        self.member: str | None = None
        self._name = name
        self._limits = limits
        self._compressed = _CountingReader(raw)
        self._gzip = gzip.GzipFile(fileobj=self._compressed, mode="rb")
        self._chunk = b""
        self._used = 0
        self._chunk_start = 0
        self._nonzero_end = 0

    def tell(self) -> int:
        return self._chunk_start + self._used

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        distance = offset - self.tell()
        if distance < 0 or whence != io.SEEK_SET:
            raise ArchiveError(self._name, "the tar is damaged: a size points backwards", member=self.member)
        for _ in self._pieces(distance):
            pass
        return self.tell()

    def read(self, size: int, /) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise ArchiveError(
                self._name, f"a tar header of {size} bytes (at most {_HEADER_BYTES} are valid)", member=self.member
            )
        if self._used + size <= len(self._chunk):
            self._used += size
            return self._chunk[self._used - size : self._used]
        return b"".join(self._pieces(size))

    def take(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes in pieces; an error where the archive ends before."""
        for piece in self._pieces(size):
            size -= len(piece)
            yield piece
        if size:
            raise ArchiveError(self._name, f"the archive ends {size} bytes before the member does", member=self.member)

    def finish(self, tar_end: int) -> None:
        """Read to the end of the gzip stream and check what follows the last member, which ended at `tar_end`."""
        self.member = None
        while self._fill():
            pass
        if self._nonzero_end > tar_end:
            raise ArchiveError(
                self._name, f"the tar is damaged at byte {tar_end}: neither a member nor the end of the archive"
            )
        if self._chunk_start - tar_end < _END_BYTES:
            raise ArchiveError(self._name, f"the tar is cut at byte {tar_end}: its closing zero blocks are missing")

    def _pieces(self, size: int) -> Iterator[bytes]:
        while size > 0 and (self._used < len(self._chunk) or self._fill()):
            piece = self._chunk[self._used : self._used + size]
            self._used += len(piece)
            size -= len(piece)
            yield piece

    def _fill(self) -> bool:
        self._chunk_start += len(self._chunk)
        self._used = 0
        try:
            self._chunk = self._gzip.read(_CHUNK_BYTES)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ArchiveError(
                self._name, f"the gzip stream is damaged, cut or not gzip at all ({error})", member=self.member
            ) from error
        total = self._chunk_start + len(self._chunk)
        if filled := len(self._chunk.rstrip(b"\0")):
            self._nonzero_end = self._chunk_start + filled
        self._check_size(total)
        return bool(self._chunk)

    def _check_size(self, total: int) -> None:
        limits = self._limits
        if total > limits.total_bytes:
            raise ArchiveError(
                self._name,
                f"{total} bytes decompressed are beyond the limit total_bytes={limits.total_bytes}",
                member=self.member,
            )
        if total > limits.ratio_floor_bytes and total > limits.ratio * self._compressed.count:
            raise ArchiveError(
                self._name,
                f"{total} bytes from {self._compressed.count} compressed are beyond the limit ratio={limits.ratio}",
                member=self.member,
            )
