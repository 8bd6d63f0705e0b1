"""When a request is sent again, and what a failure to send it means."""

import logging
import re
import ssl
from collections.abc import Callable, Iterator

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random, wait_random_exponential

from ol_core.failures import OlError, PermanentFailure, TransientFailure
from ol_core.http.answers import NotActedOn, Unanswered
from ol_core.http.deadlines import deadline
from ol_core.http.policy import HttpPolicy, Runtime
from ol_core.http.redaction import redact, redact_url, secrets_of

SENDING_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError)
"""What httpx raises for what servers and addresses do; ValueError: texts that no request can carry."""

_log = logging.getLogger(__name__)
_NEVER_VALID = (
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.TooManyRedirects,
    httpx.InvalidURL,
    ValueError,
)
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_QUOTED_BYTES = re.compile(r"""(?:bytearray\()?\bb['"].*""", re.DOTALL)
"""What parsers of HTTP quote of a line that they refuse; it may be any header."""


def retrying(
    policy: HttpPolicy,
    runtime: Runtime,
    *,
    repeatable: bool,
    attempts_used: Callable[[RetryCallState], int] = lambda state: state.attempt_number,
) -> Retrying:
    """Return what repeats a call within the deadline in force, with jitter or as the server asks.

    Args:
        policy: How many attempts there are.
        runtime: How to sleep.
        repeatable: Whether to repeat a request that the server may have acted on.
        attempts_used: Called after each attempt that failed; how many of the attempts are used up.
    """

    def spent(state: RetryCallState) -> bool:
        used = attempts_used(state)
        return used >= policy.attempts or state.upcoming_sleep >= deadline().seconds_left()

    return Retrying(
        retry=retry_if_exception_type((NotActedOn, Unanswered) if repeatable else NotActedOn),
        wait=_wait,
        stop=spent,
        sleep=runtime.sleep,
        before_sleep=_log_retry,
        reraise=True,
    )


def timeouts(policy: HttpPolicy) -> httpx.Timeout:
    """Return how long one wait of a request may take; none ends later than the deadline in force."""
    longest = max(0.001, min(policy.timeout_seconds, deadline().seconds_left()))
    return httpx.Timeout(longest, connect=min(10.0, longest))


def whole(base_url: httpx.URL, url: str) -> str:
    """Return the whole address of one below a base, for messages; it may be none that can be asked for."""
    return url if "://" in url else f"{str(base_url).rstrip('/')}/{url.lstrip('/')}"


def broken(method: str, url: httpx.URL | str, error: Exception) -> OlError:
    """Return the failure that an error of sending a request, or of reading its answer, stands for.

    Raise it where the error is no longer handled: the library's error and its own causes quote what they stumbled
    over, and would go into every log as the failure's context.
    """
    what, request = f"{method} {redact_url(url)}", _request_of(error)
    said = _QUOTED_BYTES.sub("...", redact(str(error), secrets_of([request] if request else [])))
    named = f"{type(error).__name__}: {said}" if said else type(error).__name__
    distrust = next((one for one in _causes(error) if isinstance(one, ssl.SSLCertVerificationError)), None)
    if distrust:
        return PermanentFailure(
            f"{what} was not sent, the server's certificate is not trusted: {distrust.verify_message}; "
            "name the file of its CA in SSL_CERT_FILE, or configure the name that the certificate is for"
        )
    if isinstance(error, _NEVER_VALID) or "location header" in said:
        return PermanentFailure(f"{what} cannot be sent: {named}")
    if isinstance(error, _NOT_SENT):
        return NotActedOn(f"{what} reached no server: {named}")
    if deadline().seconds_left() <= 0:
        return Unanswered(f"{what} took over {deadline().seconds:.0f} s")
    return Unanswered(f"{what} broke off: {named}")


def _request_of(error: Exception) -> httpx.Request | None:
    try:
        return error.request if isinstance(error, httpx.HTTPError) else None
    except RuntimeError:  # it has none
        return None


def sent_instead(error: Exception, request: httpx.Request) -> httpx.Request | None:
    """Return what was being sent when an error came, where that was another request: a login, or a redirect's."""
    other = _request_of(error)
    return None if other is request else other


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    after = error.retry_after_seconds if isinstance(error, TransientFailure) else None
    if after is None:
        return wait_random_exponential(min=0.2, max=60)(state)
    return after + wait_random(0, max(0.1, after / 10))(state)


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.warning("attempt %d: %s; next in %.1f s", state.attempt_number, error, state.upcoming_sleep)
