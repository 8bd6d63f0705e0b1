"""Who connects to a database: an account behind references, or one that Vault leases to this process."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from ol_core.environment import SecretRef
from ol_core.failures import OlError, TransientFailure

if TYPE_CHECKING:
    from ol_core.secrets import Secrets

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """An account of a database.

    Attributes:
        user: Its name.
        password: Its password; never shown.
        origin: Where both are from, for messages.
        grantee: Who is to be granted what it lacks, for messages.
    """

    user: str
    password: str = field(repr=False)
    origin: str
    grantee: str


class Credentials(ABC):
    """Whatever gives accounts to connections."""

    @abstractmethod
    def account(self) -> Account:
        """Return the account that a connection opened now is to use.

        Raises:
            OlError: as `Secrets.get` and `Secrets.database_credentials`.
        """

    def is_current(self, account: Account) -> bool:
        """Tell whether a connection of this account may serve another query."""
        del account
        return True

    def keep(self, account: Account) -> None:
        """Keep the account of a connection in use from ending; never raises."""
        del account

    def replace(self, account: Account) -> bool:
        """Give up an account that the server refused; tell whether there may be another."""
        del account
        return False

    def close(self) -> None:  # noqa: B027 - nothing to give back, unless it was leased
        """Give back what was leased."""


class StatedCredentials(Credentials):
    """An account whose name and password are behind references, read when a connection is opened."""

    def __init__(self, secrets: "Secrets", *, user: SecretRef, password: SecretRef) -> None:
        self._secrets, self._user, self._password = secrets, user, password

    def account(self) -> Account:
        """See `Credentials.account`."""
        user = self._secrets.get(self._user)
        return Account(user, self._secrets.get(self._password), f"secret {self._password}", user)


@dataclass(slots=True)
class _Lease:
    account: Account
    lease_id: str
    seconds: float
    renew_at: float
    ends_at: float
    spent: bool = False


class LeasedCredentials(Credentials):
    """Accounts that Vault makes for this process, one for all its connections at a time.

    The lease is taken when the first connection is opened, renewed when two thirds of it are over, also during a
    stream, and replaced where the server no longer renews it; connections of the former account are then not used
    again.
    """

    def __init__(self, secrets: "Secrets", role: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._secrets, self._role, self._clock = secrets, role, clock
        self._lock = Lock()
        self._lease: _Lease | None = None

    def account(self) -> Account:
        """See `Credentials.account`."""
        with self._lock:
            if self._lease is None or not self._holds(self._lease):
                self._lease = self._taken()
            return self._lease.account

    def is_current(self, account: Account) -> bool:
        """See `Credentials.is_current`."""
        with self._lock:
            return self._lease is not None and self._lease.account is account and self._holds(self._lease)

    def keep(self, account: Account) -> None:
        """See `Credentials.keep`."""
        self.is_current(account)

    def replace(self, account: Account) -> bool:
        """See `Credentials.replace`."""
        with self._lock:
            if self._lease is not None and self._lease.account is account:
                self._lease = None
        return True

    def close(self) -> None:
        """See `Credentials.close`; a lease that cannot be given back ends by itself."""
        with self._lock:
            lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            self._secrets.revoke_lease(lease.lease_id)
        except OlError as error:
            _log.info("the lease of Vault's role %s is left to end by itself: %s", self._role, error)

    def _taken(self) -> _Lease:
        given, now = self._secrets.database_credentials(self._role), self._clock()
        origin = f"the role {self._role} of Vault"
        grantee = f"its accounts, in the creation statements of Vault's role {self._role}"
        return _Lease(
            account=Account(given.username, given.password, origin, grantee),
            lease_id=given.lease_id,
            seconds=given.lease_seconds,
            renew_at=now + given.lease_seconds * 2 / 3,
            ends_at=now + given.lease_seconds,
        )

    def _holds(self, lease: _Lease) -> bool:
        """Tell whether a lease has time left; renew it where that is due."""
        if self._clock() < lease.renew_at:
            return True
        if lease.spent:
            return False
        try:
            seconds = self._secrets.renew_lease(lease.lease_id)
        except TransientFailure as error:
            _log.warning("the lease of Vault's role %s could not be renewed yet: %s", self._role, error)
            left = lease.ends_at - self._clock()
            lease.renew_at = self._clock() + left * 2 / 3  # a stream asks with every batch
            return left > 0
        except OlError as error:
            _log.warning("the lease of Vault's role %s is replaced: %s", self._role, error)
            lease.spent = True
            return False
        lease.ends_at = self._clock() + seconds
        lease.spent = seconds <= lease.seconds / 2  # what Vault allows at most is almost over
        if not lease.spent:
            lease.renew_at = self._clock() + seconds * 2 / 3
        return not lease.spent
