"""The `secrets` resource: values behind `SecretRef`s, read when first used and never while loading."""

import time
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from ol_core.environment import Environment, SecretRef
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing

if TYPE_CHECKING:
    import hvac

_READ_TTL_SECONDS = 300.0
_KUBERNETES_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Secrets(dg.ConfigurableResource[Any], ABC):
    """Whatever resolves references."""

    @abstractmethod
    def get(self, ref: SecretRef) -> str:
        """Return the value behind a reference.

        Raises:
            UpstreamMissing: the path or the key does not exist.
            PermanentFailure: the backend refuses; the message names path and key, never a value.
        """


class LocalSecrets(Secrets):
    """Secrets of `dev`, from a TOML file: a table a path, a value a key."""

    file: str = Field(description='TOML file with a table for each path, such as `["openedx/mitx"]`.')
    environment: Literal["dev"] = Field(default="dev", description="The only environment that may use a file.")

    def get(self, ref: SecretRef) -> str:
        """Return the value behind a reference; see `Secrets.get`."""
        try:
            tables = tomllib.loads(Path(self.file).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UpstreamMissing(
                f"secret {ref}: there is no file {self.file}; `ol dev` and `ol demo` write it, "
                f'or write it yourself: ["{ref.path}"] and {ref.key} = "..."'
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise PermanentFailure(f"secret {ref}: {self.file} is not TOML (line and column in its parser)") from error
        value = tables.get(ref.path, {}).get(ref.key)
        if not isinstance(value, str):
            raise UpstreamMissing(f'secret {ref}: {self.file} has no text value {ref.key} under ["{ref.path}"]')
        return value


class Vault(Secrets):
    """Secrets from HashiCorp Vault or OpenBao, key-value engine version 2.

    Nothing is asked before the first `get`. The login is renewed by logging in again at two thirds of its lifetime, and
    once more when the server answers 403. Needs the `vault` extra of ol-core.
    """

    url: str = Field(description="Address of the server.")
    mount: str = Field(default="secret", description="Mount of the key-value engine (version 2).")
    auth: Literal["token", "kubernetes"] = Field(default="token", description="Login: VAULT_TOKEN, or service account.")
    role: str = Field(default="", description="Role of the Kubernetes login.")

    _client: "hvac.Client | None" = PrivateAttr(default=None)
    _login_again_at: float = PrivateAttr(default=0.0)
    _cache: dict[str, tuple[float, dict[str, str]]] = PrivateAttr(default_factory=dict)

    def get(self, ref: SecretRef) -> str:
        """Return the value behind a reference; see `Secrets.get`."""
        values = self._read(ref)
        if ref.key not in values:
            raise UpstreamMissing(
                f"secret {ref}: {self.mount}/{ref.path} has no key {ref.key}; it has {', '.join(sorted(values))}"
            )
        return values[ref.key]

    def _read(self, ref: SecretRef) -> dict[str, str]:
        import hvac.exceptions
        import requests

        read_at, values = self._cache.get(ref.path, (float("-inf"), {}))
        if time.monotonic() - read_at < _READ_TTL_SECONDS:
            return values
        try:
            try:
                answer = self._ask(ref.path)
            except hvac.exceptions.Forbidden:
                self._login_again_at = 0.0
                answer = self._ask(ref.path)
        except hvac.exceptions.InvalidPath as error:
            raise UpstreamMissing(f"secret {ref}: {self.mount}/{ref.path} does not exist at {self.url}") from error
        except hvac.exceptions.Forbidden as error:
            raise PermanentFailure(
                f"secret {ref}: {self.url} refuses {self.mount}/{ref.path} to auth={self.auth} "
                f"role={self.role or '-'}; grant it `read` on {self.mount}/data/{ref.path}"
            ) from error
        except (hvac.exceptions.VaultError, requests.RequestException) as error:
            raise TransientFailure(f"secret {ref}: {self.url} did not answer ({type(error).__name__})") from error
        values = dict(answer["data"]["data"])
        self._cache[ref.path] = (time.monotonic(), values)
        return values

    def _ask(self, path: str) -> Mapping[str, Any]:
        engine = self._logged_in().secrets.kv.v2
        answer: Mapping[str, Any] = engine.read_secret_version(
            path, mount_point=self.mount, raise_on_deleted_version=True
        )
        return answer

    def _logged_in(self) -> "hvac.Client":
        import hvac

        if self._client is not None and time.monotonic() < self._login_again_at:
            return self._client
        client = hvac.Client(url=self.url)  # reads VAULT_TOKEN, VAULT_NAMESPACE and VAULT_CACERT itself
        lifetime_seconds = 3600.0
        if self.auth == "kubernetes":
            jwt = _KUBERNETES_TOKEN.read_text(encoding="utf-8")
            answer = client.auth.kubernetes.login(role=self.role, jwt=jwt)
            lifetime_seconds = float(answer["auth"]["lease_duration"])
        self._client = client
        self._login_again_at = time.monotonic() + lifetime_seconds * 2 / 3
        return client


@lru_cache(maxsize=8)
def secrets_resource(environment: Environment) -> Secrets:
    """Build the `secrets` resource that an environment asks for.

    Raises:
        PermanentFailure: the environment keeps its secrets in a local file outside `dev`.
    """
    backend = environment.secrets
    if backend.kind == "vault":
        role = backend.auth.role if backend.auth.method == "kubernetes" else ""
        return Vault(url=str(backend.url), mount=backend.mount, auth="kubernetes" if role else "token", role=role)
    if environment.name != "dev":
        raise PermanentFailure(f"environment {environment.name!r} keeps secrets in a local file; only `dev` may")
    return LocalSecrets(file=backend.file)
