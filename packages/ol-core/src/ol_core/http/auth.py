"""How requests are authenticated. A credential is sent to the origin that a client was made for, and nowhere else."""

import re
import threading
import time
from collections.abc import Callable, Generator

import httpx
from pydantic import BaseModel, TypeAdapter

from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.http.answers import NotActedOn, described, failure, read_json

_FITS_A_HEADER = re.compile(r"[!-~]+")
_EARLY_SECONDS = 60.0


class _Grant(BaseModel):
    access_token: str
    expires_in: float = 300.0


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

    One thread asks for a token while the others wait. It is replaced before its lifetime (`expires_in`) ends, and once
    when a request is answered with 401.
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

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        refused = ""
        for _ in range(2):
            with self._lock:
                if self._token == refused or self._clock() >= self._replace_at:
                    # Requests made here have only the timeouts that they are given.
                    self._keep((yield httpx.Request("POST", self._url, data=self._form, extensions=request.extensions)))
                refused = self._token
            request.headers["Authorization"] = f"JWT {refused}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
            response.read()  # gives its connection back before the lock is waited for

    def _keep(self, response: httpx.Response) -> None:
        response.read()
        if response.status_code == httpx.codes.FORBIDDEN:  # only its rate limit by address answers so
            raise NotActedOn(described(response))
        if not response.is_success:
            error = failure(response)
            if isinstance(error, TransientFailure):  # whatever waits for this token was not sent
                raise NotActedOn(str(error), retry_after_seconds=error.retry_after_seconds) from error
            raise error
        grant = read_json(response, _GRANT)
        if not _FITS_A_HEADER.fullmatch(grant.access_token):
            raise PermanentFailure(f"{described(response)}: no header can carry this token")
        self._token = grant.access_token
        self._replace_at = self._clock() + grant.expires_in - min(_EARLY_SECONDS, grant.expires_in / 2)
