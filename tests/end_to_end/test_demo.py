"""`ol demo` on generated courses: what it builds is what the generators know; a second run does nothing."""

import re
import sqlite3
import tomllib
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ol_devkit.campus.content import DEPLOYMENTS
from ol_devkit.generators import OlxCourse, generate_cartridge, generate_olx_course
from ol_devkit.sandbox import SEED

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demo, Outcome

COURSES = 3
VERSION = r"[A-Za-z0-9_.-]{1,63}"
KINDS = ("blocks", "metadata", "policy", "quarantine", "static_assets_manifest", "video")


@pytest.fixture(scope="module")
def generated(demo: "Demo", tmp_path_factory: pytest.TempPathFactory) -> "Outcome":
    return demo.run(tmp_path_factory.mktemp("with space") / "data ü %41", "--courses", str(COURSES))


@pytest.fixture(scope="module")
def again(demo: "Demo", generated: "Outcome") -> "tuple[dict[str, int], Outcome]":
    """The files before a second run, and the second run, which is told nothing but the folder."""
    before = generated.files()
    return before, demo.run(generated.data_dir)


def course_runs() -> Iterator[tuple[str, OlxCourse]]:
    for index in range(COURSES):
        yield DEPLOYMENTS[index % len(DEPLOYMENTS)], generate_olx_course(SEED, index)


def test_everything_is_built_and_announced(generated: "Outcome") -> None:
    summary = generated.summary

    assert generated.code == 0, generated.said
    assert (summary["ok"], summary["up_to_date"]) == (True, False)
    assert (summary["failed"], summary["quarantined"]) == ([], [])
    assert summary["webhooks"] == {"received": 2 * COURSES, "verified": 2 * COURSES}
    assert all(run["success"] and run["seconds"] > 0 for run in summary["runs"])
    made = Counter[str]()
    for run in summary["runs"]:
        made.update(run["materialized"])
    made["lakehouse/raw_table_maintenance"] = 0  # a schedule's; the demo has no night
    assert {name: asset["materialized"] for name, asset in summary["assets"].items()} == made
    del made["lakehouse/raw_table_maintenance"]
    assert summary["assets_materialized"] == len(made)
    assert summary["partitions_materialized"] == made.total()
    assert made["canvas/course_content"] == summary["assets"]["canvas/course_content"]["partitions"] == COURSES
    assert made["mitx/openedx/raw_data/course_xml"] == made["mart/marts__course_catalog"] == 1
    assert all(Path(path).exists() for path in summary["paths"].values())


def test_the_catalog_says_what_the_courses_hold(generated: "Outcome") -> None:
    assert len(generated.catalog()) == 2 * COURSES
    for deployment, course in course_runs():
        row = generated.says_of_course_run(course.course_id, course)
        assert (row["source"], row["course_title"]) == (deployment, course.identity.display_name)
    for index in range(COURSES):
        canvas = generate_cartridge(SEED, index)
        row = generated.says_of_canvas_course(str(canvas.identity.id), canvas)
        assert row["course_title"] == canvas.identity.name


def test_the_raw_tables_hold_every_block_in_order_and_every_file(generated: "Outcome") -> None:
    for deployment, course in course_runs():
        blocks = generated.raw(f"raw__{deployment}__openedx__course_blocks")
        names = {
            state: [f"{b['block_type']}@{b['url_name']}" for b in blocks if b["state"] == state]
            for state in ("published", "orphan", "draft")
        }
        preorder = sorted((b for b in blocks if b["state"] == "published"), key=lambda b: int(b["block_index"]))
        assert tuple(f"{b['block_type']}@{b['url_name']}" for b in preorder) == course.truth.published
        assert sorted(names["orphan"]) == sorted(course.truth.orphans)
        assert sorted(names["draft"]) == sorted(course.truth.drafts)
    files = generated.raw("raw__canvas__api__course_files")
    for index in range(COURSES):
        course_id, view = str(generate_cartridge(SEED, index).identity.id), generate_cartridge(SEED, index).view
        listed = {(file["display_name"], file["size_bytes"]) for file in files if file["course_id"] == course_id}
        assert listed == {(file.display_name, file.size_bytes) for file in view.files}


