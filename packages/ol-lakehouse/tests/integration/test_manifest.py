"""The baked manifest is what the project says, and `ol dbt parse` keeps it so. Each parse costs seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ol_core.cli import main
from ol_lakehouse.commands import dbt


def test_the_baked_manifest_is_current() -> None:
    result = CliRunner().invoke(dbt, ["parse", "--check"])
    assert result.exit_code == 0, f"{result.output}\nrun: ol dbt parse"


def test_parse_replaces_a_stale_manifest_and_check_only_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "one.sql").write_text("select 1 as n")
    (tmp_path / "dbt_project.yml").write_text("{name: tiny, profile: tiny, config-version: 2}")
    (tmp_path / "profiles.yml").write_text("tiny: {outputs: {duckdb: {type: duckdb}}}")
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}\n")
    monkeypatch.setenv("OL_DBT_PROJECT_DIR", str(tmp_path))

    checked = CliRunner().invoke(dbt, ["parse", "--check"])
    assert checked.exit_code == 1
    assert "run `ol dbt parse`" in checked.output
    assert manifest.read_text() == "{}\n"

    assert CliRunner().invoke(dbt, ["parse"]).exit_code == 0
    assert "model.tiny.one" in manifest.read_text()


def test_a_project_that_dbt_cannot_parse_is_reported_in_dbts_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dbt_project.yml").write_text("{name: tiny, profile: absent, config-version: 2}")
    (tmp_path / "profiles.yml").write_text("tiny: {outputs: {duckdb: {type: duckdb}}}")
    monkeypatch.setenv("OL_DBT_PROJECT_DIR", str(tmp_path))
    result = CliRunner().invoke(main, ["dbt", "parse"])
    assert result.exit_code == 1
    assert "Could not find profile named 'absent'" in result.output


def test_ol_dbt_chooses_the_project_and_keeps_its_artifacts_in_the_data_folder(tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            "from ol_lakehouse.dbt_command import main; main()",
            "--quiet",
            "ls",
            "--select",
            "mart",
        ],
        env={"OL_DATA_DIR": "data"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ol_dbt.mart.marts__course_catalog" in finished.stdout.splitlines()
    assert (tmp_path / "data" / "dbt" / "manifest.json").is_file()
