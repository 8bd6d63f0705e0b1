"""Reads the environment in force, and says everything that is wrong with it at once."""

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ol_core.environment.sections import Environment, EnvironmentName
from ol_core.failures import PermanentFailure


class Settings(BaseSettings):
    """What may be set from outside, by environment variable."""

    model_config = SettingsConfigDict(frozen=True)

    name: str = Field(default="dev", validation_alias="DAGSTER_ENV", description="Name of the environment.")
    environment_file: Annotated[Path | None, BeforeValidator(lambda file: file or None)] = Field(
        default=None,
        validation_alias="OL_ENVIRONMENT_FILE",
        description="Its `environment.toml`; only `dev` needs none.",
    )
    data_dir: Path = Field(
        default=Path(".ol"),
        validation_alias="OL_DATA_DIR",
        description="Folder of the stores of `dev`, and of dbt's files.",
    )
    campus_url: str = Field(
        default="http://127.0.0.1:8765", validation_alias="OL_CAMPUS_URL", description="The simulated campus of `dev`."
    )


class InvalidEnvironment(PermanentFailure):
    """The environment is unknown or its file is wrong; the message lists every problem."""


def load_environment() -> Environment:
    """Read the environment in force.

    Returns:
        The `dev` defaults, or what `OL_ENVIRONMENT_FILE` states.

    Raises:
        InvalidEnvironment: for an unknown name, a missing file, and every unknown, missing or mistyped key at once.
    """
    settings = Settings()
    names = get_args(EnvironmentName)
    problems = [] if settings.name in names else [f"DAGSTER_ENV is {settings.name!r}; valid: {', '.join(names)}"]
    if settings.environment_file is not None:
        return _read(settings.name, settings.environment_file, problems)
    if problems:
        raise InvalidEnvironment(problems[0])
    if settings.name == "dev":
        if "?" in str(settings.data_dir):
            raise InvalidEnvironment(
                f"OL_DATA_DIR is {str(settings.data_dir)!r}; name a folder without a question mark"
            )
        try:
            return development(data_dir=settings.data_dir, campus_url=settings.campus_url)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise InvalidEnvironment(f"OL_CAMPUS_URL is {settings.campus_url!r}: {reason}") from error
    raise InvalidEnvironment(
        f"DAGSTER_ENV is {settings.name!r} and OL_ENVIRONMENT_FILE is not set; "
        f"point it at that deployment's environment.toml (only `dev` needs no file)"
    )


def _read(name: str, file: Path, problems: list[str]) -> Environment:
    """Read a file; `problems` are those that are known before."""
    try:
        stated = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems = [*problems, f"cannot read {file} (OL_ENVIRONMENT_FILE): {error.strerror}"]
        raise InvalidEnvironment("\n".join(problems)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems = [*problems, f"{file} is not TOML: {error}"]
        raise InvalidEnvironment("\n".join(problems)) from error
    if isinstance(stated.get("name"), str) and stated["name"] != name:
        problems = [*problems, f"name: the file is for {stated['name']!r} but DAGSTER_ENV is {name!r}; use one name"]
    problems = [*problems, *(f"{key}: there is no such key" for key in stated if key.startswith("_"))]
    try:
        environment = Environment.model_validate({key: one for key, one in stated.items() if not key.startswith("_")})
    except ValidationError as error:
        problems = [*problems, *(_problem(stated, one["loc"], one) for one in error.errors(include_url=False))]
        environment = None
    if environment is None or problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise InvalidEnvironment(f"{file} has {len(problems)} problem{'s'[: len(problems) > 1]}:{lines}")
    return environment


def _problem(stated: Mapping[str, Any], place: Sequence[str | int], error: Mapping[str, Any]) -> str:
    """Say what is wrong with a key, without its value: a secret may have been written in place of its reference."""
    key = ".".join(_keys(stated, place))
    context = error.get("ctx", {})
    match error["type"]:
        case "missing" | "union_tag_not_found":
            tag = context.get("discriminator", "").strip("'")
            key, problem = f"{key}.{tag}".rstrip("."), "this key is missing"
        case "extra_forbidden":
            problem = "there is no such key"
        case "union_tag_invalid":
            tag, valid = context["discriminator"].strip("'"), context["expected_tags"].replace("'", "")
            key, problem = f"{key}.{tag}", f"{context['tag']!r} is unknown; valid: {valid}"
        case "literal_error":
            problem = f"valid: {context['expected'].replace(chr(39), '')}"
        case "model_type":
            problem = "must be a table" + (" { path, key }" if context["class_name"] == "SecretRef" else "")
        case "model_attributes_type":
            problem = "must be a table"
        case "tuple_type":
            problem = "must be a list" + (f"; begin each of its tables with [[{key}]]" if len(place) == 1 else "")
        case _:
            problem = error["msg"]
    return f"{key}: {problem}"


def _keys(stated: Any, place: Sequence[str | int]) -> Iterator[str]:  # noqa: ANN401 - parsed TOML
    """Yield the keys of a place in the file; pydantic puts the chosen kinds of its unions between them."""
    chosen_kind = True  # a file has none
    for part in place:
        chosen_kind = (
            not chosen_kind and isinstance(stated, dict) and part in (stated.get("kind"), stated.get("method"))
        )
        if chosen_kind:
            continue
        yield str(part)
        try:
            stated = stated[part]
        except (KeyError, IndexError, TypeError):
            stated = None


def development(*, data_dir: Path, campus_url: str) -> Environment:
    """The `dev` environment: folders under `data_dir`, sources on the simulated campus at `campus_url`."""
    campus_url = campus_url.rstrip("/")
    root = Path(os.path.abspath(data_dir))  # noqa: PTH100 - resolve() would read the disk and follow links
    deployments = {"mitx": "mit_edx", "mitxonline": "mitxonline", "xpro": "xpro"}
    return Environment.model_validate(
        {
            "name": "dev",
            "secrets": {"kind": "local", "file": str(root / "secrets.toml")},
            "objects": {"kind": "folder", "path": str(root / "objects"), "writable": True},
            "tables": {
                "kind": "sql",
                "uri": f"sqlite:///{root / 'tables' / 'catalog.db'}",
                "warehouse": str(root / "tables"),
                "writable": True,
            },
            "engine": {"kind": "duckdb", "writable": True},
            "canvas": [
                {
                    "name": "canvas",
                    "url": f"{campus_url}/canvas",
                    "account_id": 1,
                    "webhook_source": "canvas",
                    "access_token": {"path": "canvas", "key": "access_token"},
                }
            ],
            "openedx": [
                {
                    "name": name,
                    "lms_url": f"{campus_url}/{name}/lms",
                    "studio_url": f"{campus_url}/{name}/studio",
                    "webhook_source": source,
                    "client_id": {"path": f"openedx/{name}", "key": "client_id"},
                    "client_secret": {"path": f"openedx/{name}", "key": "client_secret"},
                }
                for name, source in deployments.items()
            ],
            "learn": {
                "url": f"{campus_url}/learn",
                "secret": {"path": "learn", "key": "webhook_secret"},
                "writable": True,
            },
            "alerts": {"kind": "log", "window_seconds": 300},
            "superset": {
                "url": "http://127.0.0.1:8088",
                "username": {"path": "superset", "key": "username"},
                "password": {"path": "superset", "key": "password"},
                "databases": [],
                "writable": False,
            },
            "orchestration": {
                "attempts": 3,
                "backoff_seconds": 60,
                "batch_size": 500,
                "exports_in_flight": 20,
                "export_deadline_seconds": 4200,
                "retire_share": 0.2,
                "retire_at_least": 3,
            },
        }
    )
