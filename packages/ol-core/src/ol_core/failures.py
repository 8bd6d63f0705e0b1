"""The one taxonomy of failures.

Every HTTP, SDK and storage error is translated into one of these at one boundary (`ol_core.http`, `ol_core.objects`,
`ol_core.tables`, `ol_core.databases`, `ol_core.secrets`), so that whoever retries, parks or reports a failure asks for
its type and nothing else.
"""


class OlError(Exception):
    """Root of every error that this platform raises on purpose.

    A message says what failed, which value, what is valid, and what to do next. It never holds a secret.
    """


class PermanentFailure(OlError):
    """The same attempt on the same input fails again: a refused value, a corrupt archive, a missing permission."""


class Quarantined(PermanentFailure):
    """What came cannot be used; it is kept apart, for a person to look at."""


class TransientFailure(OlError):
    """The same attempt may succeed later: throttling, a server error, a broken connection.

    Attributes:
        retry_after_seconds: How long the source asked to wait, or None where it said nothing.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UpstreamMissing(PermanentFailure):
    """What this step reads does not exist: an object, a table, a course that the source no longer has."""
