"""The one environment value: which systems this deployment reads, where it writes, and what it may write.

`DAGSTER_ENV` chooses it. `dev` is complete by default and needs no file, no server and no credential: its sources are
the simulated campus, its stores are folders under `OL_DATA_DIR`. The others read `environment.toml`, which states
everything; an unknown or a missing key is an error.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ol_core.failures import PermanentFailure

EnvironmentName = Literal["dev", "ci", "qa", "production"]
SystemName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
"""Lower case letters, digits and single underscores: it becomes a part of asset keys and table names."""

RAW_NAMESPACE = "ol_warehouse_raw_data"
"""Iceberg namespace, asset key prefix and dbt source of the raw tables."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretRef(_Section):
    """Where a secret is; never the secret. Resolved by the `secrets` resource when it is first used."""

    path: str = Field(description="Path of the secret in the backend, such as `openedx/mitx`.")
    key: str = Field(description="Key within the secret, such as `client_secret`.")

    def __str__(self) -> str:
        return f"{self.path}#{self.key}"

    @classmethod
    def parse(cls, text: str) -> "SecretRef":
        """Read `path#key`, as a reference is written in a resource's configuration."""
        path, _, key = text.rpartition("#")
        return cls(path=path, key=key)


class SecretsBackend(_Section):
    """Where secrets are read from."""

    kind: Literal["local", "vault"]
    file: str = Field(default="", description="TOML file of the local backend; `dev` only.")
    url: str = Field(default="", description="Address of Vault or OpenBao.")
    mount: str = Field(default="secret", description="Mount of the key-value engine (version 2).")
    auth: Literal["token", "kubernetes"] = Field(default="token", description="How this process logs in.")
    role: str = Field(default="", description="Role of the Kubernetes login.")


class ObjectStore(_Section):
    """Where file objects are kept."""

    url: str = Field(description="A folder, or an fsspec URL such as `s3://bucket/prefix`.")
    writable: bool


class TableCatalog(_Section):
    """The Iceberg catalog of the raw tables."""

    kind: Literal["sql", "rest", "glue"]
    uri: str = Field(default="", description="Address of the catalog; empty for Glue.")
    warehouse: str = Field(description="Root of the tables' data.")
    writable: bool


class Engine(_Section):
    """The query engine that builds the models."""

    target: Literal["dev", "qa", "production"] = Field(description="Target of the dbt profile.")
    writable: bool


class CanvasInstance(_Section):
    """A Canvas and the account whose courses are read."""

    name: SystemName
    url: HttpUrl
    account_id: int
    access_token: SecretRef


class OpenEdxDeployment(_Section):
    """An Open edX deployment: an LMS and its Studio with the course export plugin."""

    name: SystemName
    lms_url: HttpUrl
    studio_url: HttpUrl
    webhook_source: str = Field(description="How the webhook's receiver calls this deployment.")
    client_id: SecretRef
    client_secret: SecretRef


class WebhookReceiver(_Section):
    """Who is told that content moved."""

    url: HttpUrl
    secret: SecretRef
    writable: bool


class Environment(_Section):
    """Everything that differs between deployments, as one frozen value."""

    name: EnvironmentName
    secrets: SecretsBackend
    objects: ObjectStore
    tables: TableCatalog
    engine: Engine
    canvas: CanvasInstance
    openedx: tuple[OpenEdxDeployment, ...]
    learn: WebhookReceiver


class Settings(BaseSettings):
    """What may be set from outside, by environment variable."""

    model_config = SettingsConfigDict(frozen=True)

    name: str = Field(default="dev", validation_alias="DAGSTER_ENV")
    environment_file: Path | None = Field(default=None, validation_alias="OL_ENVIRONMENT_FILE")
    data_dir: Path = Field(default=Path(".ol"), validation_alias="OL_DATA_DIR", description="Stores of `dev`.")
    campus_url: str = Field(default="http://127.0.0.1:8765", validation_alias="OL_CAMPUS_URL")


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
    if settings.name not in names:
        raise InvalidEnvironment(f"DAGSTER_ENV is {settings.name!r}; valid names are {', '.join(names)}")
    if settings.environment_file is not None:
        return _read(settings.name, settings.environment_file)
    if settings.name == "dev":
        return development(data_dir=settings.data_dir, campus_url=settings.campus_url)
    raise InvalidEnvironment(
        f"DAGSTER_ENV is {settings.name!r} and OL_ENVIRONMENT_FILE is not set; "
        f"point it at that deployment's environment.toml (only `dev` needs no file)"
    )


def _read(name: str, file: Path) -> Environment:
    try:
        stated = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidEnvironment(f"cannot read {file} (OL_ENVIRONMENT_FILE): {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidEnvironment(f"{file} is not TOML: {error}") from error
    if stated.get("name", name) != name:
        raise InvalidEnvironment(f"{file} is for {stated['name']!r} but DAGSTER_ENV is {name!r}; use one name in both")
    try:
        return Environment.model_validate(stated)
    except ValidationError as error:
        problems = [f"  {'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise InvalidEnvironment(f"{file} has {len(problems)} problems:\n" + "\n".join(problems)) from None


def development(*, data_dir: Path, campus_url: str) -> Environment:
    """The `dev` environment: folders under `data_dir`, sources on the simulated campus at `campus_url`."""
    root = Path(os.path.abspath(data_dir))  # noqa: PTH100 - resolve() would read the disk and follow links
    deployments = {"mitx": "mit_edx", "mitxonline": "mitxonline", "xpro": "xpro"}
    return Environment.model_validate(
        {
            "name": "dev",
            "secrets": {"kind": "local", "file": str(root / "secrets.toml")},
            "objects": {"url": str(root / "objects"), "writable": True},
            "tables": {
                "kind": "sql",
                "uri": f"sqlite:///{root / 'tables' / 'catalog.db'}",
                "warehouse": str(root / "tables"),
                "writable": True,
            },
            "engine": {"target": "dev", "writable": True},
            "canvas": {
                "name": "canvas",
                "url": f"{campus_url}/canvas",
                "account_id": 1,
                "access_token": {"path": "canvas", "key": "access_token"},
            },
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
        }
    )
