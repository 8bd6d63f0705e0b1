"""The baked manifest is what the project says, and `ol dbt parse` keeps it so. Each parse costs seconds."""

from pathlib import Path

import pytest
from click.testing import CliRunner
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
    (tmp_path / "profiles.yml").write_text("tiny: {outputs: {dev: {type: duckdb}}}")
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
    (tmp_path / "profiles.yml").write_text("tiny: {outputs: {dev: {type: duckdb}}}")
    monkeypatch.setenv("OL_DBT_PROJECT_DIR", str(tmp_path))
    result = CliRunner().invoke(dbt, ["parse"])
    assert result.exit_code == 1
    assert "Could not find profile named 'absent'" in result.output
