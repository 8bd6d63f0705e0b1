"""`PostgresResource` and `MySQLResource` against real servers: what they read, refuse and survive."""

import gc
import re
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ol_core.databases import DatabaseResource, MySQLResource, PostgresResource
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.secrets import LocalSecrets
from ol_devkit.servers.certificates import certificates
from ol_devkit.servers.mariadb import MariaDbServer, mariadb
from ol_devkit.servers.postgres import PostgresServer, postgres
from ol_devkit.servers.process import free_ports
from served_database import CANARY, ServedDatabase, mariadb_database, postgres_database, sessions_end


def told(error: BaseException) -> str:
    """All that is printed of an error, with what caused it."""
    return "".join(traceback.format_exception(error))


def idle(resource: DatabaseResource) -> int:
    """Connections of a resource that are in its pool."""
    return int(re.findall(r"in pool: (\d+)", resource.client._pool.status())[0])


def test_rows_come_in_batches(served: ServedDatabase) -> None:
    reader = served.resource().stream(served.numbers(2_500), batch_rows=1_000)

    assert reader.schema == pa.schema({"id": reader.schema.field("id").type, "text": pa.string()})
    batches = list(reader)
    assert [batch.num_rows for batch in batches] == [1_000, 1_000, 500]
    assert [row for batch in batches for row in batch["id"].to_pylist()] == list(range(1, 2_501))


def test_a_result_without_rows_has_its_schema(served: ServedDatabase) -> None:
    empty = served.resource().stream(f"SELECT * FROM ({served.numbers(1)}) AS all_of_it WHERE id < 0").read_all()

    assert empty.column_names == ["id", "text"]
    assert empty.num_rows == 0


def test_parameters_are_values_and_without_them_a_percent_sign_is_one(served: ServedDatabase) -> None:
    resource = served.resource()
    hostile = "'; DROP TABLE x; -- %s"

    assert resource.stream("SELECT %(a)s AS a, 5 %% 3 AS b", {"a": hostile}).read_all().to_pylist() == [
        {"a": hostile, "b": 2}
    ]
    assert resource.stream("SELECT %s AS a", [7]).read_all().num_rows == 1
    assert resource.stream("SELECT 'x' LIKE '%x%' AS a, 5 % 3 AS b").read_all()["b"].to_pylist() == [2]


@pytest.mark.parametrize("none", [None, {}, []])
def test_no_parameters_are_none(served: ServedDatabase, none: Any) -> None:
    rows = served.resource().stream("SELECT 'a%b' AS a, 'x%%' AS b", none).read_all()

    assert rows.to_pylist() == [{"a": "a%b", "b": "x%%"}]


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [("SELECT %(a)s", {"b": 1}), ("SELECT %(a)s, 'x%b'", {"a": 1}), ("SELECT %s, %s", [1]), ("SELECT %(a)s", [1])],
)
def test_parameters_that_do_not_fit_are_told(served: ServedDatabase, sql: str, parameters: Any) -> None:
    for run in (served.resource().stream, served.resource().execute):
        with pytest.raises(PermanentFailure) as caught:
            run(sql, parameters)
        assert "write %% for a percent sign" in str(caught.value) or "correct the statement" in str(caught.value)


def test_a_time_of_any_zone_is_the_same_time_to_the_server(served: ServedDatabase) -> None:
    noon = datetime(2024, 7, 1, 12, tzinfo=UTC)
    in_boston = noon.astimezone(timezone(timedelta(hours=-4)))
    kind = "timestamptz" if served.kind is PostgresResource else "timestamp NULL"
    served.execute(f"CREATE TABLE moves (at {kind})")
    served.resource(read_only=False).execute("INSERT INTO moves VALUES (%s)", [in_boston])

    query = "SELECT at FROM moves WHERE at >= %(since)s AND at < %(until)s"
    rows = served.resource().stream(query, {"since": in_boston, "until": in_boston + timedelta(seconds=1)}).read_all()
    assert rows["at"].to_pylist() == [noon]


def test_the_server_refuses_to_write_unless_it_may(served: ServedDatabase) -> None:
    writer = served.resource(read_only=False)
    writer.execute("CREATE TABLE grades (id INT)")
    assert writer.execute("INSERT INTO grades VALUES (1), (2)") == 2

    for statement in ("INSERT INTO grades VALUES (3)", "DROP TABLE grades", "CREATE TABLE others (id INT)"):
        with pytest.raises(PermanentFailure, match="set read_only=False where it may write"):
            served.resource().execute(statement)
    assert writer.execute("UPDATE grades SET id = id + 1 WHERE id > %(least)s", {"least": 1}) == 1
    assert served.execute("SELECT id FROM grades ORDER BY id").split() == ["1", "3"]


LIFTED = {
    PostgresResource: (
        "SET default_transaction_read_only = off",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "RESET ALL",
        "DISCARD ALL",
    ),
    MySQLResource: ("SET SESSION TRANSACTION READ WRITE", "SET TRANSACTION READ WRITE", "SET tx_read_only = 0"),
}


