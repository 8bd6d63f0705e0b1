"""Where objects are kept. Each store adds a whole object or nothing, and never replaces one."""

import errno
import hashlib
import os
import re
import tempfile
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.objects.files import Digest, chunks_of, copied, digest_of

if TYPE_CHECKING:
    from upath import UPath

_PARTIAL = re.compile(r"\.partial-(\d+)-")
_OPTIONS = {"gs": {"consistency": "md5"}, "gcs": {"consistency": "md5"}}
"""Options with which fsspec's file systems read: GCS's compares what it received with the checksum that GCS states."""


class Store(ABC):
    """A place for objects, by address: a path or an fsspec URL."""

    @abstractmethod
    def find(self, address: str) -> Digest | None:
        """Return length and checksum of an object; None where there is none."""

    @abstractmethod
    def add(self, address: str, file: Path, digest: Digest, content_type: str) -> Digest:
        """Add an object unless there is one; return the digest of what is there then."""

    @abstractmethod
    def fetch(self, address: str, file: Path) -> Path:
        """Return an object as a local file: itself where it is one, else copied into `file`."""

    @abstractmethod
    def upath(self, address: str) -> "UPath":
        """Return an object as a `UPath`."""

    @abstractmethod
    def failure(self, error: Exception, what: str) -> OlError:
        """Say what an error of this store means."""

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Translate the store's errors: the one boundary for all of them."""
        try:
            yield
        except OlError:
            raise
        except Exception as error:
            raise self.failure(error, what) from error


class LocalStore(Store):
    """Objects in a folder, by a path or a `file://` URL."""

    def find(self, address: str) -> Digest | None:
        """See `Store.find`."""
        file = _path(address)
        return digest_of(file) if file.is_file() else None

    def add(self, address: str, file: Path, digest: Digest, content_type: str) -> Digest:
        """Copy into a file beside the target, then give it its name, which fails where the name is taken."""
        del content_type
        target = _path(address)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".partial-{os.getpid()}-")
        try:
            with file.open("rb") as reader, os.fdopen(handle, "wb") as writer:
                stored = Digest.of(copied(reader, writer))
                writer.flush()
                os.fsync(writer.fileno())
            if stored != digest:
                raise TransientFailure(f"{file} changed while it was stored as {address}; nothing was stored")
            try:
                os.link(name, target)
            except FileExistsError:  # another process was first: the version is the same
                return digest_of(target)
        finally:
            Path(name).unlink(missing_ok=True)
        return digest

    def fetch(self, address: str, file: Path) -> Path:
        """Return the object itself, which must not be changed."""
        del file
        if not _path(address).is_file():
            raise FileNotFoundError(address)
        return _path(address)

    def upath(self, address: str) -> "UPath":
        """See `Store.upath`."""
        from upath import UPath

        return UPath(_path(address))

    def failure(self, error: Exception, what: str) -> OlError:
        """See `Store.failure`."""
        return _os_failure(error, what)


class FsspecStore(Store):
    """Objects behind any other fsspec URL, such as `gs://`.

    The file system must show an object when it is whole, and refuse `put_file(mode="create")` where there is one.
    """

    def find(self, address: str) -> Digest | None:
        """See `Store.find`; reads the object."""
        path = self.upath(address)
        if not path.exists():
            return None
        with path.open("rb") as reader:
            return Digest.of(chunks_of(reader))

    def add(self, address: str, file: Path, digest: Digest, content_type: str) -> Digest:
        """See `Store.add`; what is there is compared by the MD5 that the server states, or else read back."""
        from upath import UPath

        del content_type
        path = UPath(address)  # without options: gcsfs would leave behind what it finds to be wrong
        try:
            path.fs.put_file(str(file), path.path, mode="create")
        except FileExistsError:  # another process was first: the version is the same
            return self.find(address) or digest
        stated = path.fs.info(path.path).get("md5Hash")
        intact = stated == _md5(file) and digest_of(file) == digest if stated else self.find(address) == digest
        if not intact:
            path.fs.rm_file(path.path)
            raise TransientFailure(f"{address} was not the {digest} of {file}; the object was removed")
        return digest

    def fetch(self, address: str, file: Path) -> Path:
        """See `Store.fetch`."""
        path = self.upath(address)
        path.fs.get_file(path.path, str(file))
        return file

    def upath(self, address: str) -> "UPath":
        """See `Store.upath`."""
        from upath import UPath

        return UPath(address, **_OPTIONS.get(address.partition(":")[0], {}))

    def failure(self, error: Exception, what: str) -> OlError:
        """See `Store.failure`."""
        return _os_failure(error, what)


def _path(address: str) -> Path:
    return Path(address.removeprefix("file://").removeprefix("local://"))


def _md5(file: Path) -> str:
    """Return the MD5 of a file in base64, as GCS states it."""
    with file.open("rb") as reader:
        return b64encode(hashlib.file_digest(reader, partial(hashlib.md5, usedforsecurity=False)).digest()).decode()


def _os_failure(error: Exception, what: str) -> OlError:
    match error:
        case FileNotFoundError():
            return UpstreamMissing(f"{what}: it does not exist; materialize the asset that makes it again")
        case PermissionError() | IsADirectoryError() | NotADirectoryError():
            return PermanentFailure(f"{what}: {error}; check the permissions of this process")
        case OSError(errno=errno.ENAMETOOLONG):
            return PermanentFailure(
                f"{what}: a part of it is too long for this file system; shorten the partition's name"
            )
        case ValueError() | ImportError():
            return PermanentFailure(
                f"{what}: {error}; check the address, and that the package of its file system is installed"
            )
        case _:
            return TransientFailure(f"{what}: {str(error) or type(error).__name__}; nothing of it is visible")


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left half written."""
    for file in folder.glob(".partial-*"):
        match = _PARTIAL.match(file.name)
        if match and not Path(f"/proc/{match[1]}").exists() and Path("/proc").exists():
            file.unlink(missing_ok=True)
