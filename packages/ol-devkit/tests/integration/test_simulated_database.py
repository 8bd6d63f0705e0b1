"""A simulation on PostgreSQL writes into no database that is anybody's."""

from pathlib import Path

import pytest
from ol_core.failures import PermanentFailure
from ol_devkit.servers.postgres import PostgresServer
from ol_devkit.simulator import postgres


def test_a_database_that_has_tables_is_refused(postgres_server: PostgresServer, tmp_path: Path) -> None:
    url = f"{postgres_server.create_database().url}?sslmode=disable"
    with postgres(tmp_path, url) as storage:
        assert storage.size() > 0
        assert not storage.instance.all_asset_keys()
    with (
        pytest.raises(PermanentFailure, match="tables, and a simulation would write into them"),
        postgres(tmp_path, url),
    ):
        pass
