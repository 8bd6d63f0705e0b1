"""Rows of real databases in raw tables, as the documentation shows it."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import ol_core.databases
import pyarrow as pa
import pytest
from ol_core.databases import PostgresResource
from ol_core.failures import TransientFailure, UpstreamMissing
from ol_core.secrets import LocalSecrets
from ol_core.tables import RawTableIOManager
from ol_devkit.servers.postgres import PostgresServer
from served_database import ServedDatabase, sessions_end


@pytest.fixture
def tables(tmp_path: Path) -> RawTableIOManager:
    root = tmp_path / "tables"
    return RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)


def test_the_example_of_the_documentation_fills_a_raw_table(
    postgres_server: PostgresServer, tables: RawTableIOManager, tmp_path: Path
) -> None:
    database = postgres_server.create_database()
    postgres_server.execute(
        "CREATE TABLE grades (learner uuid, points numeric(5, 2), answers jsonb, tags text[], modified timestamptz);"
        "INSERT INTO grades SELECT gen_random_uuid(), n, '{\"a\": 1}', ARRAY['x', NULL], '2024-02-01 12:00+02'"
        "  FROM generate_series(1, 250) AS n;"
        "INSERT INTO grades (modified) VALUES ('2023-12-31 23:59+00')",
        database=database.name,
    )
    file = tmp_path / "secrets.toml"
    file.write_text(f'[campus]\nuser = "{database.user}"\npassword = "{database.password}"\n')
    file.chmod(0o600)
    campus = PostgresResource(
        host="localhost",
        port=database.port,
        database=database.name,
        user="campus#user",
        password="campus#password",
        ca_file=str(postgres_server.ca_file),
        secrets=LocalSecrets(file=str(file)),
    )
    example = textwrap.dedent(str(ol_core.databases.__doc__).partition(":\n\n")[2].partition("\n\nWhich")[0])
    names: dict[str, Any] = {}
    exec(example, names)
    asset: dg.AssetsDefinition = names["raw__campus__app__grades"]

    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"campus": campus, "raw_table_io_manager": tables}
        result = dg.materialize([asset], instance=instance, resources=resources)
        (event,) = result.asset_materializations_for_node("ol_warehouse_raw_data__raw__campus__app__grades")
        again = dg.materialize([asset], instance=instance, resources=resources)
        (unchanged,) = again.asset_materializations_for_node("ol_warehouse_raw_data__raw__campus__app__grades")

    held = tables.read("raw__campus__app__grades")
    assert event.metadata["dagster/row_count"].value == held.num_rows == 250
    assert unchanged.metadata["unchanged"].value is True
    assert {field.name: str(field.type) for field in held.schema} == {
        "learner": "large_string",
        "points": "decimal128(5, 2)",
        "answers": "large_string",
        "tags": "large_list<element: large_string>",
        "modified": "timestamp[us, tz=UTC]",
    }
    assert str(held["modified"][0]) == "2024-02-01 10:00:00+00:00"
    assert sessions_end(postgres_server, database.name)


def test_a_stream_that_breaks_leaves_no_table_behind(served: ServedDatabase, tables: RawTableIOManager) -> None:
    resource = served.resource(secrets=served.reader(may_read=True))

    def broken(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        yield next(reader)
        served.server.execute(served.kill.format(user=f"reader_{served.name}"))
        yield from reader

    reader = resource.stream(served.numbers(2_000_000), batch_rows=1_000)
    with pytest.raises(TransientFailure, match=f"as reader_{served.name}"):
        tables.replace("numbers", pa.RecordBatchReader.from_batches(reader.schema, broken(reader)))
    with pytest.raises(UpstreamMissing):
        tables.read("numbers")
