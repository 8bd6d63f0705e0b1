"""What is stored: files on their way into a store, and objects that are there."""

import hashlib
import mimetypes
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import quote

import dagster as dg

from ol_core.failures import OlError, PermanentFailure, TransientFailure

CHUNK_BYTES = 1 << 20
_KEPT_IN_KEYS = ":+@!$&'(),;=~-._ "  # everything but separators and what object stores trip over
_LONGEST_SUFFIX = 20
_NO_READABLE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

Source = Path | BinaryIO | Iterable[bytes]
"""Where the bytes of an object come from: a local file, an open stream, or chunks."""


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """A file that an asset hands over.

    Attributes:
        source: Its bytes. A local file stays the caller's, who removes it; a stream is read once, to its end.
        version: Version of its content, where equal content may have other bytes; empty for the checksum of the bytes.
        suffix: How its name ends, such as `.xml.tar.gz`; by default as the local file's name.
        content_type: Media type; by default what the suffix says.
        metadata: What else Dagster should show of it.
    """

    source: Source
    version: str = ""
    suffix: str | None = None
    content_type: str | None = None
    metadata: Mapping[str, str | float] = field(default_factory=dict)

    @classmethod
    def of(cls, handed_over: object, asset: str) -> "ObjectFile":
        """Return what an asset handed over, which may be a bare source, as a file.

        Raises:
            PermanentFailure: it is nothing that bytes come from.
        """
        file = handed_over if isinstance(handed_over, ObjectFile) else cls(cast("Source", handed_over))
        source: object = file.source
        if isinstance(source, str | bytes) or not isinstance(source, Iterable | Path):
            kind = type(source).__name__
            raise PermanentFailure(
                f"{asset} returned a {kind}; return a pathlib.Path, a binary stream or an ObjectFile"
            )
        return file


@dataclass(frozen=True, slots=True)
class Digest:
    """Length in bytes and SHA-256, hexadecimal."""

    size_bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.size_bytes} bytes with the SHA-256 {self.sha256}"

    @classmethod
    def of(cls, chunks: Iterable[bytes]) -> "Digest":
        """Read chunks to their end."""
        digest, size_bytes = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            size_bytes += len(chunk)
        return cls(size_bytes, digest.hexdigest())


@dataclass(frozen=True, slots=True)
class FileObject:
    """An object that exists.

    Attributes:
        path: Its full address: a path or an fsspec URL.
        key: Its address below the store's root.
        size_bytes: Length.
        sha256: Checksum of the bytes, hexadecimal.
        version: Version of the content; differs from the checksum where equal content may have other bytes.
        content_type: Media type.
    """

    path: str
    key: str
    size_bytes: int
    sha256: str
    version: str
    content_type: str

    @property
    def digest(self) -> Digest:
        """Length and checksum."""
        return Digest(self.size_bytes, self.sha256)

    @property
    def metadata(self) -> dict[str, Any]:
        """What Dagster shows of the object."""
        return {
            "path": dg.MetadataValue.path(self.path),
            "key": dg.MetadataValue.text(self.key),
            "size_bytes": dg.MetadataValue.int(self.size_bytes),
            "sha256": dg.MetadataValue.text(self.sha256),
            "content_type": dg.MetadataValue.text(self.content_type),
            "version": dg.MetadataValue.text(self.version),
        }


def object_key(asset_key: dg.AssetKey, partition: str | None, version: str, suffix: str) -> str:
    """Return `{asset key}/{partition}/{version}{suffix}`; what would be a separator, `.` or `..` is percent-encoded.

    Args:
        asset_key: The asset.
        partition: Its partition; None, or empty, for an asset without partitions.
        version: Version of the content, of letters, digits, `.`, `_` and `-`.
        suffix: How the name ends.
    """
    parts = [*asset_key.path, *([partition] if partition else [])]
    quoted = [quote(part, safe=_KEPT_IN_KEYS) for part in parts]
    folder = "/".join(part.replace(".", "%2E") if part in {".", ".."} else part for part in quoted)
    return f"{folder}/{version}{suffix}"


def content_type_of(name: str) -> str:
    """Return the media type that a name says; of a compressed file, that of the compression."""
    guessed, encoding = mimetypes.guess_type(name)
    return f"application/{encoding}" if encoding else guessed or "application/octet-stream"


def suffix_of(file: ObjectFile) -> str:
    """Return how the object's name ends: as stated, or as the local file's, as far as its suffixes are short."""
    if file.suffix is not None:
        return file.suffix
    suffixes = file.source.suffixes if isinstance(file.source, Path) else []
    lengths = accumulate(len(suffix) for suffix in reversed(suffixes))
    kept = sum(length <= _LONGEST_SUFFIX for length in lengths)
    return "".join(suffixes[len(suffixes) - kept :])


@contextmanager
def as_local_file(source: Source) -> Iterator[tuple[Path, Digest]]:
    """Give the bytes of a source as a local file with its digest; a stream's file is gone at the end of the block.

    Raises:
        PermanentFailure: the file cannot be read, or whoever makes the stream failed.
        TransientFailure: the connection that the stream comes from did, or the disk.
    """
    if isinstance(source, Path):
        with _reading(f"the file {source}"):
            digest = digest_of(source)
        yield source, digest
        return
    with tempfile.NamedTemporaryFile(prefix="ol-object-") as spool:
        with _reading("the stream"):
            digest = Digest.of(copied(source, spool.file))
            spool.flush()
        yield Path(spool.name), digest


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Translate errors of a source: they are none of the store's."""
    try:
        yield
    except OlError:
        raise
    except Exception as error:
        reason = f"cannot store {what}: reading it ended with {type(error).__name__}: {error}"
        if isinstance(error, OSError) and not isinstance(error, _NO_READABLE_FILE):
            raise TransientFailure(f"{reason}; nothing of it is visible") from error
        raise PermanentFailure(f"{reason}; hand over a local file that can be read, or a stream of bytes") from error


def digest_of(file: Path) -> Digest:
    """Read a local file in constant memory."""
    with file.open("rb") as reader:
        return Digest.of(chunks_of(reader))


def chunks_of(source: BinaryIO | Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a stream in chunks of 1 MiB, or the chunks themselves."""
    if not hasattr(source, "read"):
        yield from source
        return
    reader = cast("BinaryIO", source)
    while chunk := reader.read(CHUNK_BYTES):
        yield chunk


def copied(source: BinaryIO | Iterable[bytes], target: IO[bytes]) -> Iterator[bytes]:
    """Write a stream into a file; yield what was written."""
    for chunk in chunks_of(source):
        target.write(chunk)
        yield chunk
