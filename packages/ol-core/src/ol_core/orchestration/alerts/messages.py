"""A message about failures: what it says, and the id that follows from what it is about."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Alert:
    """How often attempts of one step failed in one way within a window. It holds no link, and no reason in words.

    Attributes:
        environment: Name of the environment.
        location: Name of the code location.
        step: Name of the step's job.
        asset: The asset under which the attempts stand.
        error: Class of the failures: `TransientFailure`, `PermanentFailure`, `UpstreamMissing` or `Quarantined`.
        window_start: Unix seconds.
        window_seconds: Length of the window.
        count: Failed attempts.
        first_at: The first of them, in unix seconds.
        last_at: The last.
        partitions: Partitions of the newest.
        run_ids: Runs of the newest.
    """

    environment: str
    location: str
    step: str
    asset: str
    error: str
    window_start: int
    window_seconds: int
    count: int
    first_at: int
    last_at: int
    partitions: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("partitions", "run_ids"):  # lists, where it was read from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def delivery_id(self) -> str:
        """32 hex digits that follow from environment, location, step, error and window."""
        window = [self.window_start, self.window_seconds]
        identity = json.dumps([self.environment, self.location, self.step, self.error, *window])
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    @property
    def fields(self) -> dict[str, Any]:
        """All that it says."""
        return asdict(self)

    @property
    def body(self) -> bytes:
        """Canonical JSON with the `delivery_id`."""
        fields = {**self.fields, "delivery_id": self.delivery_id}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def __str__(self) -> str:
        some = f", such as {', '.join(self.partitions)}" if any(self.partitions) else ""
        return (
            f"{self.environment}: {self.step} of {self.location}: {self.count} x {self.error} from "
            f"{_when(self.first_at)} to {_when(self.last_at)}{some}"
        )


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
