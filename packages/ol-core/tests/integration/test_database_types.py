"""Every type of PostgreSQL and MariaDB, as it comes out as Arrow, and what fits no Arrow type."""

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ol_core.failures import PermanentFailure
from ol_devkit.servers.mariadb import MariaDbServer
from ol_devkit.servers.postgres import PostgresServer
from served_database import ServedDatabase, mariadb_database, postgres_database

DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 123456)  # noqa: DTZ001 - of columns without a time zone
UTC_NOON = NOON.replace(tzinfo=dt.UTC)
TIMESTAMP, UTC = pa.timestamp("us"), pa.timestamp("us", "UTC")

POSTGRES = [
    ("boolean", "true", pa.bool_(), True),
    ("smallint", "-32768", pa.int32(), -32768),
    ("integer", "-2147483648", pa.int32(), -(2**31)),
    ("bigint", "9223372036854775807", pa.int64(), 2**63 - 1),
    ("oid", "4294967295", pa.int64(), 2**32 - 1),
    ("positive", "7", pa.int32(), 7),
    ("real", "0.1", pa.float32(), pytest.approx(0.1)),
    ("double precision", "0.1", pa.float64(), 0.1),
    ("double precision", "'-infinity'", pa.float64(), float("-inf")),
    ("numeric(10, 2)", "12345678.9", pa.decimal128(10, 2), Decimal("12345678.90")),
    ("numeric(38, 0)", "1" * 38, pa.decimal128(38, 0), Decimal("1" * 38)),
    ("numeric(39, 1)", "1" * 38, pa.string(), "1" * 38 + ".0"),
    ("numeric(3, -2)", "12345", pa.string(), "12300"),
    ("numeric", "0.00000000000000000000000000000000000000001", pa.string(), "0." + "0" * 40 + "1"),
    ("numeric", "'NaN'", pa.string(), "NaN"),
    ("date", "'2024-02-29'", pa.date32(), DAY),
    ("time", "'23:59:59.999999'", pa.time64("us"), dt.time(23, 59, 59, 999999)),
    ("timetz", "'12:00+02'", pa.string(), "12:00:00+02"),
    ("timestamp", "'2024-02-29 12:00:00.123456'", TIMESTAMP, NOON),
    ("timestamptz", "'2024-02-29 14:00:00.123456+02'", UTC, UTC_NOON),
    ("interval", "'1 year 2 days 03:04:05'", pa.string(), "1 year 2 days 03:04:05"),
    ("char(3)", "'a'", pa.string(), "a  "),
    ("varchar(5)", "'grün'", pa.string(), "grün"),
    ("text", "'😀'", pa.string(), "😀"),
    ("name", "'n'", pa.string(), "n"),
    ("bytea", r"'\x00ff'", pa.binary(), b"\x00\xff"),
    ("uuid", "'123e4567-e89b-12d3-a456-426614174000'", pa.string(), "123e4567-e89b-12d3-a456-426614174000"),
    ("json", """'{"a":  1}'""", pa.string(), '{"a":  1}'),
    ("jsonb", """'{"a":  1}'""", pa.string(), '{"a": 1}'),
    ("xml", "'<a/>'", pa.string(), "<a/>"),
    ("inet", "'10.0.0.1/8'", pa.string(), "10.0.0.1/8"),
    ("cidr", "'10.0.0.0/8'", pa.string(), "10.0.0.0/8"),
    ("macaddr", "'08:00:2b:01:02:03'", pa.string(), "08:00:2b:01:02:03"),
    ("money", "'1.5'", pa.string(), "$1.50"),
    ("bit(3)", "B'101'", pa.string(), "101"),
    ("varbit", "B'01'", pa.string(), "01"),
    ("int4range", "'[1,5)'", pa.string(), "[1,5)"),
    ("point", "'(1,2)'", pa.string(), "(1,2)"),
    ("tsvector", "'a b'", pa.string(), "'a' 'b'"),
    ("mood", "'glad'", pa.string(), "glad"),
    ("pair", "ROW(1, 'x')", pa.string(), "(1,x)"),
    ("integer[]", "ARRAY[1, NULL]", pa.list_(pa.int32()), [1, None]),
    ("text[]", "ARRAY['a,b', '']", pa.list_(pa.string()), ["a,b", ""]),
    ("numeric(5, 1)[]", "ARRAY[1.5]", pa.list_(pa.decimal128(5, 1)), [Decimal("1.5")]),
    ("timestamptz[]", "ARRAY['2024-02-29 14:00:00.123456+02'::timestamptz]", pa.list_(UTC), [UTC_NOON]),
    (
        "uuid[]",
        "'{123e4567-e89b-12d3-a456-426614174000}'",
        pa.list_(pa.string()),
        ["123e4567-e89b-12d3-a456-426614174000"],
    ),
    ("jsonb[]", """ARRAY['{"a": 1}'::jsonb]""", pa.list_(pa.string()), ['{"a": 1}']),
    ("mood[]", "ARRAY['glad'::mood]", pa.string(), "{glad}"),
]

