"""The zip of a cartridge: which members may be read, and their bytes, decompressed once and in chunks."""

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from ol_canvas.cartridge.records import CartridgeError, CartridgeLimits, QuarantineEntry

_CHUNK_BYTES = 256 * 1024
_RATIO_FLOOR_BYTES = 1024 * 1024
_ENCRYPTED, _UTF8_NAME = 0x1, 0x800  # general purpose bits, APPNOTE 4.4.4
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CORRUPT = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError)
_SYSTEM_FILE = re.compile(r"(^|/)(__MACOSX/|\._|\.DS_Store$|Thumbs\.db$|\.git/)")


class Quarantine:
    """Collects what could not be used."""

    def __init__(self, course_id: str) -> None:
        self.course_id = course_id
        self.entries: list[QuarantineEntry] = []

    def add(
        self, path: str, reason: str, detail: str, *, line: int | None = None, size_bytes: int | None = None
    ) -> None:
        """Adds one entry."""
        self.entries.append(QuarantineEntry(self.course_id, path, line, reason, detail, size_bytes))


class CartridgeZip:
    """The members of one cartridge.

    Attributes:
        infos: Safe path -> entry of the zip, in the zip's order. Folders and refused members are not among them.
        member_count: Entries that are not folders, refused ones included.
    """

    def __init__(self, source: Path | BinaryIO, *, name: str, limits: CartridgeLimits, quarantine: Quarantine) -> None:
        self._name, self._limits = name, limits
        try:
            self._zip = zipfile.ZipFile(source)
        except _CORRUPT as error:
            problem = f"is not a complete zip ({error}): it was cut off, or is something else; export it again"
            raise CartridgeError(name, problem) from error
        except OSError as error:
            raise CartridgeError(name, f"cannot be opened: {error.strerror or error}") from error
        try:
            entries = self._zip.infolist()
            self._check_sizes(entries)
            files = [entry for entry in entries if not entry.filename.endswith("/")]
            self.member_count = len(files)
            self.infos = self._readable(files, quarantine)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._zip.close()

    def _check_sizes(self, entries: list[zipfile.ZipInfo]) -> None:
        limits, name = self._limits, self._name
        if len(entries) > limits.members:
            raise CartridgeError(name, f"holds {len(entries)} members; at most {limits.members} are read")
        for entry in entries:
            if entry.file_size > limits.member_bytes:
                problem = f"unpacks to {entry.file_size} bytes; at most {limits.member_bytes} are read"
                raise CartridgeError(name, problem, member=entry.filename)
        total = sum(entry.file_size for entry in entries)
        if total > limits.total_bytes:
            raise CartridgeError(name, f"unpacks to {total} bytes; at most {limits.total_bytes} are read")
        packed = max(1, sum(entry.compress_size for entry in entries))
        if total > _RATIO_FLOOR_BYTES and total / packed > limits.ratio:
            problem = f"unpacks to {total / packed:.0f} times its size; at most {limits.ratio:.0f} times is accepted"
            raise CartridgeError(name, problem)

    def _readable(self, entries: list[zipfile.ZipInfo], quarantine: Quarantine) -> dict[str, zipfile.ZipInfo]:
        infos: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            raw = _decoded_name(entry)
            path = re.sub(r"^(\./)+", "", raw)
            refusal = _refusal(path, entry, self._limits)
            if refusal is not None:
                reason, detail = refusal
                quarantine.add(raw.replace("\0", "\\0"), reason, detail, size_bytes=entry.file_size)
                continue
            if entry.flag_bits & _ENCRYPTED:
                raise CartridgeError(self._name, "is encrypted; only open cartridges are read", member=path)
            if entry.compress_type not in _METHODS:
                problem = f"is compressed by method {entry.compress_type}; valid are 0 (stored) and 8 (deflate)"
                raise CartridgeError(self._name, problem, member=path)
            if path in infos:
                detail = "the zip holds this name more than once; the last one counts, as when it is unpacked"
                quarantine.add(path, "duplicate_member", detail, size_bytes=infos.pop(path).file_size)
            infos[path] = entry
        return infos

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of one member, its CRC verified at the end.

        Raises:
            CartridgeError: The member is corrupt, cut off, or longer than it declares.
        """
        entry = self.infos[path]
        seen = 0
        try:
            with self._zip.open(entry) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    seen += len(chunk)
                    yield chunk
        except _CORRUPT as error:
            raise CartridgeError(self._name, f"is corrupt ({error}); export it again", member=path) from error
        if seen != entry.file_size:
            problem = f"has {seen} bytes where the zip declares {entry.file_size}; export it again"
            raise CartridgeError(self._name, problem, member=path)


def _decoded_name(entry: zipfile.ZipInfo) -> str:
    # Ruby's zip library writes UTF-8 names without the flag that says so; `zipfile` then reads them as code page 437.
    # `orig_filename` is the name before `zipfile` cuts it at a NUL.
    name = entry.orig_filename
    if entry.flag_bits & _UTF8_NAME:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _refusal(path: str, entry: zipfile.ZipInfo, limits: CartridgeLimits) -> tuple[str, str] | None:
    if len(path) > limits.name_length:
        return "unsafe_name", f"the name has {len(path)} characters; at most {limits.name_length} are accepted"
    if "\0" in path or "\\" in path:
        return "unsafe_name", "the name holds a NUL or a backslash; folders are separated by '/'"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or {"", ".", ".."} & set(path.split("/")):
        return "unsafe_name", "the name leaves the cartridge; names are relative, without '..' or empty parts"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "link_member", "a symbolic link, not a file"
    if _SYSTEM_FILE.search(path):
        return "system_file", "left by an operating system or by git, not course content"
    return None
