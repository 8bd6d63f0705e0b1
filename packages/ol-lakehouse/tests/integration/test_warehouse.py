"""The job over real Iceberg tables: what is in the marts, what Dagster is told, and what is written where."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from ol_lakehouse.definitions import defs
from ol_lakehouse.project import project_directory

A = "course-v1:MITx+6.00x+2024"


@dataclass(frozen=True)
class Build:
    """A finished run of the job."""

    data_dir: Path
    project_before: set[Path]
    result: dg.ExecuteInProcessResult

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with duckdb.connect(self.data_dir / "warehouse.duckdb", read_only=True) as connection:
            return connection.execute(sql).fetchall()


def run_job(instance: dg.DagsterInstance, selection: list[dg.AssetKey] | None = None) -> dg.ExecuteInProcessResult:
    job = defs().resolve_job_def("lakehouse_dbt_build")
    return job.execute_in_process(instance=instance, asset_selection=selection)


def dbt(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Plain dbt, without Dagster."""
    folders = {"DBT_PROJECT_DIR": project_directory(), "DBT_PROFILES_DIR": project_directory()}
    scratch = {"DBT_TARGET_PATH": data_dir / "plain", "DBT_LOG_PATH": data_dir / "plain", "OL_DATA_DIR": data_dir}
    return subprocess.run(
        [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--no-use-colors", *arguments],
        env={**os.environ, **{name: str(path) for name, path in (folders | scratch).items()}},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def build(data_dir: Path) -> Iterator[Build]:
    before = set(project_directory().resolve().rglob("*"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Build(data_dir=data_dir, project_before=before, result=run_job(instance))


def test_catalog_has_every_course_of_both_systems_once(build: Build) -> None:
    rows = build.query(
        "select platform, source, course_id, course_title, has_content, content_count, block_counts, video_hours, "
        "file_count, file_bytes, orphan_count, draft_count, unpublished_count, quarantined_count "
        "from mart.marts__course_catalog order by platform, source, course_id"
    )
    full = "chapter=1;course=1;html=1;lti_consumer=1;sequential=1;vertical=1;video=2"
    canvas = "assignment=1;file=2;module=1;page=1;quiz=1;syllabus=1;weblink=1"
    assert rows == [
        ("canvas", "canvas", "7", "Writing", True, 8, canvas, 0.0, 2, 12, 0, 0, 2, 0),
        ("canvas", "canvas", "8", None, False, 0, "", 0.0, 0, 0, 0, 0, 0, 0),
        ("canvas", "canvas", "9", None, False, 0, "", 0.0, 0, 0, 0, 0, 0, 1),
        ("openedx", "mitx", "course-v1:MITx+2.01x+2025", "Mechanics", False, 0, "", 0.0, 0, 0, 0, 0, 0, 0),
        ("openedx", "mitx", A, "Computing", True, 8, full, 0.5, 2, 350, 1, 1, 0, 1),
        ("openedx", "mitxonline", "MITx/8.01/2013", "Mechanics, 2013", True, 1, "course=1", 0.0, 0, 0, 0, 0, 0, 0),
        ("openedx", "mitxonline", A, "Computing again", True, 2, "chapter=1;course=1", 0.0, 0, 0, 0, 0, 0, 0),
    ]


def test_catalog_joins_what_the_listing_and_the_archive_say(build: Build) -> None:
    row = build.query(
        "select org, course_number, run, course_code, cast(start_at as varchar), cast(end_at as varchar), "
        "chapter_count, html_count, problem_count, video_count, lti_count, module_count, other_count "
        "from mart.marts__course_catalog "
        f"where source = 'mitx' and course_id = '{A}'"
    )
    dates = ("2024-01-08 00:00:00", "2024-05-01 00:00:00")
    assert row == [("MITx", "6.00x", "2024", None, *dates, 1, 1, 0, 2, 1, 0, 1)]


def test_content_holds_items_with_their_place(build: Build) -> None:
    rows = build.query(
        "select source, content_id, content_type, parent_content_id, position, depth, is_published "
        "from dimensional.dim_course_content "
        f"where platform = 'canvas' or (source = 'mitxonline' and course_id = '{A}') order by source, content_id"
    )
    assert rows == [
        ("canvas", "i1", "page", "m1", 1, 2, True),
        ("canvas", "i2", "assignment", "m1", 2, 2, True),
        ("canvas", "i3", "quiz", "m1", 3, 2, False),
        ("canvas", "i4", "weblink", "m1", 4, 2, True),
        ("canvas", "i5", "syllabus", None, None, 1, True),
        ("canvas", "i6", "file", None, None, 1, False),
        ("canvas", "i7", "file", None, None, 1, True),
        ("canvas", "m1", "module", None, 1, 1, True),
        ("mitxonline", "ch1", "chapter", "course", 1, 1, True),
        ("mitxonline", "course", "course", None, 0, 0, True),
    ]
    assert build.query("select count(*), count(distinct content_key) from dimensional.dim_course_content") == [(19, 19)]


def test_every_model_is_materialized_and_every_test_is_a_passed_check(build: Build) -> None:
    assert build.result.success
    warehouse = defs().resolve_asset_graph()
    materialized = {e.asset_key for e in build.result.all_events if e.is_step_materialization}
    checks = build.result.get_asset_check_evaluations()
    models = {key for key in warehouse.materializable_asset_keys if key.path[0] in ("staging", "dimensional", "mart")}
    assert materialized == models
    tests = {check for check in warehouse.asset_check_keys if check.asset_key in models}
    assert {check.asset_check_key for check in checks} == tests
    assert [check.check_name for check in checks if not check.passed] == []


def test_tables_report_their_row_counts(build: Build) -> None:
    counts = {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization.metadata["dagster/row_count"]
        for event in build.result.all_events
        if event.is_step_materialization
        and event.asset_key
        and "dagster/row_count" in event.step_materialization_data.materialization.metadata
    }
    assert {key: value.value for key, value in counts.items()} == {
        "dimensional/dim_course_content": 19,
        "mart/marts__course_catalog": 7,
    }


def test_artifacts_go_to_the_data_folder_and_nothing_to_the_project(build: Build) -> None:
    assert (build.data_dir / "dbt" / "run_results.json").is_file()
    assert (build.data_dir / "dbt" / "dbt.log").is_file()
    assert set(project_directory().resolve().rglob("*")) == build.project_before


def test_plain_dbt_builds_the_same_rows_and_passes_the_unit_tests(build: Build) -> None:
    dump = "select * from mart.marts__course_catalog order by course_key"
    items = "select * from dimensional.dim_course_content order by content_key"
    before = build.query(dump), build.query(items)
    finished = dbt(build.data_dir, "build")
    assert finished.returncode == 0, finished.stdout
    assert "18 models, 40 data tests" in finished.stdout
    assert "PASS=61 WARN=0 ERROR=0 SKIP=0" in finished.stdout  # two unit tests and the hook beside them
    assert (build.query(dump), build.query(items)) == before


@pytest.mark.usefixtures("build")
def test_one_model_alone_runs_its_own_tests_and_none_of_what_is_built_after_it() -> None:
    content = dg.AssetKey(["dimensional", "dim_course_content"])
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_job(instance, [content])
    assert result.success
    assert [event.asset_key for event in result.all_events if event.is_step_materialization] == [content]
    names = {check.check_name for check in result.get_asset_check_evaluations()}
    assert "unique_dim_course_content_content_key" in names
    assert not [name for name in names if "marts__course_catalog" in name]


def test_rows_of_a_deployment_that_the_union_leaves_out_fail(build: Build) -> None:
    finished = dbt(
        build.data_dir,
        *("build", "--select", "stg__openedx__course_runs", "--vars", "{openedx_deployments: [mitx]}"),
    )
    assert finished.returncode == 1
    # mitxonline has a row that the union lacks; mitxonline and xpro have tables that the var does not name
    assert "Failure in test union_is_complete_stg__openedx__course_runs_" in finished.stdout
    assert "Got 3 results" in finished.stdout


def test_a_deployment_without_source_is_named(data_dir: Path) -> None:
    finished = dbt(data_dir, "parse", "--vars", "{openedx_deployments: [mitx, newcomer]}")
    assert finished.returncode != 0
    assert "raw__newcomer__openedx__" in finished.stdout
    assert "was not found" in finished.stdout


def test_raw_tables_that_nothing_wrote_are_named_with_the_asset_that_writes_them(tmp_path: Path) -> None:
    finished = dbt(tmp_path, "build", "--select", "stg__canvas__courses")
    assert finished.returncode != 0
    assert "1 raw table(s) do not exist in duckdb" in finished.stdout
    table = "raw__canvas__api__courses"
    assert f"{table}: materialize the asset ol_warehouse_raw_data/{table}" in finished.stdout
