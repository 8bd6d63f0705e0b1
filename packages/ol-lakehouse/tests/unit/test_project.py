import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ol_core.failures import PermanentFailure
from ol_lakehouse.project import MANIFEST_NAME, project_directory, read_manifest, slim_manifest


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def test_the_project_comes_with_the_package() -> None:
    project = project_directory()
    assert project.is_absolute()
    assert (project / "dbt_project.yml").is_file()
    assert project.parts[-2:] == ("ol_lakehouse", "dbt_project")


def test_a_setting_names_another_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OL_DBT_PROJECT_DIR", str(tmp_path))
    with pytest.raises(PermanentFailure, match=r"holds no dbt_project\.yml; set OL_DBT_PROJECT_DIR"):
        project_directory()
    (tmp_path / "dbt_project.yml").touch()
    assert project_directory() == tmp_path


@pytest.mark.parametrize(("content", "problem"), [(None, "cannot read"), ("{", "is not JSON")])
def test_a_manifest_that_cannot_be_read_names_the_command(tmp_path: Path, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(PermanentFailure, match=f"{problem}.*`ol dbt parse`"):
        read_manifest(tmp_path, adapter_type="duckdb")


def test_the_baked_manifest_is_canonical_and_the_same_on_every_machine() -> None:
    text = (project_directory() / MANIFEST_NAME).read_text()
    manifest = json.loads(text)
    assert json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n" == text
    assert set(manifest["metadata"]) == {"dbt_schema_version", "project_id", "project_name"}
    words = set(strings(manifest))
    assert not words & {"created_at", "generated_at", "invocation_id", "root_path", "database", "warehouse"}
    assert [word for word in words if word.startswith(("/", "file:"))] == []


def test_slimming_a_slim_manifest_changes_nothing_but_macros() -> None:
    manifest = json.loads((project_directory() / MANIFEST_NAME).read_text())
    again = slim_manifest(manifest | {"macros": {}})
    assert again == manifest | {"macros": {}}


def test_the_engine_is_stated_when_the_manifest_is_read() -> None:
    assert read_manifest(project_directory(), adapter_type="trino")["metadata"]["adapter_type"] == "trino"


def test_a_manifest_of_another_engine_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({"metadata": {"adapter_type": "duckdb"}}))

    with pytest.raises(PermanentFailure, match="was made for duckdb, but the environment's engine is trino"):
        read_manifest(tmp_path, adapter_type="trino")
