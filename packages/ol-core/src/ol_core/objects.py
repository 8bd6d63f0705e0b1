"""File objects: immutable, checksummed files under keys that say what they are.

A key is `{asset key}/{partition}/{version}{suffix}`. An object is written once: a second write of the same key is a
no-op, because the version is that of the content.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

import dagster as dg
from pydantic import Field

from ol_core.desired_state import DATA_VERSION_TAG, as_version, latest_by_partition
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing

if TYPE_CHECKING:
    from upath import UPath

_CHUNK_BYTES = 1 << 20
_KEPT_IN_KEYS = ":+@!$&'(),;=~-._ "  # everything but separators and what object stores trip over


@dataclass(frozen=True, slots=True)
class FileObject:
    """An object that exists.

    Attributes:
        path: Its full address: a path or an fsspec URL.
        key: Its address below the store's root.
        size_bytes: Length.
        sha256: Checksum of the bytes, hexadecimal.
        version: Version of the content; differs from the checksum where equal content may have other bytes.
    """

    path: str
    key: str
    size_bytes: int
    sha256: str
    version: str

    @property
    def metadata(self) -> dict[str, Any]:
        """What Dagster shows of the object."""
        return {
            "path": dg.MetadataValue.path(self.path),
            "key": dg.MetadataValue.text(self.key),
            "size_bytes": dg.MetadataValue.int(self.size_bytes),
            "sha256": dg.MetadataValue.text(self.sha256),
        }


def object_key(asset_key: dg.AssetKey, partition: str, version: str, suffix: str) -> str:
    """Return `{asset key}/{partition}/{version}{suffix}`; what would be a separator is percent-encoded."""
    parts = [*asset_key.path, partition]
    folder = "/".join(quote(part, safe=_KEPT_IN_KEYS) for part in parts)
    return f"{folder}/{version}{suffix}"


class FileObjectIOManager(dg.ConfigurableIOManager):
    """Keeps files in a folder or behind any fsspec URL (`s3://`, `gs://`).

    An asset of one partition may return a `Path`: the file is stored under its checksum. An asset that works through
    many partitions calls `put` for each and yields what `materialization` makes of it, so that one bad partition never
    costs the others theirs.
    """

    url: str = Field(description="A folder, or an fsspec URL such as s3://bucket/prefix.")
    writable: bool = Field(description="Whether this environment may write here.")

    def put(self, source: Path, *, key: str, version: str) -> FileObject:
        """Store a local file, atomically, unless the key exists already; equal versions may have other bytes.

        Returns:
            The object under the key: this file, or the one that was there.

        Raises:
            PermanentFailure: the environment does not declare this store writable.
            TransientFailure: the store failed; nothing is visible under the key.
        """
        if not self.writable:
            raise PermanentFailure(f"the environment does not declare {self.url} writable; refused to write {key}")
        target = self._root / key
        try:
            held = target if target.exists() else source
            size_bytes, sha256 = _checksum(held)
            if held is source:
                self._write(source, target, size_bytes)
        except OSError as error:
            raise TransientFailure(f"cannot store {target}: {error}") from error
        return FileObject(path=str(target), key=key, size_bytes=size_bytes, sha256=sha256, version=version)

    def put_by_checksum(self, source: Path, *, asset_key: dg.AssetKey, partition: str) -> FileObject:
        """Store a local file under its checksum; see `put`."""
        version = as_version(_checksum(source)[1])
        key = object_key(asset_key, partition, version, "".join(source.suffixes))
        return self.put(source, key=key, version=version)

    def quarantine(self, source: Path, *, asset_key: dg.AssetKey, partition: str, error: OlError) -> PermanentFailure:
        """Keep a file that cannot be used; return the failure that says why and where it is."""
        kept = self.put_by_checksum(source, asset_key=asset_key.with_prefix("quarantine"), partition=partition)
        return PermanentFailure(f"{error}; the file is kept at {kept.path}")

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open an object for reading, as a stream.

        Raises:
            UpstreamMissing: there is no such object.
        """
        from upath import UPath

        try:
            stream = UPath(path).open("rb")
        except FileNotFoundError as error:
            raise UpstreamMissing(f"there is no object {path}; materialize the asset that makes it again") from error
        with stream:
            yield stream

    def paths(self, instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Mapping[str, str]:
        """Return the path of the newest object of each partition of an asset, as Dagster recorded it."""
        latest = latest_by_partition(instance, asset_key)
        return {partition: str(event.metadata["path"].value) for partition, event in latest.items()}

    def handle_output(self, context: dg.OutputContext, obj: Path) -> None:
        """Store the file that an asset returned; its version is its checksum."""
        stored = self.put_by_checksum(obj, asset_key=context.asset_key, partition=context.partition_key)
        context.add_output_metadata(stored.metadata)

    def load_input(self, context: dg.InputContext) -> "UPath":
        """Give the object of the input's partition as a `UPath`.

        Raises:
            UpstreamMissing: the partition was never materialized.
        """
        from upath import UPath

        path = self.paths(context.instance, context.asset_key).get(context.partition_key)
        if path is None:
            name = context.asset_key.to_user_string()
            raise UpstreamMissing(f"{name} has no object for {context.partition_key}; materialize it first")
        return UPath(path)

    @property
    def _root(self) -> "UPath":
        from upath import UPath

        return UPath(self.url)

    def _write(self, source: Path, target: "UPath", size_bytes: int) -> None:
        if target.protocol in ("", "file", "local"):
            _write_local(source, Path(target.path))
            return
        with source.open("rb") as reader, target.open("wb") as writer:  # object stores show an object when it is whole
            shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
        if target.stat().st_size != size_bytes:
            raise TransientFailure(f"{target} has another length than the {size_bytes} bytes that were sent")


def materialization(
    asset_key: dg.AssetKey,
    partition: str,
    stored: FileObject,
    *,
    tags: Mapping[str, str],
    **metadata: str | float | None,
) -> dg.AssetMaterialization:
    """Return the event that records an object for one partition."""
    return dg.AssetMaterialization(
        asset_key=asset_key,
        partition=partition,
        metadata={**stored.metadata, **metadata},
        tags={DATA_VERSION_TAG: stored.version, **tags},
    )


def _checksum(file: "Path | UPath") -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    with file.open("rb") as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return size_bytes, digest.hexdigest()


def _write_local(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
    try:
        with source.open("rb") as reader, os.fdopen(handle, "wb") as writer:
            shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
            writer.flush()
            os.fsync(writer.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