def test_the_summary_counts_the_rows_of_every_table(generated: "Outcome") -> None:
    rows = generated.summary["rows"]
    raw = {name: count for name, count in rows.items() if name.startswith("ol_warehouse_raw_data.")}

    assert len(raw) == len(DEPLOYMENTS) * (len(KINDS) + 1) + 9
    assert raw == {name: len(generated.raw(name.rpartition(".")[2])) for name in raw}
    assert rows["mart.marts__course_catalog"] == 2 * COURSES
    published = sum(len(course.truth.published) for _, course in course_runs())
    items = sum(sum(generate_cartridge(SEED, index).truth.items.values()) for index in range(COURSES))
    assert rows["dimensional.dim_course_content"] == published + items


def test_objects_lie_where_the_receiver_looks_for_them(generated: "Outcome") -> None:
    found = Counter(
        re.sub(rf"/{VERSION}?(\.(?:xml\.tar\.gz|parquet|imscc|metadata\.json))$", r"/VERSION\1", name)
        for name in generated.files()
        if name.startswith("objects/")
    )
    canvas = [f"objects/canvas/course_content/{generate_cartridge(SEED, n).identity.id}" for n in range(COURSES)]
    expected = [f"{folder}/VERSION{suffix}" for folder in canvas for suffix in (".imscc", ".metadata.json")]
    for deployment, course in course_runs():
        folder = f"objects/{deployment}/openedx"
        expected.append(f"{folder}/raw_data/course_xml/{course.course_id}/VERSION.xml.tar.gz")
        expected += [f"{folder}/processed_data/course_{kind}/{course.course_id}/VERSION.parquet" for kind in KINDS]

    assert found == Counter(expected)


def test_a_second_run_does_nothing_and_says_so(again: "tuple[dict[str, int], Outcome]", generated: "Outcome") -> None:
    before, second = again
    summary = second.summary

    assert second.code == 0, second.said
    assert (summary["up_to_date"], summary["ok"]) == (True, True)
    assert (summary["runs"], summary["partitions_materialized"], summary["assets_materialized"]) == ([], 0, 0)
    assert summary["webhooks"]["received"] == 0
    assert summary["rows"] == generated.summary["rows"]
    assert "Everything is current" in second.said
    assert second.files() == before


@pytest.mark.usefixtures("again")
def test_nothing_is_written_elsewhere(demo: "Demo", generated: "Outcome") -> None:
    assert sorted(path.name for path in demo.folder.iterdir()) == ["temporary", "working"]
    assert [*(demo.folder / "temporary").iterdir(), *(demo.folder / "working").iterdir()] == []
    assert [path.name for path in generated.data_dir.parent.iterdir()] == [generated.data_dir.name]


def test_no_secret_is_written_but_in_its_file(again: "tuple[dict[str, int], Outcome]", generated: "Outcome") -> None:
    file = generated.data_dir / "secrets.toml"
    secrets = [value for table in tomllib.loads(file.read_text()).values() for value in table.values()]
    written = [one for one in generated.data_dir.rglob("*") if one.is_file() and one != file]
    said = [text.encode() for outcome in (generated, again[1]) for text in (outcome.output, outcome.said)]

    assert len(secrets) == 2 + 2 * len(DEPLOYMENTS)
    assert file.stat().st_mode & 0o077 == 0
    assert any(one.name == "runs.db" for one in written)
    compressed = list(compressed_values(generated.data_dir))
    assert any(b"openedx_api" in content for content in compressed)
    for content in [*said, *(one.read_bytes() for one in written), *compressed]:
        assert not any(secret.encode() in content for secret in secrets)


def compressed_values(data_dir: Path) -> Iterator[bytes]:
    """What Dagster keeps compressed in its databases."""
    for file in (data_dir / "dagster").rglob("*.db"):
        with sqlite3.connect(file) as database:
            for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                for row in database.execute(f'select * from "{table}"'):
                    yield from (zlib.decompress(value) for value in row if isinstance(value, bytes))
        database.close()
