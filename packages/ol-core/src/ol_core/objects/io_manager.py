"""The IO managers: files that assets hand over become objects, objects become files that assets read."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, BinaryIO, Union, get_args, get_origin

import dagster as dg
from pydantic import Field, PrivateAttr

from ol_core.environment import Environment
from ol_core.failures import OlError, PermanentFailure, Quarantined, UpstreamMissing
from ol_core.objects.files import (
    Digest,
    FileObject,
    ObjectFile,
    Source,
    as_local_file,
    content_type_of,
    digest_of,
    object_key,
    suffix_of,
)
from ol_core.objects.s3 import S3, S3Store, s3_resource
from ol_core.objects.stores import FsspecStore, LocalStore, Store
from ol_core.orchestration.desired_state import (
    DATA_VERSION_TAG,
    WANTED_VERSION_TAG,
    as_version,
    latest_by_partition,
    recorded,
)

if TYPE_CHECKING:
    from upath import UPath

_CHANGED = "it was changed after it was stored; restore it, or remove it and materialize the asset again"


class _FileObjects(dg.ConfigurableIOManager):
    """What both IO managers do; they differ in where their root is and how it is reached."""

    writable: bool = Field(description="Whether this environment may write here.")

    _folder: "tempfile.TemporaryDirectory[str] | None" = PrivateAttr(default=None)

    @property
    def root(self) -> str:
        """Address of the root of all objects."""
        raise NotImplementedError

    def _s3(self) -> S3:
        """Return how S3 is reached."""
        return S3()

    def _store(self, address: str) -> Store:
        """Return the store that holds an address, which may lie elsewhere than new objects."""
        protocol, separator, _ = address.partition("://")
        if not separator or protocol in ("file", "local"):
            return LocalStore()
        return S3Store(self._s3()) if protocol == "s3" else FsspecStore()

    def put(self, source: Source, *, key: str, version: str, content_type: str | None = None) -> FileObject:
        """Store a file, atomically, unless the key exists already; equal versions may have other bytes.

        Args:
            source: A local file, which stays as it is, or a stream, which goes through a temporary file.
            key: Where below the root, such as `object_key` gives.
            version: Version of the content.
            content_type: Media type; by default what the key says.

        Returns:
            The object under the key: this file, or the one that was there.

        Raises:
            PermanentFailure: the environment does not declare this store writable, or the store refuses.
            TransientFailure: the store failed; nothing is visible under the key.
        """
        return self._put(as_local_file(source), key=key, version=version, content_type=content_type)

    def _put(
        self,
        local: AbstractContextManager[tuple[Path, Digest]],
        *,
        key: str,
        version: str,
        content_type: str | None,
    ) -> FileObject:
        address = self._writable_address(key)
        content_type = content_type or content_type_of(key)
        store = self._store(address)
        with store.translated(f"cannot store {address}"):
            digest = store.find(address)
            if digest is None:
                with local as (file, sent):
                    digest = store.add(address, file, sent, content_type)
        return FileObject(address, key, digest.size_bytes, digest.sha256, version, content_type)

    def put_by_checksum(
        self,
        source: Source,
        *,
        asset_key: dg.AssetKey,
        partition: str | None,
        suffix: str | None = None,
        content_type: str | None = None,
    ) -> FileObject:
        """Store a file under its checksum; see `put`.

        Raises:
            PermanentFailure: the object under the checksum is another file.
            OlError: as `put`.
        """
        self._writable_address(asset_key.to_user_string())
        with as_local_file(source) as (file, digest):
            version = as_version(digest.sha256)
            name = suffix_of(ObjectFile(source, suffix=suffix))
            key = object_key(asset_key, partition, version, name)
            stored = self._put(nullcontext((file, digest)), key=key, version=version, content_type=content_type)
        if stored.digest != digest:
            raise PermanentFailure(f"{stored.path} is {stored.digest}, not the {digest} of its name; {_CHANGED}")
        return stored

    def put_file(self, file: ObjectFile, *, asset_key: dg.AssetKey, partition: str | None) -> FileObject:
        """Store what an asset hands over, under its version or else its checksum; see `put`."""
        kind = {"suffix": suffix_of(file), "content_type": file.content_type}
        if not file.version:
            return self.put_by_checksum(file.source, asset_key=asset_key, partition=partition, **kind)
        version = as_version(file.version)
        key = object_key(asset_key, partition, version, suffix_of(file))
        return self.put(file.source, key=key, version=version, content_type=file.content_type)

    def put_each(
        self,
        asset_key: dg.AssetKey,
        files: Iterable[tuple[str, ObjectFile | Source | OlError]],
        wanted: Mapping[str, str],
    ) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
        """Store a stream of (partition, file), for an asset whose runs have many partitions to yield from.

        Each file is stored, and its partition recorded, before the next one is asked for.

        Args:
            asset_key: The asset.
            files: Each partition's file, or what went wrong in making it.
            wanted: Version that each partition of the run is tried for; empty where nobody wanted a certain one.

        Yields:
            A materialization for each partition that is done, an observation for each that failed.

        Raises:
            dagster.Failure: at the end, where any partition failed; it lists them all.
        """

        def stored(partition: str, handed_over: ObjectFile | Source | OlError) -> dg.AssetMaterialization | OlError:
            if isinstance(handed_over, OlError):
                return handed_over
            tags = {WANTED_VERSION_TAG: wanted[partition]} if wanted.get(partition) else {}
            try:
                file = ObjectFile.of(handed_over, asset_key.to_user_string())
                made = self.put_file(file, asset_key=asset_key, partition=partition)
                return _event(asset_key, partition, made, tags=tags, metadata=file.metadata)
            except OlError as error:
                return error
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one file never costs the others theirs
                return PermanentFailure(f"cannot store the file of {partition}: {type(error).__name__}: {error}")

        outcomes = ((partition, stored(partition, file)) for partition, file in files)
        return recorded(asset_key, wanted, outcomes, lambda _, event: [event])

    def quarantine(self, source: Path, *, asset_key: dg.AssetKey, partition: str, error: OlError) -> Quarantined:
        """Keep a file that cannot be used; return the failure that says why and where it is."""
        kept = self.put_by_checksum(source, asset_key=asset_key.with_prefix("quarantine"), partition=partition)
        return Quarantined(f"{error}; the file is kept at {kept.path}")

    @contextmanager
    def open(self, path: str, *, sha256: str | None = None) -> Iterator[BinaryIO]:
        """Open an object for reading; from a remote store it is fetched first, whole, into a temporary file.

        Args:
            path: Address of the object.
            sha256: What its checksum must be; None where nobody knows.

        Raises:
            UpstreamMissing: there is no such object.
            PermanentFailure: its checksum is another.
            TransientFailure: the store failed.
        """
        with tempfile.TemporaryDirectory(prefix="ol-object-") as folder:
            file = self.fetch(path, Path(folder, "object"), sha256=sha256)
            with file.open("rb") as stream:
                yield stream

    def fetch(self, path: str, destination: Path, *, sha256: str | None = None) -> Path:
        """Give an object as a local file: itself where it is one, which must not be changed, else `destination`.

        Raises:
            OlError: as `open`.
        """
        store = self._store(path)
        with store.translated(f"cannot read {path}"):
            file = store.fetch(path, destination)
            if sha256 is not None and (found := digest_of(file).sha256) != sha256:
                raise PermanentFailure(f"{path} has the checksum {found}, not {sha256} as recorded; {_CHANGED}")
        return file

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ANN401 - it is looked at
        """Store what an asset returned: a local file, a stream, or an `ObjectFile` that says more of it.

        Unless the asset stated a data version itself, that of the materialization is the object's version.

        Raises:
            PermanentFailure: the run has many partitions; its asset yields from `put_each`.
            OlError: as `put`.
        """
        name = context.asset_key.to_user_string()
        file = ObjectFile.of(obj, name)
        partitions: list[str | None] = [*context.asset_partition_keys] if context.has_asset_partitions else [None]
        if len(partitions) != 1:
            raise PermanentFailure(
                f"{name} returned one file for {len(partitions)} partitions; in a run over many, "
                "`yield from io_manager.put_each(...)` from a multi_asset"
            )
        stored = self.put_file(file, asset_key=context.asset_key, partition=partitions[0])
        context.add_output_metadata({**file.metadata, **stored.metadata})
        try:
            asset = dg.AssetExecutionContext.get()
        except dg.DagsterInvariantViolationError:  # the context was built by hand: nothing is materialized
            return
        asset.set_data_version(context.asset_key, dg.DataVersion(stored.version))

    def load_input(self, context: dg.InputContext) -> Any:  # noqa: ANN401 - what the annotation says
        """Give objects as the input's annotation says: `UPath`, `Path` (a local file) or `bytes`.

        An input of many partitions, or annotated as one, is a dictionary from partition to one of them; one that maps
        to no partition is None, or an empty dictionary. Files and bytes are checked against the recorded checksum;
        files are gone, or must be left as they are, when the run ends.

        Raises:
            UpstreamMissing: a partition was never materialized, or reported without an object, or its object is gone.
            OlError: as `open`.
        """
        latest = latest_by_partition(context.instance, context.asset_key)
        name = context.asset_key.to_user_string()
        wanted = list(context.asset_partition_keys) if context.has_asset_partitions else [""]
        missing = [one for one in wanted if one not in latest or not latest[one].metadata.keys() >= {"path", "sha256"}]
        if missing:
            of = f" for {', '.join(missing[:5])}" if missing != [""] else ""
            raise UpstreamMissing(f"{name} has no object{of} ({len(missing)} missing); materialize it first")
        annotation = _required(context.dagster_type.typing_type)
        many = (get_origin(annotation) or annotation) in (dict, Mapping)
        kind = (get_args(annotation) or (None, None))[1] if many else annotation
        loaded = {partition: self._loaded(name, latest[partition], kind) for partition in wanted}
        if many or len(wanted) > 1:
            return loaded
        return loaded[wanted[0]] if wanted else None

    def _loaded(self, name: str, event: dg.AssetMaterialization, kind: object) -> "UPath | Path | bytes":
        path = str(event.metadata["path"].value)
        sha256 = str(event.metadata["sha256"].value)
        store = self._store(path)
        try:
            if kind is bytes:
                with self.open(path, sha256=sha256) as stream:
                    return stream.read()
            if kind is Path:
                return self.fetch(path, self._scratch(sha256) / Path(path).name, sha256=sha256)
            with store.translated(f"cannot read {path}"):
                if store.find(path) is None:
                    raise FileNotFoundError(path)
                return store.upath(path)
        except UpstreamMissing as error:
            raise UpstreamMissing(f"{name}: {error}") from error

    def _scratch(self, name: str) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ol-objects-")
        folder = Path(self._folder.name, name)
        folder.mkdir(exist_ok=True)
        return folder

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Remove the files that inputs were given as."""
        del context
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _writable_address(self, key: str) -> str:
        if not self.writable:
            raise PermanentFailure(
                f"the environment does not declare {self.root} writable; refused to write {key}; where it may be "
                "written, set writable = true under [objects] in environment.toml"
            )
        if key.startswith("/") or {"", ".", ".."} & set(key.split("/")):
            raise PermanentFailure(f"{key!r} is not a key below {self.root}: it has an empty part, `.` or `..`")
        return f"{self.root.rstrip('/')}/{key}"