def test_a_statement_that_lifts_the_settings_does_so_for_itself_alone(served: ServedDatabase) -> None:
    served.execute("CREATE TABLE grades (id INT)")
    resource = served.resource(max_connections=1)

    for statement in LIFTED[served.kind]:
        with suppress(PermanentFailure):  # PostgreSQL discards nothing within a transaction
            resource.execute(statement)
        with pytest.raises(PermanentFailure, match="set read_only=False where it may write"):
            resource.execute("INSERT INTO grades VALUES (1)")
    assert served.execute("SELECT count(*) FROM grades") == "0"


def test_a_statement_that_fails_changes_nothing(served: ServedDatabase) -> None:
    writer = served.resource(read_only=False)
    writer.execute("CREATE TABLE grades (id INT PRIMARY KEY)")

    with pytest.raises(PermanentFailure, match=f"{served.name} at localhost"):
        writer.execute("INSERT INTO grades VALUES (1), (1)")
    assert served.execute("SELECT count(*) FROM grades") == "0"


def test_what_is_missing_is_named(served: ServedDatabase) -> None:
    served.execute("CREATE TABLE grades (id INT)")
    resource = served.resource()

    with pytest.raises(UpstreamMissing, match=f"{served.name} at localhost:.*nothing"):
        resource.stream("SELECT * FROM nothing")
    with pytest.raises(UpstreamMissing, match=r"points.*name"):
        resource.stream("SELECT points FROM grades")
    with pytest.raises(UpstreamMissing, match=r"nowhere.*name"):
        served.resource(database="nowhere").stream("SELECT 1")
    assert resource.stream("SELECT id FROM grades").read_all().num_rows == 0


def test_what_is_not_granted_is_named_with_who_lacks_it(served: ServedDatabase) -> None:
    served.execute("CREATE TABLE grades (id INT)")
    resource = served.resource(secrets=served.reader())

    with pytest.raises(PermanentFailure, match=rf"(?s)as reader_{served.name} .*grades.* to reader_{served.name}$"):
        resource.stream("SELECT * FROM grades")


def test_statements_that_no_stream_takes_are_refused(served: ServedDatabase) -> None:
    with pytest.raises(PermanentFailure):
        served.resource(read_only=False).stream("CREATE TABLE grades (id INT)")
    with pytest.raises(PermanentFailure, match="more than one column a; name them apart with AS"):
        served.resource().stream("SELECT 1 AS a, 2 AS a")
    with pytest.raises(ValueError, match="batch_rows is 0"):
        served.resource().stream("SELECT 1", batch_rows=0)


def test_a_wrong_password_is_permanent_and_not_told(served: ServedDatabase) -> None:
    resource = served.resource(secrets=served.secrets(password=CANARY))

    with pytest.raises(PermanentFailure, match="check secret db#password") as caught:
        resource.stream("SELECT 1")
    assert CANARY not in told(caught.value)
    assert CANARY not in repr(resource)


def test_a_secret_that_is_missing_is_named(served: ServedDatabase) -> None:
    with pytest.raises(UpstreamMissing, match="secret db#pass"):
        served.resource(password="db#pass").stream("SELECT 1")


def test_a_statement_that_takes_too_long_is_ended(served: ServedDatabase) -> None:
    sleep = "SELECT pg_sleep(30)" if served.kind is PostgresResource else "SELECT sleep(30) FROM seq_1_to_2"
    resource = served.resource(statement_timeout_seconds=1.5)
    began = time.monotonic()

    with pytest.raises(TransientFailure, match=r"longer than statement_timeout_seconds=1\.5"):
        resource.stream(sleep).read_all()
    assert time.monotonic() - began < 25
    assert resource.stream("SELECT 1 AS a").read_all().num_rows == 1


def test_a_connection_killed_in_the_middle_of_a_stream_is_transient(served: ServedDatabase) -> None:
    resource = served.resource(secrets=served.reader(may_read=True), max_connections=1, pool_timeout_seconds=20)
    reader = resource.stream(served.numbers(2_000_000), batch_rows=1_000)
    next(reader)
    served.server.execute(served.kill.format(user=f"reader_{served.name}"))

    with pytest.raises(TransientFailure, match=f"as reader_{served.name}"):
        for _ in reader:
            pass
    assert resource.stream("SELECT 1 AS a").read_all().num_rows == 1


def test_a_reader_may_take_its_time(mariadb_server: MariaDbServer, tmp_path: Path) -> None:
    """MariaDB gives up a client that reads nothing for a minute, and here for a second, unless it is told otherwise."""
    database = mariadb_database(mariadb_server, tmp_path)
    before = mariadb_server.execute("SELECT @@GLOBAL.net_write_timeout")
    mariadb_server.execute("SET GLOBAL net_write_timeout = 1")
    reader = database.resource().stream(database.numbers(500_000))
    next(reader)
    time.sleep(4)

    assert reader.read_all().num_rows == 490_000
    mariadb_server.execute(f"SET GLOBAL net_write_timeout = {before}")
    database.close()


