"""Where the dbt project is, and its baked manifest.

The manifest is what `@dbt_assets` builds its definitions from. It is baked by `ol dbt parse` and kept in the project as
`manifest.json`, so that loading the code location runs no dbt and asks no engine. It holds only what dagster-dbt reads,
sorted, and nothing that differs between machines, runs or engines: no times, no absolute paths, no database names.
"""

import importlib.resources
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ol_core.failures import PermanentFailure

MANIFEST_NAME = "manifest.json"
PARSE_COMMAND = "ol dbt parse"

Json = dict[str, Any]
"""Parsed JSON of dbt's; its schema is dbt's own (https://schemas.getdbt.com/dbt/manifest/v12.json)."""

NODE_KEYS = frozenset(
    {
        "alias", "attached_node", "columns", "config", "depends_on", "description", "fqn", "group", "identifier",
        "meta", "name", "original_file_path", "package_name", "path", "raw_code", "relation_name", "resource_type",
        "schema", "source_name", "tags", "unique_id", "version",
    }
)  # fmt: skip
CONFIG_KEYS = frozenset(
    {"alias", "description", "enabled", "group", "materialized", "meta", "schema", "severity", "tags"}
)
COLUMN_KEYS = frozenset({"data_type", "description", "name", "tags"})
OTHER_SECTIONS = ("exposures", "functions", "groups", "metrics", "saved_queries", "selectors", "semantic_models")


def project_directory() -> Path:
    """Find the dbt project: `OL_DBT_PROJECT_DIR` where it is set, else the project inside this package.

    Raises:
        PermanentFailure: where the folder that `OL_DBT_PROJECT_DIR` names holds no `dbt_project.yml`.
    """
    configured = os.environ.get("OL_DBT_PROJECT_DIR")
    directory = Path(configured) if configured else Path(str(importlib.resources.files("ol_lakehouse") / "dbt_project"))
    if not (directory / "dbt_project.yml").is_file():
        raise PermanentFailure(
            f"{directory} holds no dbt_project.yml; set OL_DBT_PROJECT_DIR to the folder of a dbt project, "
            f"or unset it to use the one that ol-lakehouse brings"
        )
    return directory.absolute()


def read_manifest(project: Path, *, adapter_type: str) -> Json:
    """Read the baked manifest of a project for an engine.

    Args:
        project: The folder of the dbt project.
        adapter_type: `duckdb` or `trino`; Dagster shows it as the assets' kind.

    Raises:
        PermanentFailure: where the manifest is missing, is not JSON, or was made for another engine.
    """
    file = project / MANIFEST_NAME
    try:
        manifest: Json = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PermanentFailure(f"cannot read {file}: {error.strerror}; bake it with `{PARSE_COMMAND}`") from error
    except json.JSONDecodeError as error:
        raise PermanentFailure(f"{file} is not JSON ({error}); bake it again with `{PARSE_COMMAND}`") from error
    made_for = manifest["metadata"].setdefault("adapter_type", adapter_type)  # ours fits every engine, dbt's only one
    if made_for != adapter_type:
        raise PermanentFailure(
            f"{file} was made for {made_for}, but the environment's engine is {adapter_type}; "
            f"bake it again with `{PARSE_COMMAND}`"
        )
    return manifest


def bake_manifest(project: Path) -> str:
    """Parse a project with dbt and return the text of its slim manifest.

    Raises:
        PermanentFailure: where dbt cannot parse the project; the message is dbt's own.
    """
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["--quiet", "--no-use-colors", "--no-partial-parse", "parse", "--target", "duckdb"]
        folders = {
            "PROJECT_DIR": str(project),
            "PROFILES_DIR": str(project),
            "TARGET_PATH": scratch,
            "LOG_PATH": scratch,
        }
        finished = subprocess.run(  # noqa: S603 - our own arguments
            [sys.executable, "-c", "from dbt.cli.main import cli; cli()", *arguments],
            env={**os.environ, **{f"DBT_{name}": folder for name, folder in folders.items()}, "OL_DATA_DIR": scratch},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            raise PermanentFailure(f"dbt cannot parse {project}:\n{finished.stdout}{finished.stderr}".rstrip())
        manifest = json.loads((Path(scratch) / MANIFEST_NAME).read_text(encoding="utf-8"))
    return json.dumps(slim_manifest(manifest), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def slim_manifest(manifest: Mapping[str, Any]) -> Json:
    """Reduce dbt's manifest to what dagster-dbt reads, plus the project's own macros (for code versions).

    Unit tests and hooks are neither assets nor checks and are left out.
    """
    package = manifest["metadata"]["project_name"]
    nodes = {key: _slim_node(node) for key, node in manifest["nodes"].items() if node["resource_type"] != "operation"}
    sources = {key: _slim_node(node) for key, node in manifest["sources"].items()}
    others = {section: manifest.get(section) or {} for section in OTHER_SECTIONS}
    kept = {*nodes, *sources, *(key for section in others.values() for key in section)}
    return {
        "metadata": {key: manifest["metadata"][key] for key in ("dbt_schema_version", "project_id", "project_name")},
        "nodes": nodes,
        "sources": sources,
        **{
            name: {key: {k: v for k, v in value.items() if k != "created_at"} for key, value in section.items()}
            for name, section in others.items()
        },
        **{
            relation: {key: sorted(set(ids) & kept) for key, ids in manifest[relation].items() if key in kept}
            for relation in ("child_map", "parent_map")
        },
        "macros": {
            key: {"macro_sql": macro["macro_sql"]}
            for key, macro in manifest["macros"].items()
            if macro["package_name"] == package and not macro["name"].startswith("test_")
        },
    }


def _slim_node(node: Mapping[str, Any]) -> Json:
    slim: Json = {key: value for key, value in node.items() if key in NODE_KEYS}
    slim["config"] = {key: value for key, value in node["config"].items() if key in CONFIG_KEYS}
    slim["columns"] = {
        name: {key: value for key, value in column.items() if key in COLUMN_KEYS}
        for name, column in node["columns"].items()
    }
    slim["depends_on"] = {"nodes": sorted(node.get("depends_on", {}).get("nodes", []))}
    if node.get("relation_name"):
        # Two parts resolve in the catalog of the connection, whichever engine that is.
        slim["relation_name"] = f'"{node["schema"]}"."{node.get("identifier") or node["alias"]}"'
    return slim
