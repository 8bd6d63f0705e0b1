"""What may change in the declaration of a table, and what is refused."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ol_core.environment import RAW_NAMESPACE
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.tables import RawTableIOManager, TablePolicy
from pyiceberg.types import StringType

KEY = pa.field("course_id", pa.string(), nullable=False)


@pytest.fixture
def tables(tmp_path: Path) -> RawTableIOManager:
    root = tmp_path / "tables"
    return RawTableIOManager(kind="sql", uri=f"sqlite:///{root}/catalog.db", warehouse=str(root), writable=True)


def write(tables: RawTableIOManager, course: str, kinds: dict[str, Any], **values: Any) -> bool:
    """Replace a course by one row of a declaration; say whether the table was changed."""
    schema = pa.schema([KEY, *[one if isinstance(one, pa.Field) else (name, one) for name, one in kinds.items()]])
    row = pa.Table.from_pylist([{"course_id": course, **values}], schema=schema)
    return not tables.replace_partitions("t", schema, [course], [row]).unchanged


def rows(schema: pa.Schema) -> pa.Table:
    """A row of a declaration whose names may be there twice."""
    return pa.Table.from_arrays([pa.array(["a"]), *[pa.array([1])] * (len(schema) - 1)], schema=schema)


def read(tables: RawTableIOManager) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tables.read("t").sort_by("course_id").to_pylist()
    return rows


def columns(tables: RawTableIOManager) -> dict[str, str]:
    with tables._catalog("t") as catalog:
        fields = catalog.load_table((RAW_NAMESPACE, "t")).schema().fields
    return {field.name: f"{'required' if field.required else 'optional'} {field.field_type}" for field in fields}


def test_an_added_column_is_null_in_older_rows(tables: RawTableIOManager) -> None:
    write(tables, "a", {"n": pa.int64()}, n=1)

    write(tables, "b", {"n": pa.int64(), "title": pa.field("title", pa.string(), nullable=False)}, n=2, title="B")

    assert read(tables) == [
        {"course_id": "a", "n": 1, "title": None},
        {"course_id": "b", "n": 2, "title": "B"},
    ]
    assert columns(tables) == {"course_id": "required string", "n": "optional long", "title": "optional string"}


@pytest.mark.parametrize(
    ("old", "new", "small", "large"),
    [
        (pa.int32(), pa.int64(), 1, 2**40),
        (pa.float32(), pa.float64(), 0.5, 1e300),
        (pa.decimal128(9, 2), pa.decimal128(18, 2), Decimal("1.25"), Decimal("1234567890.25")),
    ],
    ids=str,
)
def test_types_widen_and_a_narrower_declaration_is_written_as_the_wider(
    tables: RawTableIOManager, old: pa.DataType, new: pa.DataType, *, small: Any, large: Any
) -> None:
    write(tables, "a", {"n": old}, n=small)
    write(tables, "b", {"n": new}, n=large)

    assert not write(tables, "a", {"n": old}, n=small)
    assert write(tables, "c", {"n": old}, n=small)
    assert [row["n"] for row in read(tables)] == [small, large, small]


@pytest.mark.parametrize(
    ("held", "declared", "large", "small"),
    [
        (pa.int64(), pa.int32(), 2**40, 1),
        (pa.int64(), pa.field("n", pa.int64(), nullable=False), None, 1),
        (pa.float64(), pa.float32(), 0.1, 0.5),
        (pa.list_(pa.int64()), pa.list_(pa.int32()), [2**40], [1]),
        (pa.decimal128(38, 2), pa.decimal128(5, 2), Decimal("1234567.25"), Decimal("1.25")),
        (pa.timestamp("us"), pa.timestamp("s"), datetime(2026, 1, 1, microsecond=5), datetime(2026, 1, 1)),  # noqa: DTZ001
    ],
    ids=str,
)
def test_rows_of_a_narrower_declaration_replace_what_it_could_not_hold(
    tables: RawTableIOManager, held: pa.DataType, declared: pa.DataType | pa.Field, *, large: Any, small: Any
) -> None:
    write(tables, "a", {"n": held}, n=large)

    assert write(tables, "a", {"n": declared}, n=small)
    assert not write(tables, "a", {"n": declared}, n=small)
    assert read(tables) == [{"course_id": "a", "n": small}]


def test_an_added_column_may_be_required_where_it_was_missing(tables: RawTableIOManager) -> None:
    write(tables, "a", {"n": pa.int64()}, n=1)
    wider = {"n": pa.int64(), "title": pa.field("title", pa.string(), nullable=False)}

    assert write(tables, "a", wider, n=1, title="A")
    assert not write(tables, "a", wider, n=1, title="A")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (pa.int64(), pa.string(), r"t\.n is long in the table but declared as string"),
        (pa.int64(), pa.float64(), r"t\.n is long in the table but declared as double"),
        (pa.string(), pa.binary(), r"t\.n is string in the table but declared as binary"),
        (pa.decimal128(9, 2), pa.decimal128(18, 4), r"t\.n is decimal\(9, 2\) in the table but declared as decimal"),
        (pa.timestamp("us"), pa.timestamp("us", tz="UTC"), r"t\.n is timestamp in the .* declared as timestamptz"),
        (pa.list_(pa.int64()), pa.list_(pa.string()), r"t\.n\.element is long in the table but declared as string"),
        (pa.string(), pa.list_(pa.string()), r"t\.n is string in the table but declared as list<string>"),
        (pa.struct({"x": pa.int64()}), pa.struct({"x": pa.bool_()}), r"t\.n\.x is long .* declared as boolean"),
    ],
    ids=str,
)
def test_any_other_change_of_a_type_shows_both_and_loses_nothing(
    tables: RawTableIOManager, old: pa.DataType, new: pa.DataType, said: str
) -> None:
    write(tables, "a", {"n": old})
    before = tables.snapshots()

    with pytest.raises(PermanentFailure, match=f"{said}.*, which Iceberg cannot promote it to; give the new column"):
        write(tables, "a", {"n": new})

    assert tables.snapshots() == before


def test_a_column_that_is_no_longer_declared_is_kept(tables: RawTableIOManager) -> None:
    write(tables, "a", {"n": pa.int64(), "must": pa.field("must", pa.string(), nullable=False)}, n=1, must="x")

    write(tables, "b", {"n": pa.int64()}, n=2)

    assert read(tables) == [{"course_id": "a", "n": 1, "must": "x"}, {"course_id": "b", "n": 2, "must": None}]
    assert write(tables, "a", {"n": pa.int64()}, n=1)
    assert not write(tables, "a", {"n": pa.int64()}, n=1)
    assert columns(tables)["must"] == "optional string"


def test_a_renamed_column_is_a_new_one_beside_the_old(tables: RawTableIOManager) -> None:
    write(tables, "a", {"name": pa.string()}, name="A")

    write(tables, "b", {"title": pa.string()}, title="B")

    assert read(tables) == [
        {"course_id": "a", "name": "A", "title": None},
        {"course_id": "b", "name": None, "title": "B"},
    ]


def test_columns_become_nullable_but_never_required(tables: RawTableIOManager) -> None:
    write(tables, "a", {"n": pa.field("n", pa.int64(), nullable=False)}, n=1)

    write(tables, "b", {"n": pa.int64()}, n=None)
    write(tables, "c", {"n": pa.field("n", pa.int64(), nullable=False)}, n=3)

    assert [row["n"] for row in read(tables)] == [1, None, 3]
    assert columns(tables)["n"] == "optional long"


def test_nested_fields_are_added_widened_and_kept(tables: RawTableIOManager) -> None:
    old = pa.struct([("x", pa.int32()), ("gone", pa.string())])
    new = pa.struct([("x", pa.int64()), ("added", pa.list_(pa.struct([("y", pa.string())])))])
    write(tables, "a", {"n": old, "m": pa.map_(pa.string(), old)}, n={"x": 1, "gone": "g"}, m=[("k", {"x": 2})])

    value = {"x": 2**40, "added": [{"y": "z"}]}
    write(tables, "b", {"n": new, "m": pa.map_(pa.string(), new)}, n=value, m=[("k", value)])

    first, second = read(tables)
    assert first["n"] == {"x": 1, "gone": "g", "added": None}
    assert second["n"] == {"x": 2**40, "gone": None, "added": [{"y": "z"}]}
    assert second["m"] == [("k", {"x": 2**40, "gone": None, "added": [{"y": "z"}]})]
    assert not write(tables, "b", {"n": new, "m": pa.map_(pa.string(), new)}, n=value, m=[("k", value)])


def test_fields_of_any_name_are_kept(tables: RawTableIOManager) -> None:
    point = pa.struct([("a b", pa.int64()), ("é", pa.string()), ("1-x", pa.float64())])
    value = {"a b": 1, "é": "x", "1-x": float("inf")}
    kinds = {"a b": point, "all": pa.list_(point), "by name": pa.map_(pa.string(), point)}

    assert write(tables, "a", kinds, **{"a b": value, "all": [value, None], "by name": [("k", value)]})
    assert not write(tables, "a", kinds, **{"a b": value, "all": [value, None], "by name": [("k", value)]})
    assert read(tables) == [{"course_id": "a", "a b": value, "all": [value, None], "by name": [("k", value)]}]


def test_names_that_sql_cannot_tell_apart_are_refused(tables: RawTableIOManager) -> None:
    write(tables, "a", {"title": pa.string()})

    with pytest.raises(PermanentFailure, match="the columns title and Title, which SQL cannot tell apart"):
        write(tables, "a", {"Title": pa.string()})


def test_names_that_one_declaration_cannot_have_are_refused_before_the_table_is_made(tables: RawTableIOManager) -> None:
    twice = pa.schema([KEY, ("n", pa.int64()), ("n", pa.int64())])

    with pytest.raises(PermanentFailure, match="t has the columns n and n, which SQL cannot tell apart"):
        tables.replace_partitions("t", twice, ["a"], [])
    with pytest.raises(PermanentFailure, match=r"the columns n\.x and n\.X, which SQL cannot tell apart"):
        write(tables, "a", {"n": pa.struct([("x", pa.int64()), ("X", pa.int64())])})
    with pytest.raises(PermanentFailure, match=r"lack the declared columns - and have others \['n'\]"):
        tables.replace_partitions("t", pa.schema([KEY, ("n", pa.int64())]), ["a"], [twice.empty_table(), rows(twice)])
    for unnamed in (pa.schema([KEY, ("", pa.int64())]), pa.schema([KEY, ("n", pa.struct([("", pa.int64())]))])):
        with pytest.raises(PermanentFailure, match="t: a column or a field has no name; give it one"):
            tables.replace_partitions("t", unnamed, ["a"], [])
    assert tables.snapshots() == {}


@pytest.mark.parametrize(
    "kind",
    [
        pa.duration("s"),
        pa.timestamp("ns"),
        pa.list_(pa.decimal256(50, 2)),
        pa.decimal128(5, -2),
        pa.map_(pa.string(), pa.struct([])),
    ],
    ids=str,
)
def test_a_type_that_iceberg_lacks_is_refused(tables: RawTableIOManager, kind: pa.DataType) -> None:
    with pytest.raises(
        PermanentFailure, match=r"t: .*(unsupported type|Could not parse).*; declare a type that Iceberg has: bool, int"
    ):
        write(tables, "a", {"n": kind})
    assert tables.snapshots() == {}


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        (pa.dictionary(pa.int32(), pa.string()), "x", "string"),
        (pa.list_(pa.dictionary(pa.int8(), pa.int64())), [1, None], "list<long>"),
        (pa.string_view(), "x", "string"),
        (pa.binary_view(), b"x", "binary"),
        (pa.float16(), 0.5, "float"),
        (pa.uint32(), 2**32 - 1, "long"),
        (pa.map_(pa.string(), pa.struct({"x": pa.uint32()})), [("a", {"x": 2**32 - 1})], "map<string, struct<5: x"),
        (pa.timestamp("ms"), datetime(2026, 1, 1, 1), "timestamp"),  # noqa: DTZ001
    ],
    ids=str,
)
def test_a_type_that_only_arrow_has_is_written_as_what_holds_its_values(
    tables: RawTableIOManager, kind: pa.DataType, value: Any, stored: str
) -> None:
    assert write(tables, "a", {"n": kind}, n=value)
    assert not write(tables, "a", {"n": kind}, n=value)

    assert read(tables) == [{"course_id": "a", "n": value}]
    assert columns(tables)["n"].startswith(f"optional {stored}")


def test_a_value_that_no_iceberg_type_holds_is_refused_before_the_table_is_made(tables: RawTableIOManager) -> None:
    with pytest.raises(PermanentFailure, match=r"t: the rows do not fit .*18446744073709551615"):
        write(tables, "a", {"n": pa.uint64()}, n=2**64 - 1)
    assert tables.snapshots() == {}


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_partitions_may_be_strings_of_any_layout(tables: RawTableIOManager, kind: pa.DataType) -> None:
    schema = pa.schema([("course_id", kind), ("n", pa.int64())])
    content = pa.table([["a", "b"], [1, 2]], names=schema.names).cast(schema)

    tables.replace_partitions("t", schema, ["a", "b"], [content])
    tables.replace_partitions("t", schema, ["a"], [])

    assert read(tables) == [{"course_id": "b", "n": 2}]


def test_a_required_field_that_a_struct_lacks_is_added_as_nullable(tables: RawTableIOManager) -> None:
    old = pa.struct([pa.field("x", pa.int64(), nullable=False)])
    new = pa.struct([*old, pa.field("y", pa.int64(), nullable=False)])
    kinds = [{"n": one, "m": pa.map_(pa.string(), one), "l": pa.list_(one)} for one in (old, new)]
    write(tables, "a", kinds[0], n={"x": 1}, m=[("k", {"x": 1})], l=[{"x": 1}])

    value = {"x": 1, "y": 2}
    assert write(tables, "b", kinds[1], n=value, m=[("k", value)], l=[value])
    assert not write(tables, "b", kinds[1], n=value, m=[("k", value)], l=[value])

    older = {"x": 1, "y": None}
    assert read(tables)[0] == {"course_id": "a", "n": older, "m": [("k", older)], "l": [older]}
    assert columns(tables)["l"].endswith("x: required long, 13: y: optional long>>")


def test_a_writer_that_fails_leaves_the_columns_and_the_policy_as_they_were(tables: RawTableIOManager) -> None:
    write(tables, "a", {"n": pa.int32()}, n=1)
    data = Path(tables.warehouse, RAW_NAMESPACE, "t", "data")
    data.rename(data.with_name("elsewhere"))
    data.write_text("no folder")
    schema = pa.schema([KEY, ("n", pa.int64()), ("title", pa.string())])
    content = pa.table({"course_id": ["a", "a"], "n": [1, 2], "title": ["x", "y"]}, schema=schema)
    policy = TablePolicy(snapshots_kept=9)

    with pytest.raises(TransientFailure):
        tables.replace_partitions("t", schema, ["a"], [content], policy=policy)
    assert columns(tables) == {"course_id": "required string", "n": "optional int"}

    data.unlink()
    data.with_name("elsewhere").rename(data)
    tables.replace_partitions("t", schema, ["a"], [content], policy=policy)
    with tables._catalog("t") as catalog:
        stored = catalog.load_table((RAW_NAMESPACE, "t"))
    assert len(stored.metadata.metadata_log) == 2  # it was made, written, and written with all that is new
    assert TablePolicy.of(stored.properties) == policy
    assert read(tables) == content.to_pylist()


def test_descriptions_follow_the_declaration(tables: RawTableIOManager) -> None:
    write(tables, "a", {"n": pa.int64()}, n=1)
    schema = pa.schema([KEY, pa.field("n", pa.int64(), metadata={"doc": "How many."})])

    tables.ensure("t", schema)
    commit = tables.replace_partitions("t", schema, [], [])

    assert commit.columns == (("course_id", "string", None), ("n", "long", "How many."))


def test_a_column_that_another_engine_renamed_is_read_from_older_files(tables: RawTableIOManager) -> None:
    write(tables, "a", {"name": pa.string()}, name="A")
    with tables._catalog("t") as catalog:
        catalog.load_table((RAW_NAMESPACE, "t")).update_schema().rename_column("name", "title").commit()
        catalog.load_table((RAW_NAMESPACE, "t")).update_schema().add_column("name", StringType()).commit()

    assert read(tables) == [{"course_id": "a", "title": "A", "name": None}]
    assert not write(tables, "a", {"title": pa.string(), "name": pa.string()}, title="A", name=None)


def test_what_pyiceberg_would_read_wrongly_is_not_read(tables: RawTableIOManager) -> None:
    write(tables, "a", {"name": pa.string(), "n": pa.list_(pa.struct({"x": pa.int64()}))}, name="A", n=None)
    assert read(tables) == [{"course_id": "a", "name": "A", "n": None}]
    with tables._catalog("t") as catalog, catalog.load_table((RAW_NAMESPACE, "t")).update_schema() as update:
        update.rename_column("name", "title")

    with pytest.raises(PermanentFailure, match="it has lists of structs, and deletions or other column ids"):
        read(tables)
