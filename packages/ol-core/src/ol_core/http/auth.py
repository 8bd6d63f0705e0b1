"""How requests are authenticated. A credential is sent to the origin that a client was made for, and nowhere else."""

import copy
import re
import threading
import time
from collections.abc import Callable, Generator

import httpx
from pydantic import BaseModel, Field, TypeAdapter

from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http.answers import NotActedOn, described, failure, read_json
from ol_core.http.deadlines import deadline
from ol_core.http.redaction import redact_url

_FITS_A_HEADER = re.compile(r"[!-~]+")
_EARLY_SECONDS = 60.0


class _Grant(BaseModel):
    access_token: str
    expires_in: float = Field(default=300.0, allow_inf_nan=False)


_GRANT = TypeAdapter(_Grant)


class BearerAuth(httpx.Auth):
    """Sends a fixed token as `Authorization: Bearer`."""

    def __init__(self, token: str) -> None:
        if not _FITS_A_HEADER.fullmatch(token):
            raise PermanentFailure(
                "the access token is empty or holds a character that no header can carry, such as a line break; "
                "store the bare token"
            )
        self._header = f"Bearer {token}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        request.headers["Authorization"] = self._header
        yield request


class ClientCredentialsAuth(httpx.Auth):
    """Open edX's JWT for a client's credentials (`POST {lms}/oauth2/access_token`).

    One thread asks for a token while the others wait, and share what it gets: the token or the failure. A token is
    replaced before its lifetime (`expires_in`) ends, and once when a request is answered with 401.
    """

    def __init__(
        self, token_url: str, client_id: str, client_secret: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url, self._clock = token_url, clock
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "token_type": "jwt",
        }
        self._lock = threading.Lock()
        self._token = ""
        self._replace_at = float("-inf")
        self._failures = 0
        self._failure: OlError = self._gave_up("broke off")

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        refused = ""
        for _ in range(2):
            refused = yield from self._current_token(request, refused)
            request.headers["Authorization"] = f"JWT {refused}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return

    def _current_token(self, request: httpx.Request, refused: str) -> Generator[httpx.Request, httpx.Response, str]:
        failures = self._failures
        if not self._lock.acquire(timeout=min(max(0.0, deadline().seconds_left()), threading.TIMEOUT_MAX)):
            raise self._gave_up("was waited for in vain")
        try:
            if self._token != refused and self._clock() < self._replace_at:
                return self._token
            self._raise_shared(failures)
            return (yield from self._log_in(request))
        finally:
            self._lock.release()

    def _log_in(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, str]:
        try:
            # Requests made here have only the timeouts that they are given.
            self._keep((yield httpx.Request("POST", self._url, data=self._form, extensions=request.extensions)))
        except BaseException as error:  # GeneratorExit where its request broke off
            self._failure = error if isinstance(error, OlError) else self._gave_up("broke off")
            self._failures += 1
            raise
        return self._token

    def _raise_shared(self, failures: int) -> None:
        """Raise the failure that came while this thread waited; its turn would only make the same call again."""
        if self._failures != failures:
            raise copy.copy(self._failure)

    def _gave_up(self, what: str) -> NotActedOn:
        return NotActedOn(f"POST {redact_url(self._url)}, another thread's login, {what}; nothing was sent without it")

    def _keep(self, response: httpx.Response) -> None:
        if response.status_code == httpx.codes.FORBIDDEN:  # only its rate limit by address answers so
            raise NotActedOn(described(response))
        if not response.is_success:
            error = failure(response)
            if isinstance(error, TransientFailure):  # whatever waits for this token was not sent
                raise NotActedOn(str(error), retry_after_seconds=error.retry_after_seconds) from error
            raise error
        grant = read_json(response, _GRANT)
        if not _FITS_A_HEADER.fullmatch(grant.access_token):
            raise PermanentFailure(f"{redact_url(self._url)} gave a token that no header can carry")
        self._token = grant.access_token
        self._replace_at = self._clock() + grant.expires_in - min(_EARLY_SECONDS, grant.expires_in / 2)
