"""The resource that resolves references, for `dev` and for every other environment."""

import json
import logging
import stat
import tomllib
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from ol_core.environment import Environment, SecretRef, Settings, VaultBackend
from ol_core.failures import PermanentFailure, UpstreamMissing
from ol_core.secrets.vault import DatabaseCredentials, VaultClient

_log = logging.getLogger(__name__)


class Secrets(dg.ConfigurableResource[Any], ABC):
    """Whatever resolves references."""

    @abstractmethod
    def get(self, ref: SecretRef) -> str:
        """Return the value behind a reference.

        Raises:
            UpstreamMissing: the path or the key does not exist.
            PermanentFailure: the backend refuses; the message names path and key, never a value.
            TransientFailure: the backend is down.
        """

    @abstractmethod
    def database_credentials(self, role: str) -> DatabaseCredentials:
        """Take credentials of a database that are made for this process, under a lease that begins now.

        Raises:
            OlError: as `get`.
        """

    @abstractmethod
    def renew_lease(self, lease_id: str) -> float:
        """Renew the lease of such credentials; return for how many seconds it is valid from now.

        Raises:
            OlError: as `get`; the lease is over, or may not be renewed.
        """

    @abstractmethod
    def revoke_lease(self, lease_id: str) -> None:
        """Give the lease of such credentials back; they are no longer valid.

        Raises:
            OlError: as `get`.
        """


class LocalSecrets(Secrets):
    """Secrets of `dev`, from a TOML file: one table per path, one value per key. It refuses every other environment."""

    file: str = Field(description='TOML file with a table for each path, such as `["openedx/mitx"]`.')

    def get(self, ref: SecretRef) -> str:
        """Return the value behind a reference; see `Secrets.get`."""
        _require_dev(Settings().name)
        file = Path(self.file)
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
            _warn_where_others_may_read(file)
        except FileNotFoundError as error:
            raise UpstreamMissing(
                f"secret {ref}: there is no file {self.file}; `ol dev` and `ol demo` write it, "
                f'or write it yourself: ["{ref.path}"] and {ref.key} = "..."'
            ) from error
        except OSError as error:
            raise PermanentFailure(f"secret {ref}: cannot read {self.file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # their messages may quote the line
            raise PermanentFailure(f'secret {ref}: {self.file} is not TOML; write each value as key = "..."') from None
        values = tables.get(ref.path, {})
        value = values.get(ref.key) if isinstance(values, dict) else None
        if not isinstance(value, str):
            raise UpstreamMissing(f'secret {ref}: {self.file} has no text value {ref.key} under ["{ref.path}"]')
        return value

    def database_credentials(self, role: str) -> DatabaseCredentials:
        """Refuse: a file leases nothing."""
        raise PermanentFailure(f"credentials of {role}: a local file leases none; give the database a SecretRef")

    def renew_lease(self, lease_id: str) -> float:
        """Refuse: a file leases nothing."""
        raise PermanentFailure(f"the lease {lease_id}: a local file leases nothing")

    def revoke_lease(self, lease_id: str) -> None:
        """Refuse: a file leases nothing."""
        raise PermanentFailure(f"the lease {lease_id}: a local file leases nothing")


def _require_dev(name: str) -> None:
    if name != "dev":
        raise PermanentFailure(f"environment {name!r} keeps secrets in a local file; only `dev` may, use Vault there")


@lru_cache
def _warn_where_others_may_read(file: Path) -> None:
    """Warn once for each file."""
    if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        _log.warning("%s holds secrets and others may read it; run `chmod 600 %s`", file, file)


class Vault(Secrets):
    """Secrets from HashiCorp Vault or OpenBao, key-value engine version 1 or 2.

    Nothing is asked before the first `get`; all copies that Dagster makes of this resource share one login of their
    process. Needs the `vault` extra of ol-core, and `aws` for the login by AWS identity.
    """

    url: str = Field(description="Address of the server.")
    mount: str = Field(default="secret", description="Mount of the key-value engine.")
    database_mount: str = Field(default="database", description="Mount of the engine that leases databases.")
    namespace: str = Field(default="", description="Namespace; empty for none.")
    ca_file: str = Field(default="", description="Certificates that vouch for the server; empty for the system's.")
    auth: dict[str, str] = Field(
        default={"method": "token"}, description="How this process logs in, as `[secrets.auth]` of the environment."
    )

    def get(self, ref: SecretRef) -> str:
        """Return the value behind a reference; see `Secrets.get`."""
        return self.client.read(ref)

    def database_credentials(self, role: str) -> DatabaseCredentials:
        """Take credentials of a database; see `Secrets.database_credentials`."""
        return self.client.database_credentials(role)

    def renew_lease(self, lease_id: str) -> float:
        """Renew a lease; see `Secrets.renew_lease`."""
        return self.client.renew_lease(lease_id)

    def revoke_lease(self, lease_id: str) -> None:
        """Give a lease back; see `Secrets.revoke_lease`."""
        self.client.revoke_lease(lease_id)

    @property
    def client(self) -> VaultClient:
        """The process's client of this server."""
        stated = {
            name: getattr(self, name) for name in ("url", "mount", "database_mount", "namespace", "ca_file", "auth")
        }
        return _client(json.dumps({"kind": "vault", **stated}, sort_keys=True))


@lru_cache(maxsize=8)
def _client(stated: str) -> VaultClient:
    return VaultClient(VaultBackend.model_validate_json(stated))


@lru_cache(maxsize=8)
def secrets_resource(environment: Environment) -> Secrets:
    """Build the `secrets` resource that an environment asks for.

    Raises:
        PermanentFailure: the environment keeps its secrets in a local file outside `dev`.
    """
    backend = environment.secrets
    if backend.kind == "vault":
        stated = backend.model_dump(mode="json", exclude={"kind"})
        return Vault(**stated)
    _require_dev(environment.name)
    return LocalSecrets(file=backend.file)