MARIADB = [
    ("boolean", "true", pa.bool_(), True),
    ("tinyint(1)", "0", pa.bool_(), False),
    ("tinyint", "-128", pa.int32(), -128),
    ("tinyint unsigned", "255", pa.int32(), 255),
    ("smallint unsigned", "65535", pa.int32(), 65535),
    ("mediumint unsigned", "16777215", pa.int32(), 2**24 - 1),
    ("int", "-2147483648", pa.int32(), -(2**31)),
    ("int unsigned", "4294967295", pa.int64(), 2**32 - 1),
    ("bigint", "-9223372036854775808", pa.int64(), -(2**63)),
    ("bigint unsigned", "18446744073709551615", pa.decimal128(20, 0), Decimal(2**64 - 1)),
    ("float", "0.1", pa.float32(), pytest.approx(0.1)),
    ("double", "0.1", pa.float64(), 0.1),
    ("decimal(10, 2)", "-12345678.9", pa.decimal128(10, 2), Decimal("-12345678.90")),
    ("decimal(10, 2) unsigned", "12345678.9", pa.decimal128(10, 2), Decimal("12345678.90")),
    ("decimal(38, 0)", "1" * 38, pa.decimal128(38, 0), Decimal("1" * 38)),
    ("decimal(65, 30)", "1.5", pa.string(), "1.5" + "0" * 29),
    ("date", "'2024-02-29'", pa.date32(), DAY),
    ("date", "'0000-00-00'", pa.date32(), None),
    ("datetime", "'2024-02-29 12:00:00'", TIMESTAMP, NOON.replace(microsecond=0)),
    ("datetime(6)", "'2024-02-29 12:00:00.123456'", TIMESTAMP, NOON),
    ("datetime", "'0000-00-00 00:00:00'", TIMESTAMP, None),
    ("timestamp(6) NULL", "'2024-02-29 12:00:00.123456'", UTC, UTC_NOON),
    ("timestamp NULL", "'0000-00-00 00:00:00'", UTC, None),
    ("time(3)", "'-838:59:58.5'", pa.string(), "-838:59:58.500"),
    ("year", "2024", pa.int32(), 2024),
    ("char(3)", "'a'", pa.string(), "a"),
    ("varchar(5)", "'grün'", pa.string(), "grün"),
    ("text", "'😀'", pa.string(), "😀"),
    ("longtext COLLATE utf8mb4_bin", "'x'", pa.string(), "x"),
    ("varchar(5) CHARACTER SET latin1", "'grün'", pa.string(), "grün"),
    ("binary(3)", "X'00FF'", pa.binary(), b"\x00\xff\x00"),
    ("varbinary(3)", "X'00FF'", pa.binary(), b"\x00\xff"),
    ("blob", "X'00FF'", pa.binary(), b"\x00\xff"),
    ("bit(5)", "b'101'", pa.string(), "00101"),
    ("enum('glad', 'sad')", "'sad'", pa.string(), "sad"),
    ("set('a', 'b')", "'b,a'", pa.string(), "a,b"),
    ("json", """'{"a":  1}'""", pa.string(), '{"a":  1}'),
    ("uuid", "'123e4567-e89b-12d3-a456-426614174000'", pa.string(), "123e4567-e89b-12d3-a456-426614174000"),
    ("inet6", "'::1'", pa.string(), "::1"),
    ("point", "POINT(1, 2)", pa.binary(), bytes.fromhex("000000000101000000000000000000F03F0000000000000040")),
]


def filled(database: ServedDatabase, cases: list[tuple[str, str, pa.DataType, Any]], before: str) -> pa.Table:
    """Return a table with a column for each case: its value, then NULL."""
    columns = ", ".join(f"c{number} {kind}" for number, (kind, *_) in enumerate(cases))
    values = ", ".join(value for _, value, *_ in cases)
    database.execute(f"{before} CREATE TABLE kinds ({columns}); INSERT INTO kinds VALUES ({values})")
    database.execute("INSERT INTO kinds (c0) VALUES (NULL)")
    table = database.resource().stream("SELECT * FROM kinds").read_all()
    database.close()
    return table


@pytest.fixture(scope="module")
def postgres_kinds(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    database = postgres_database(postgres_server, tmp_path_factory.mktemp("types"))
    made = (
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (a int, b text);"
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0); SET lc_monetary = 'C.UTF-8';"
    )
    return filled(database, POSTGRES, made)


