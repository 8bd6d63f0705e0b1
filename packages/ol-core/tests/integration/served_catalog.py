"""Raw tables in a catalog that a server serves, and rows for them."""

from pathlib import Path

import pyarrow as pa
from ol_core.secrets import LocalSecrets
from ol_core.tables import RawTableIOManager
from ol_devkit.servers.seaweedfs import SeaweedFS

SCHEMA = pa.schema([pa.field("course_id", pa.string(), nullable=False), ("n", pa.int64()), ("writer", pa.string())])


def rest(server: SeaweedFS, url: str, folder: Path, *, s3_url: str = "") -> RawTableIOManager:
    """Raw tables behind a REST catalog, or behind proxies of it and of its store; the credential is in `folder`."""
    file = folder / "secrets.toml"
    file.write_text(f'[catalog]\ncredential = "{server.access_key}:{server.secret_key}"\n')
    file.chmod(0o600)
    return RawTableIOManager(
        kind="rest",
        uri=url,
        warehouse=server.warehouse,
        credential="catalog#credential",
        oauth2_server_uri=f"{url}/v1/oauth/tokens",
        s3_endpoint_url=s3_url or server.s3_url,
        region="us-east-1",
        writable=True,
        secrets=LocalSecrets(file=str(file)),
    )


def rows(course: str, *numbers: int, writer: str = "") -> pa.Table:
    """Rows of a course."""
    content = [{"course_id": course, "n": number, "writer": writer} for number in numbers]
    return pa.Table.from_pylist(content, schema=SCHEMA)


def held(tables: RawTableIOManager, name: str) -> dict[str, list[int]]:
    """The sorted numbers that a table holds of each course."""
    found: dict[str, list[int]] = {}
    for row in tables.read(name).to_pylist():
        found.setdefault(row["course_id"], []).append(row["n"])
    return {course: sorted(numbers) for course, numbers in found.items()}
