"""What an environment states, section by section: frozen models, none of whose keys has a default."""

import re
from collections import Counter
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, StringConstraints, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

EnvironmentName = Literal["dev", "ci", "qa", "production"]
SystemName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
"""Lower case letters, digits and single underscores: it becomes a part of asset keys and table names."""
Text = Annotated[str, StringConstraints(min_length=1)]
Prefix = Annotated[str, StringConstraints(pattern=r"^([^/]|[^/].*[^/])?$")]

_SHOWN = "must hold no password: it would be shown; state a secret's path, or let the driver find it"
_SQL_LOGIN = re.compile(r"[^:]*://[^:/]*:[^@]*@")
"""A name and a password as SQLAlchemy reads them: to it, `/`, `?` and `#` before an `@` are part of the password."""


def _no_password(address: str | HttpUrl) -> str | HttpUrl:
    parts = urlsplit(str(address))
    if parts.password is not None or any(re.search("passw|pwd", key.lower()) for key in parse_qs(parts.query)):
        raise ValueError(_SHOWN)
    return address


def _no_sql_password(address: str) -> str:
    if _SQL_LOGIN.match(address):
        raise ValueError(_SHOWN)
    _no_password(address)
    return address


Address = Annotated[HttpUrl, AfterValidator(_no_password)]
"""An http or https address without a password."""

Writable = Annotated[
    bool, Field(description="Whether this environment may write here; where false, every write is an error.")
]

RAW_NAMESPACE = "ol_warehouse_raw_data"
"""Iceberg namespace, asset key prefix and dbt source of the raw tables."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="forbid", hide_input_in_errors=True)


class SecretRef(_Section):
    """Where a secret is; never the secret. Resolved by the `secrets` resource when it is first used."""

    path: Text = Field(description="Path of the secret in the backend, such as `openedx/mitx`.")
    key: Annotated[str, StringConstraints(pattern="^[^#]+$")] = Field(
        description="Key within the secret, such as `client_secret`."
    )

    def __str__(self) -> str:
        return f"{self.path}#{self.key}"

    @classmethod
    def parse(cls, text: str) -> "SecretRef":
        """Read `path#key`, as a reference is written in a resource's configuration.

        Raises:
            ValueError: the path or the key is missing.
        """
        path, _, key = text.rpartition("#")
        if not path or not key:
            raise ValueError(f"{text!r} refers to no secret; write its path, `#` and its key")
        return cls(path=path, key=key)


class TokenAuth(_Section):
    """Login with the token of `VAULT_TOKEN`, or of the file that `vault login` writes."""

    method: Literal["token"]


class KubernetesAuth(_Section):
    """Login with the pod's service account."""

    method: Literal["kubernetes"]
    role: Text = Field(description="Role of the login.")
    mount: Text = Field(description="Mount of the auth method.")
    token_file: Text = Field(description="File that holds the service account's token.")


class AppRoleAuth(_Section):
    """Login with a role id and a secret id."""

    method: Literal["approle"]
    role_id: Text = Field(description="Id of the role; not a secret.")
    secret_id_file: Text = Field(description="File that holds the secret id.")
    mount: Text = Field(description="Mount of the auth method.")


