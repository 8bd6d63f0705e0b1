"""S3 with boto3: multipart transfers of constant memory, a checksum for each part, no object ever replaced."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ol_core.environment import Environment
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.objects.files import Digest, chunks_of
from ol_core.objects.stores import Store

if TYPE_CHECKING:
    from upath import UPath

PART_BYTES = 16 << 20
"""Size of a part, up to 156 GiB a file; S3 admits 10,000 parts."""

_THREADS = 4
"""Of each transfer; the address space of more does not fit beside an interpreter in a small worker."""

_SHA256 = "sha256"
_MISSING = {"404", "NoSuchKey", "NotFound"}
_ABSENT_BUCKET = "NoSuchBucket"
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


class S3(dg.ConfigurableResource[Any]):
    """boto3 clients of the environment's S3; credentials are found by the AWS SDK's own chain when first used."""

    region: str = Field(default="", description="Region; empty for that of the AWS SDK's own configuration.")
    endpoint_url: str = Field(default="", description="Address of a server other than AWS's; empty for AWS.")

    def client(self) -> Any:  # noqa: ANN401 - boto3 has no types
        """Return a client; its PutObject and CompleteMultipartUpload never replace an object."""
        return _client(self.region, self.endpoint_url)


def s3_resource(environment: Environment) -> S3:
    """Build the `s3` resource of an environment; without an S3 store, that of the AWS SDK's own configuration."""
    store = environment.objects
    return S3(region=store.region, endpoint_url=store.endpoint_url) if store.kind == "s3" else S3()


@lru_cache(maxsize=8)
def _client(region: str, endpoint_url: str) -> Any:  # noqa: ANN401 - boto3 has no types
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "max_attempts": 4},
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        max_pool_connections=2 * _THREADS,
    )
    client = boto3.client("s3", region_name=region or None, endpoint_url=endpoint_url or None, config=config)
    for operation in ("PutObject", "CompleteMultipartUpload"):  # boto3's transfers have no argument for it
        client.meta.events.register(f"provide-client-params.s3.{operation}", _only_if_absent)
    return client


def _only_if_absent(params: dict[str, Any], **_: object) -> None:
    params["IfNoneMatch"] = "*"


class S3Store(Store):
    """Objects in S3, by `s3://bucket/key`. Each carries its SHA-256 in its metadata."""

    def __init__(self, s3: S3) -> None:
        self._s3 = s3

    def find(self, address: str) -> Digest | None:
        """See `Store.find`; reads the object only where it was not written here."""
        import botocore.exceptions

        bucket, key = _place(address)
        try:
            head = self._s3.client().head_object(Bucket=bucket, Key=key)
        except botocore.exceptions.ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        sha256 = head["Metadata"].get(_SHA256)
        if sha256:
            return Digest(int(head["ContentLength"]), str(sha256))
        return Digest.of(chunks_of(self._s3.client().get_object(Bucket=bucket, Key=key)["Body"]))

    def add(self, address: str, file: Path, digest: Digest, content_type: str) -> Digest:
        """See `Store.add`; S3 checks a checksum of each part, the length is compared at the end."""
        bucket, key = _place(address)
        before = file.stat()
        extra = {"Metadata": {_SHA256: digest.sha256}, "ContentType": content_type}
        try:
            self._s3.client().upload_file(str(file), bucket, key, ExtraArgs=extra, Config=_transfer())
        except Exception as error:
            there = self.find(address) if _code(error) in _TAKEN else None
            if there is None:
                raise
            return there  # another process was first, or the answer to this one was lost: the version is the same
        after = file.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            self._s3.client().delete_object(Bucket=bucket, Key=key)
            raise TransientFailure(f"{file} changed while it was stored as {address}; the object was removed")
        stored = self.find(address)
        if stored is None or (stored.sha256 == digest.sha256 and stored != digest):
            raise TransientFailure(f"{address} has {stored}, not the {digest} that was sent")
        return stored  # another process's where the server compares and writes in two steps: the version is the same

    def fetch(self, address: str, file: Path) -> Path:
        """See `Store.fetch`."""
        import botocore.exceptions

        client = self._s3.client()
        bucket, key = _place(address)
        try:
            client.download_file(bucket, key, str(file), Config=_transfer())
        except botocore.exceptions.ClientError as error:
            if _code(error) in _MISSING:  # to a HEAD, by which a download begins: only a GET's answer names a bucket
                client.get_object(Bucket=bucket, Key=key)
            raise
        return file

    def upath(self, address: str) -> "UPath":
        """See `Store.upath`; needs s3fs."""
        from upath import UPath

        options: dict[str, Any] = {"endpoint_url": self._s3.endpoint_url} if self._s3.endpoint_url else {}
        if self._s3.region:
            options["client_kwargs"] = {"region_name": self._s3.region}
        path: UPath = UPath(address, **options)
        return path

    def failure(self, error: Exception, what: str) -> OlError:
        """See `Store.failure`."""
        import botocore.exceptions

        code, reason = _code(error), f"{what}: {_reason(error)}"
        status = _status(error)
        if code in _MISSING:
            return UpstreamMissing(f"{what}: it does not exist; materialize the asset that makes it again")
        if isinstance(error, botocore.exceptions.NoCredentialsError | botocore.exceptions.PartialCredentialsError):
            return PermanentFailure(f"{reason}; give the process an AWS role, or AWS_* variables")
        if isinstance(
            error, botocore.exceptions.ParamValidationError | botocore.exceptions.ProfileNotFound | ValueError
        ):
            return PermanentFailure(f"{reason}; check bucket, endpoint_url and the AWS SDK's configuration")
        if code == _ABSENT_BUCKET or (status is not None and 400 <= status < 500 and status not in {408, 409, 429}):  # noqa: PLR2004
            return PermanentFailure(f"{reason}; check bucket, region and what the role of this process may do")
        return TransientFailure(f"{reason}; nothing of it is visible")


def _transfer() -> Any:  # noqa: ANN401 - boto3 has no types
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=2 * PART_BYTES,
        multipart_chunksize=PART_BYTES,
        max_concurrency=_THREADS,
        max_io_queue=2 * _THREADS,
    )


def _place(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def _cause(error: BaseException) -> BaseException:
    """Return the answer of S3 behind what boto3's transfers raise."""
    while "response" not in vars(error) and (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _code(error: BaseException) -> str:
    response = getattr(_cause(error), "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _status(error: BaseException) -> int | None:
    response = getattr(_cause(error), "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    code = _code(error)
    return f"S3 answers {code} ({_status(error)})" if code else f"{type(cause).__name__}: {cause}"
