"""A client of HashiCorp Vault or OpenBao, shared by all threads of a process."""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from ol_core.environment import SecretRef, VaultBackend
from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.secrets.login import Grant, described, granted, log_in, log_in_person

if TYPE_CHECKING:
    import hvac

    from ol_core.secrets.callback import Browser

T = TypeVar("T")

_log = logging.getLogger(__name__)

READ_TTL_SECONDS = 300.0
"""How long a secret that was read counts as current."""

_TIMEOUT_SECONDS = 30


class AccessRefused(PermanentFailure):
    """The server refuses the login, or what it asks for."""


@dataclass(frozen=True, slots=True)
class DatabaseCredentials:
    """Credentials of a database that Vault made for this process.

    Attributes:
        username: Name of the account.
        password: Its password; never shown.
        lease_id: What Vault calls the lease.
        lease_seconds: How long the credentials are valid from when they were made.
    """

    username: str
    password: str = field(repr=False)
    lease_id: str
    lease_seconds: float


class VaultClient:
    """Reads secrets and takes leases; asks nothing before its first use.

    A login is renewed when two thirds of its lifetime are over, by one thread for all, and used to its end where that
    fails; a 403 is answered by one new login, since a token may have been revoked. What was read is kept for
    `READ_TTL_SECONDS`.
    """

    def __init__(
        self,
        backend: VaultBackend,
        *,
        clock: Callable[[], float] = time.monotonic,
        variables: Mapping[str, str] = os.environ,
    ) -> None:
        self._backend, self._clock, self._variables = backend, clock, variables
        self._login = RLock()
        self._reads: dict[str, RLock] = defaultdict(RLock)
        self._cache: dict[str, tuple[float, dict[str, Any]]] = {}
        self._versions: dict[str, int] = {}
        self._client: hvac.Client | None = None
        self._grant: Grant | None = None
        self._renew_at = self._ends_at = float("inf")

    def read(self, ref: SecretRef) -> str:
        """Return the value behind a reference.

        Raises:
            UpstreamMissing: the path or the key does not exist.
            AccessRefused: the login is refused, or its policy does not allow it.
            PermanentFailure: the value is not text, or the server refuses the request.
            TransientFailure: the server is down, sealed or unreachable.
        """
        values = self._values(ref)
        if ref.key not in values:
            has = ", ".join(sorted(values)) or "no key at all"
            raise UpstreamMissing(f"secret {ref}: {self._backend.mount}/{ref.path} has no key {ref.key}; it has {has}")
        value = values[ref.key]
        if not isinstance(value, str):
            raise PermanentFailure(f"secret {ref}: the value is a {type(value).__name__}; write it as text")
        return value

    def database_credentials(self, role: str) -> DatabaseCredentials:
        """Take new credentials of a database; take them when connecting, since their lease begins now.

        Raises:
            OlError: as `read`.
        """
        path = f"{self._backend.database_mount}/creds/{role}"
        with self._translated(f"credentials of {path}", path):
            answer = self._read(path)
            if answer is None:
                raise UpstreamMissing(f"credentials of {path}: there is no such role at {self._backend.url}")
            data = answer["data"]
            return DatabaseCredentials(
                username=str(data["username"]),
                password=str(data["password"]),
                lease_id=str(answer["lease_id"]),
                lease_seconds=float(answer["lease_duration"]),
            )

    def renew_lease(self, lease_id: str) -> float:
        """Renew a lease; return for how many seconds it is valid from now."""
        with self._translated(f"the lease {lease_id}", "sys/leases/renew", grant="update"):
            answer = self._asked(lambda client: client.sys.renew_lease(lease_id))
            return float(answer["lease_duration"])

    def revoke_lease(self, lease_id: str) -> None:
        """Give a lease back; its credentials are no longer valid."""
        with self._translated(f"the lease {lease_id}", "sys/leases/revoke", grant="update"):
            self._asked(lambda client: client.sys.revoke_lease(lease_id))

    def log_in_person(self, browser: "Browser") -> Path:
        """Log a person in; return the file that keeps the token for this user alone.

        Raises:
            OlError: as `read`; also where the environment logs in by another method, or nobody comes.
        """
        login = described(self._backend.auth)
        with self._translated(login, login), self._admitted():
            return log_in_person(self._new_client(), self._backend, browser, self._variables)

    def _values(self, ref: SecretRef) -> dict[str, Any]:
        with self._reads[ref.path]:
            read_at, values = self._cache.get(ref.path, (float("-inf"), {}))
            if self._clock() - read_at < READ_TTL_SECONDS:
                return values
            mount = self._backend.mount
            with self._translated(f"secret {ref}", f"{mount}/{ref.path}", policy=lambda: self._policy(ref)):
                version = self._version(mount)
                path = f"{mount}/data/{ref.path}" if version > 1 else f"{mount}/{ref.path}"
                answer = self._read(path)
                data = answer["data"] if answer else None
                stored: dict[str, Any] | None = data.get("data") if data and version > 1 else data
            if stored is None:  # no such path, or its newest version is deleted
                raise UpstreamMissing(f"secret {ref}: {mount}/{ref.path} does not exist at {self._backend.url}")
            self._cache[ref.path] = (self._clock(), stored)
            return stored

    def _policy(self, ref: SecretRef) -> str:
        """Return the path that a policy must name for a secret to be read."""
        mount = self._backend.mount
        plain, versioned = f"{mount}/{ref.path}", f"{mount}/data/{ref.path}"
        if mount not in self._versions:  # who may read nothing of a mount is not told its version
            return f"{versioned} ({plain} where the engine is of version 1)"
        return versioned if self._versions[mount] > 1 else plain

    def _version(self, mount: str) -> int:
        """Return the version of a key-value engine; asked once."""
        if mount not in self._versions:
            answer = self._read(f"sys/internal/ui/mounts/{mount}") or {}
            options = answer.get("data", {}).get("options") or {}
            self._versions[mount] = int(options.get("version", 1))
        return self._versions[mount]

    def _read(self, path: str) -> dict[str, Any] | None:
        """Return the answer to reading a path; None where nothing is there."""
        answer: Any = self._asked(lambda client: client.read(quote(path)))
        return answer  # type: ignore[no-any-return]  # hvac's types add what it answers to HEAD

    def _asked(self, ask: Callable[["hvac.Client"], T]) -> T:
        """Ask with a valid login; once more, with a new one, where the server refuses this one."""
        import hvac.exceptions

        client, grant = self._logged_in()
        try:
            return ask(client)
        except hvac.exceptions.Forbidden:
            client, newer = self._logged_in(refused=grant)
            if newer.token == grant.token:
                raise
            return ask(client)

    def _logged_in(self, refused: Grant | None = None) -> tuple["hvac.Client", Grant]:
        """Return a client with a login that is valid and not the refused one; one thread logs in for all."""
        with self._login:
            if self._client is None:
                self._client = self._new_client()
            grant = self._grant
            if grant is None or grant is refused:
                grant = self._keep(self._log_in(self._client))
            elif self._clock() >= self._renew_at:
                grant = self._keep(self._renewed(self._client, grant))
            return self._client, grant

    def _renewed(self, client: "hvac.Client", grant: Grant) -> Grant:
        """Return a newer login; where there is none yet, what is left of the one that there is."""
        import hvac.exceptions
        import requests

        try:
            return self._renewed_or_new(client, grant)
        except (hvac.exceptions.VaultError, requests.RequestException, OlError) as error:
            left = self._ends_at - self._clock()
            if left <= 0:
                raise
            _log.warning("the %s cannot be renewed yet: %s", described(self._backend.auth), type(error).__name__)
            return replace(grant, lifetime_seconds=left)

    def _renewed_or_new(self, client: "hvac.Client", grant: Grant) -> Grant:
        import hvac.exceptions

        if grant.renewable:
            try:
                renewed = granted(client.auth.token.renew_self())
            except (hvac.exceptions.Forbidden, hvac.exceptions.InvalidRequest):  # revoked, expired, or at its last
                renewed = grant
            if renewed is not grant and renewed.lifetime_seconds > grant.lifetime_seconds / 2:
                return renewed
        return self._log_in(client)

    def _log_in(self, client: "hvac.Client") -> Grant:
        with self._admitted():
            return log_in(client, self._backend, self._variables)

    def _keep(self, grant: Grant) -> Grant:
        assert self._client is not None  # noqa: S101 - for the type checker
        self._client.token = grant.token
        now, lifetime = self._clock(), grant.lifetime_seconds or float("inf")
        self._renew_at, self._ends_at = now + lifetime * 2 / 3, now + lifetime
        self._grant = grant
        return grant

    def _new_client(self) -> "hvac.Client":
        import hvac

        ca_file = self._backend.ca_file
        if ca_file and not Path(ca_file).exists():
            raise PermanentFailure(f"there is no secrets.ca_file {ca_file}; write the certificates there")
        return hvac.Client(
            url=str(self._backend.url).rstrip("/"),
            token="",
            namespace=self._backend.namespace or None,
            verify=ca_file or True,
            timeout=_TIMEOUT_SECONDS,
            strict_http=True,
        )

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Translate how the server refuses a login."""
        import hvac.exceptions

        refusals = hvac.exceptions
        try:
            yield
        except (refusals.Forbidden, refusals.InvalidPath, refusals.InvalidRequest, refusals.Unauthorized) as error:
            raise AccessRefused(
                f"{self._backend.url} refuses the {described(self._backend.auth)}: {_reasons(error)}; check that the "
                "mount is enabled, that the role exists, and that it admits who logs in"
            ) from error

    @contextmanager
    def _translated(
        self, what: str, path: str, *, grant: str = "read", policy: Callable[[], str] | None = None
    ) -> Iterator[None]:
        """Translate what the server, or the way to it, answers; no message holds a value or a token."""
        import hvac.exceptions
        import requests

        url, login = self._backend.url, described(self._backend.auth)
        try:
            yield
        except hvac.exceptions.InvalidPath as error:
            raise UpstreamMissing(f"{what}: {path} does not exist at {url}") from error
        except hvac.exceptions.Forbidden as error:
            named = policy() if policy else path
            raise AccessRefused(
                f"{what}: {url} refuses {path} to the {login}; grant it `{grant}` on {named}, or log in anew"
            ) from error
        except (hvac.exceptions.InvalidRequest, hvac.exceptions.Unauthorized) as error:
            raise PermanentFailure(f"{what}: {url} refuses the request: {_reasons(error)}") from error
        except hvac.exceptions.VaultDown as error:
            raise TransientFailure(f"{what}: {url} is sealed or in maintenance; unseal it") from error
        except hvac.exceptions.VaultError as error:
            raise TransientFailure(f"{what}: {url} failed ({type(error).__name__}: {_reasons(error)})") from error
        except requests.exceptions.SSLError as error:
            raise PermanentFailure(f"{what}: the certificate of {url} is not trusted; set secrets.ca_file") from error
        except requests.RequestException as error:
            raise TransientFailure(f"{what}: {url} did not answer ({type(error).__name__})") from error
        except (AttributeError, LookupError, TypeError, ValueError):  # a page, or other JSON; it may hold anything
            raise PermanentFailure(f"{what}: {url} does not answer as Vault does; correct secrets.url") from None


def _reasons(error: Exception) -> str:
    reasons = getattr(error, "errors", None) or ["no reason given"]
    return "; ".join(str(reason).strip() for reason in reasons)