class JwtAuth(_Section):
    """Login with a JSON web token from a file or a variable."""

    method: Literal["jwt"]
    role: Text = Field(description="Role of the login.")
    mount: Text = Field(description="Mount of the auth method.")
    token_file: str = Field(description="File that holds the token; empty where a variable does.")
    token_variable: str = Field(description="Environment variable that holds the token; empty where a file does.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.token_file) == bool(self.token_variable):
            raise ValueError("state either token_file or token_variable, and leave the other empty")
        return self


class OidcAuth(_Section):
    """Login of a person in the browser, by `ol secrets login`."""

    method: Literal["oidc"]
    role: str = Field(description="Role of the login; empty for the mount's default role.")
    mount: Text = Field(description="Mount of the auth method.")


class AwsAuth(_Section):
    """Login with the AWS identity of the process."""

    method: Literal["aws"]
    role: Text = Field(description="Role of the login.")
    mount: Text = Field(description="Mount of the auth method.")
    region: Text = Field(description="Region of the STS endpoint that vouches.")


VaultAuth = Annotated[
    TokenAuth | KubernetesAuth | AppRoleAuth | JwtAuth | OidcAuth | AwsAuth, Field(discriminator="method")
]


class LocalSecretsBackend(_Section):
    """Secrets in a file; `dev` only."""

    kind: Literal["local"]
    file: Text = Field(description="TOML file: one table per path, one value per key.")


class VaultBackend(_Section):
    """Secrets in HashiCorp Vault or OpenBao."""

    kind: Literal["vault"]
    url: Address = Field(description="Address of the server.")
    mount: Text = Field(description="Mount of the key-value engine.")
    database_mount: Text = Field(description="Mount of the engine that leases credentials of databases.")
    namespace: str = Field(description="Namespace; empty for none.")
    ca_file: str = Field(description="Certificates that vouch for the server; empty for those of the system.")
    auth: VaultAuth = Field(description="How this process logs in.")


SecretsBackend = Annotated[LocalSecretsBackend | VaultBackend, Field(discriminator="kind")]


class FolderStore(_Section):
    """File objects in a folder."""

    kind: Literal["folder"]
    path: Text = Field(description="The folder.")
    writable: Writable

    @property
    def url(self) -> str:
        """Root of the objects."""
        return self.path


class S3Store(_Section):
    """File objects in S3; credentials are those of the AWS SDK's own chain."""

    kind: Literal["s3"]
    bucket: Text = Field(description="Name of the bucket.")
    prefix: Prefix = Field(description="Key prefix without slashes at its ends; empty for none.")
    region: Text = Field(description="Region of the bucket.")
    endpoint_url: Annotated[str, AfterValidator(_no_password)] = Field(
        description="Address of a server other than AWS's; empty for AWS."
    )
    writable: Writable

    @property
    def url(self) -> str:
        """Root of the objects."""
        return "/".join(filter(None, (f"s3://{self.bucket}", self.prefix)))


class GcsStore(_Section):
    """File objects in Google Cloud Storage; credentials are those of the SDK's own chain."""

    kind: Literal["gcs"]
    bucket: Text = Field(description="Name of the bucket.")
    prefix: Prefix = Field(description="Key prefix without slashes at its ends; empty for none.")
    writable: Writable

    @property
    def url(self) -> str:
        """Root of the objects."""
        return "/".join(filter(None, (f"gs://{self.bucket}", self.prefix)))


ObjectStore = Annotated[FolderStore | S3Store | GcsStore, Field(discriminator="kind")]


class SqlCatalog(_Section):
    """An Iceberg catalog in a SQL database; SQLite on a laptop."""

    kind: Literal["sql"]
    uri: Annotated[Text, AfterValidator(_no_sql_password)] = Field(
        description="SQLAlchemy address, without a password."
    )
    warehouse: Text = Field(description="Root of the tables' data.")
    writable: Writable


class RestCatalog(_Section):
    """An Iceberg REST catalog."""

    kind: Literal["rest"]
    uri: Address = Field(description="Address of the catalog.")
    warehouse: Text = Field(description="Name or root of the warehouse, as the catalog knows it.")
    credential: SecretRef = Field(description="OAuth2 credential, `id:secret`.")
    oauth2_server_uri: Address = Field(description="Where the credential is exchanged for a token.")
    s3_endpoint_url: Annotated[str, AfterValidator(_no_password)] = Field(
        description="Address of an S3 server other than AWS's; empty for AWS."
    )
    region: Text = Field(description="Region of the tables' bucket.")
    writable: Writable


class GlueCatalog(_Section):
    """The AWS Glue catalog."""

    kind: Literal["glue"]
    region: Text = Field(description="Region of the catalog and of the tables' bucket.")
    warehouse: Text = Field(description="Root of the tables' data, `s3://...`.")
    writable: Writable


TableCatalog = Annotated[SqlCatalog | RestCatalog | GlueCatalog, Field(discriminator="kind")]


class DuckDbEngine(_Section):
    """The embedded engine; its one file lies in the data folder."""

    kind: Literal["duckdb"]
    writable: Writable


class TrinoEngine(_Section):
    """The distributed engine."""

    kind: Literal["trino"]
    host: Text = Field(description="Host name of the coordinator.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(description="Its port, over HTTPS.")
    catalog: Text = Field(description="Catalog of the models and the raw tables.")
    schema_base: str = Field(description="What the models' schemas begin with; empty for their bare names.")
    user: Text = Field(description="User that builds the models.")
    password: SecretRef = Field(description="Password of that user.")
    writable: Writable


Engine = Annotated[DuckDbEngine | TrinoEngine, Field(discriminator="kind")]


class CanvasInstance(_Section):
    """A Canvas and the account whose courses are read."""

    name: SystemName = Field(description="Its name in asset keys and table names.")
    url: Address = Field(description="Address of the instance.")
    account_id: int = Field(description="Id of the account whose courses are read.")
    webhook_source: Text = Field(description="How the webhook's receiver calls this instance.")
    access_token: SecretRef = Field(description="Token of the API.")


class OpenEdxDeployment(_Section):
    """An Open edX deployment: an LMS and its Studio with the course export plugin."""

    name: SystemName = Field(description="Its name in asset keys and table names.")
    lms_url: Address = Field(description="Address of the LMS.")
    studio_url: Address = Field(description="Address of Studio.")
    webhook_source: Text = Field(description="How the webhook's receiver calls this deployment.")
    client_id: SecretRef = Field(description="Id of the OAuth2 client.")
    client_secret: SecretRef = Field(description="Secret of the OAuth2 client.")


AlertWindow = Annotated[
    int, Field(ge=60, description="Failures of one step and kind within so many seconds are one message.")
]


class WebhookReceiver(_Section):
    """Who is told that content moved."""

    url: Address = Field(description="Address of the receiver.")
    secret: SecretRef = Field(description="Shared secret of the signature.")
    writable: bool = Field(description="Whether this environment may tell it; where false, no webhook is requested.")


class LogAlerts(_Section):
    """Failures are told in the log of the sensor that finds them."""

    kind: Literal["log"]
    window_seconds: AlertWindow


class WebhookAlerts(_Section):
    """Failures are told to a receiver of signed webhooks."""

    kind: Literal["webhook"]
    window_seconds: AlertWindow
    url: Address = Field(description="Where each message is posted.")
    secret: SecretRef = Field(description="Shared secret of the signature.")
    writable: Writable


Alerts = Annotated[LogAlerts | WebhookAlerts, Field(discriminator="kind")]


class SupersetInstance(_Section):
    """The dashboards, and the databases in them whose datasets follow the models."""

    url: Address = Field(description="Address of Superset.")
    username: SecretRef = Field(description="User of the API.")
    password: SecretRef = Field(description="Password of that user.")
    databases: tuple[Text, ...] = Field(strict=False, description="Names of the databases, as Superset knows them.")
    writable: Writable


class Orchestration(_Section):
    """How often, how soon and how much at once the source systems are asked for exports."""

    attempts: Annotated[int, Field(ge=1)] = Field(
        description="Attempts for one partition and wanted version, where its failures are transient."
    )
    backoff_seconds: Annotated[float, Field(ge=0)] = Field(
        description="Shortest pause before the second attempt; it doubles with each further one."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(description="Most partitions of one run.")
    exports_in_flight: Annotated[int, Field(ge=1)] = Field(
        description="Most exports that one source system works on at once."
    )
    export_deadline_seconds: Annotated[float, Field(gt=0)] = Field(
        description="How long to wait for one export, from its submission on."
    )
    retire_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="Largest share of a source's partitions that is believed to be gone at once."
    )
    retire_at_least: Annotated[int, Field(ge=0)] = Field(
        description="So many are believed to be gone at once though their share is larger, up to half of all."
    )


_Named = TypeVar("_Named", CanvasInstance, OpenEdxDeployment)


def _told_apart(systems: tuple[_Named, ...]) -> tuple[_Named, ...]:
    twice = [name for name, count in Counter(one.name for one in systems).items() if count > 1]
    if twice:
        raise ValueError(f"names must differ; twice or more: {', '.join(twice)}")
    return systems


class Environment(BaseSettings):
    """Everything that differs between deployments, as one frozen value."""

    model_config = SettingsConfigDict(
        frozen=True, strict=True, allow_inf_nan=False, extra="forbid", hide_input_in_errors=True
    )

    name: EnvironmentName
    secrets: SecretsBackend
    objects: ObjectStore
    tables: TableCatalog
    engine: Engine
    canvas: Annotated[tuple[CanvasInstance, ...], Field(strict=False), AfterValidator(_told_apart)]
    openedx: Annotated[tuple[OpenEdxDeployment, ...], Field(strict=False), AfterValidator(_told_apart)]
    learn: WebhookReceiver
    alerts: Alerts
    superset: SupersetInstance
    orchestration: Orchestration

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the file alone, never from variables."""
        del settings_cls
        return (init_settings,)