def test_a_reader_that_the_server_loses_patience_with_is_told_so(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    database = postgres_database(postgres_server, tmp_path)
    database.execute(f"ALTER DATABASE {database.name} SET idle_in_transaction_session_timeout = 2000")
    reader = database.resource().stream(database.numbers(1_000), batch_rows=10)
    next(reader)
    assert sessions_end(postgres_server, database.name)

    with pytest.raises(TransientFailure, match="idle-in-transaction timeout"):
        reader.read_all()
    database.close()


def test_a_server_that_was_restarted_is_connected_to_anew(served: ServedDatabase) -> None:
    resource = served.resource()
    reader = resource.stream(served.numbers(2_000_000), batch_rows=1_000)
    resource.stream("SELECT 1 AS a").read_all()
    assert idle(resource) == 1
    served.server.restart()

    assert resource.stream("SELECT 1 AS a").read_all().num_rows == 1
    with pytest.raises(TransientFailure):
        reader.read_all()


def test_a_server_that_nobody_runs_is_transient(served: ServedDatabase) -> None:
    port = free_ports(1)[0]

    with pytest.raises(TransientFailure, match=f"localhost:{port} .*refused"):
        served.resource(port=port).stream("SELECT 1")
    with pytest.raises(TransientFailure, match=r"no-such-host\.invalid"):
        served.resource(host="no-such-host.invalid").stream("SELECT 1")


def test_connections_are_few_and_used_again(served: ServedDatabase) -> None:
    resource = served.resource(max_connections=2, pool_timeout_seconds=1.5)
    readers = [resource.stream(served.numbers(10)) for _ in range(2)]

    with pytest.raises(TransientFailure, match=r"all 2 connections .* were in use for 1\.5 s"):
        resource.stream("SELECT 1")
    assert [reader.read_all().num_rows for reader in readers] == [10, 10]
    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(lambda _: resource.stream(served.numbers(1_000)).read_all().num_rows, range(2)))
    assert counts == [1_000, 1_000]
    assert idle(resource) == 2


def test_a_stream_that_is_let_go_of_gives_its_connection_up(served: ServedDatabase) -> None:
    resource = served.resource(max_connections=1, pool_timeout_seconds=20)
    for _ in range(3):
        reader = resource.stream(served.numbers(5_000_000), batch_rows=10)
        next(reader)
        del reader
        gc.collect()

    assert resource.stream("SELECT 1 AS a").read_all().num_rows == 1


def test_who_vouches_for_the_server_is_checked(served: ServedDatabase, tmp_path: Path) -> None:
    stranger = str(certificates(tmp_path, "localhost").ca_file)

    with pytest.raises(PermanentFailure, match=f"ca_file that vouches for it .now {stranger}"):
        served.resource(ca_file=stranger).stream("SELECT 1")
    with pytest.raises(PermanentFailure, match="ca_file that vouches for it"):
        served.resource(tls="verify-ca", ca_file=stranger).stream("SELECT 1")
    with pytest.raises(PermanentFailure, match=r"ca_file that vouches for it .*, and the host it names"):
        served.resource(host="127.0.0.1").stream("SELECT 1")
    (tmp_path / "empty.pem").touch()
    with pytest.raises(PermanentFailure, match="ca_file"):
        served.resource(ca_file=str(tmp_path / "empty.pem")).stream("SELECT 1")
    with pytest.raises(PermanentFailure, match="there is no ca_file /nowhere; write the certificates there"):
        served.resource(ca_file="/nowhere").stream("SELECT 1")


@pytest.mark.parametrize(
    ("tls", "encrypted"), [("verify-full", True), ("verify-ca", True), ("require", True), ("disable", False)]
)
def test_each_mode_encrypts_or_does_not(served: ServedDatabase, tls: str, *, encrypted: bool) -> None:
    resource = served.resource(tls=tls, host="localhost" if tls == "verify-full" else "127.0.0.1")
    if served.kind is PostgresResource:
        query = "SELECT CASE WHEN ssl THEN cipher ELSE '' END AS cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    else:
        query = (
            "SELECT variable_value AS cipher FROM information_schema.session_status WHERE variable_name='Ssl_cipher'"
        )

    (cipher,) = resource.stream(query).read_all()["cipher"].to_pylist()
    assert bool(cipher) is encrypted


@pytest.mark.parametrize(("start", "kind"), [(postgres, PostgresResource), (mariadb, MySQLResource)])
def test_a_server_without_tls_is_told_no_password(start: Any, kind: type[DatabaseResource], tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    with start() as server:
        file.write_text(f'[db]\nuser = "{server.user}"\npassword = "{server.password}"\n')
        file.chmod(0o600)
        stated: dict[str, Any] = {"user": "db#user", "password": "db#password", "secrets": LocalSecrets(file=str(file))}
        resource = kind(host="127.0.0.1", port=server.port, database="mysql", tls="require", **stated)
        with pytest.raises(PermanentFailure, match=r"switch TLS on there; it is off only with tls=disable here"):
            resource.stream("SELECT 1")