class FileObjectIOManager(_FileObjects):
    """Keeps files in a folder or behind any fsspec URL (`s3://`, `gs://`)."""

    url: str = Field(description="A folder, or an fsspec URL such as gs://bucket/prefix.")

    @property
    def root(self) -> str:
        """See `url`."""
        return self.url


class S3FileObjectIOManager(_FileObjects):
    """Keeps files in S3, with boto3."""

    bucket: str = Field(description="Name of the bucket.")
    prefix: str = Field(default="", description="Key prefix; empty for none.")
    s3: dg.ResourceDependency[S3]

    @property
    def root(self) -> str:
        """`s3://{bucket}/{prefix}`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def _s3(self) -> S3:
        return self.s3


def _required(annotation: object) -> object:
    """Return an annotation without `| None`."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return next(one for one in get_args(annotation) if one is not NoneType)


def object_store(environment: Environment) -> FileObjectIOManager | S3FileObjectIOManager:
    """Build the IO manager of an environment's object store."""
    store = environment.objects
    if store.kind == "s3":
        return S3FileObjectIOManager(
            bucket=store.bucket, prefix=store.prefix, s3=s3_resource(environment), writable=store.writable
        )
    return FileObjectIOManager(url=store.url, writable=store.writable)


def materialization(
    asset_key: dg.AssetKey,
    partition: str,
    stored: FileObject,
    *,
    tags: Mapping[str, str],
    **metadata: str | float | None,
) -> dg.AssetMaterialization:
    """Return the event that records an object for one partition; other metadata never replaces what says where."""
    return _event(asset_key, partition, stored, tags=tags, metadata=metadata)


def _event(
    asset_key: dg.AssetKey,
    partition: str,
    stored: FileObject,
    *,
    tags: Mapping[str, str],
    metadata: Mapping[str, str | float | None],
) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        asset_key=asset_key,
        partition=partition,
        metadata={**metadata, **stored.metadata},
        tags={DATA_VERSION_TAG: stored.version, **tags},
    )