@pytest.fixture(scope="module")
def mariadb_kinds(mariadb_server: MariaDbServer, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    database = mariadb_database(mariadb_server, tmp_path_factory.mktemp("types"))
    return filled(database, MARIADB, "SET NAMES utf8mb4; SET sql_mode = ''; SET time_zone = '+00:00';")


def assert_column(table: pa.Table, number: int, case: tuple[str, str, pa.DataType, Any]) -> None:
    kind, _, expected_type, expected = case
    column = table.column(number)
    value, null = column.to_pylist()
    assert column.type == expected_type, kind
    assert value == expected, kind
    assert null is None, kind


@pytest.mark.parametrize("number", range(len(POSTGRES)), ids=[kind for kind, *_ in POSTGRES])
def test_types_of_postgres(postgres_kinds: pa.Table, number: int) -> None:
    assert_column(postgres_kinds, number, POSTGRES[number])


@pytest.mark.parametrize("number", range(len(MARIADB)), ids=[kind for kind, *_ in MARIADB])
def test_types_of_mariadb(mariadb_kinds: pa.Table, number: int) -> None:
    assert_column(mariadb_kinds, number, MARIADB[number])


def closed_after(database: ServedDatabase) -> Iterator[ServedDatabase]:
    yield database
    database.close()


@pytest.fixture
def of_postgres(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[ServedDatabase]:
    yield from closed_after(postgres_database(postgres_server, tmp_path))


@pytest.fixture
def of_mariadb(mariadb_server: MariaDbServer, tmp_path: Path) -> Iterator[ServedDatabase]:
    yield from closed_after(mariadb_database(mariadb_server, tmp_path))


@pytest.mark.parametrize(
    "value",
    [
        "'NaN'::numeric(3, 1)",
        "'infinity'::timestamptz",
        "'0044-03-15 BC'::date",
        "'24:00'::time",
        "ARRAY[[1, 2], [3, 4]]",
    ],
)
def test_what_no_arrow_type_holds_is_refused_by_postgres(of_postgres: ServedDatabase, value: str) -> None:
    resource = of_postgres.resource()
    with pytest.raises(PermanentFailure, match=r"cast (it|the column) in the query"):
        resource.stream(f"SELECT {value} AS a").read_all()
    assert resource.stream(f"SELECT ({value})::text AS a").read_all()["a"].null_count == 0


@pytest.mark.parametrize(
    ("kind", "value", "remedy"),
    [("tinyint(1)", "2", "a + 0"), ("date", "'2024-00-15'", "CAST(a AS CHAR)"), ("date", "'2024-02-00'", "CONCAT(a)")],
)
def test_what_no_arrow_type_holds_is_refused_by_mariadb(
    of_mariadb: ServedDatabase, kind: str, value: str, remedy: str
) -> None:
    of_mariadb.execute(f"SET sql_mode = ''; CREATE TABLE odd (a {kind}); INSERT INTO odd VALUES ({value})")
    resource = of_mariadb.resource()
    with pytest.raises(PermanentFailure, match="column a holds a value that no"):
        resource.stream("SELECT a FROM odd").read_all()
    (given,) = resource.stream(f"SELECT {remedy} AS a FROM odd").read_all()["a"].to_pylist()
    assert str(given) == value.strip("'")


def test_results_of_expressions_have_types_too(of_mariadb: ServedDatabase) -> None:
    of_mariadb.execute("CREATE TABLE t (n INT, d DECIMAL(10, 2)); INSERT INTO t VALUES (1, 2.5), (2, 3.5)")
    query = "SELECT COUNT(*) AS c, SUM(d) AS s, AVG(n) AS a, n = 1 AS e, NULL AS u, CONCAT(n) AS t FROM t WHERE n = 1"

    table = of_mariadb.resource().stream(query).read_all()

    assert table.to_pylist() == [{"c": 1, "s": Decimal("2.50"), "a": Decimal("1.0000"), "e": 1, "u": None, "t": "1"}]
    assert table.schema.field("u").type == pa.string()


ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.decimals(min_value=-(10**20), max_value=10**20, places=10),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        st.binary(),
        st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2037, 1, 1)),  # noqa: DTZ001 - of UTC
    ),
    min_size=1,
    max_size=20,
)
COLUMNS = {
    "postgres": "n bigint, d numeric(38, 10), t text, b bytea, at timestamptz",
    "mariadb": "n bigint, d decimal(38, 10), t longtext, b longblob, at timestamp(6) null",
}


@pytest.fixture(params=["postgres", "mariadb"])
def write(request: pytest.FixtureRequest) -> Callable[[list[Any]], pa.Table]:
    """Write rows in the place of others; return what is read then."""
    database: ServedDatabase = request.getfixturevalue(f"of_{request.param}")
    database.execute(f"CREATE TABLE rows_of_it ({COLUMNS[request.param]})")
    writer = database.resource(read_only=False)

    def replace(rows: list[Any]) -> pa.Table:
        writer.execute("DELETE FROM rows_of_it")
        places = ", ".join(["(%s, %s, %s, %s, %s)"] * len(rows))
        zone = "+00" if request.param == "postgres" else ""
        values = [value for *others, at in rows for value in (*others, f"{at}{zone}")]
        writer.execute(f"INSERT INTO rows_of_it VALUES {places}", values)
        return writer.stream("SELECT * FROM rows_of_it", batch_rows=7).read_all()

    return replace


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_whatever_is_written_comes_back(write: Callable[[list[Any]], pa.Table], rows: list[Any]) -> None:
    read = [tuple(row.values()) for row in write(rows).to_pylist()]

    assert sorted(read) == sorted((*others, at.replace(tzinfo=dt.UTC)) for *others, at in rows)
