"""Webhooks that tell a receiver (MIT Learn, or any other) that content moved.

The receiver verifies `X-MITLearn-Signature`, the hex HMAC-SHA256 of the raw body. A delivery's id follows from what it
announces, and its body is canonical: whoever sends it again sends the same bytes.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import httpx

_PATH = "api/v1/webhooks/content_files/"


class ContentEvent(BaseModel):
    """A new version of a course's content file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, description="How the receiver calls the system that the course comes from.")
    content_path: str = Field(min_length=1, description="Object key of the file; the receiver depends on its layout.")
    course_id: str = Field(min_length=1, description="Id of the course in its source.")
    course_readable_id: str | None = Field(default=None, description="Id that people know the course by.")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the receiver answered: delivered, or rejected for good.

    Rejected is any 4xx but 408, 425, 429 and a 403 that says `rate limit exceeded`.
    """

    delivery_id: str
    state: Literal["delivered", "rejected"]
    status: int


def delivery_id(event: ContentEvent) -> str:
    """Return the id of an event's delivery: 32 hex digits that follow from source, course and content path."""
    identity = json.dumps([event.source, event.course_id, event.content_path], ensure_ascii=False)
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def body(event: ContentEvent) -> bytes:
    """Return the canonical JSON of an event with its `delivery_id`; fields without a value are left out."""
    fields = {**event.model_dump(exclude_none=True), "delivery_id": delivery_id(event)}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sign(content: bytes, secret: str) -> str:
    """Return the hex HMAC-SHA256 of a raw body."""
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


class WebhookClient:
    """Delivers events to a receiver at `{url}/api/v1/webhooks/content_files/`."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        transport: "httpx.BaseTransport | None" = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from ol_core.http import HttpClient, Runtime

        self._http = HttpClient(url, runtime=Runtime(transport, sleep, clock))
        self._secret = secret

    def deliver(self, event: ContentEvent) -> Delivery:
        """Send an event; sending it again is harmless, because its delivery id stays the same.

        Raises:
            TransientFailure: the receiver is throttled or broken, also after the retries.
            PermanentFailure: the receiver redirects; its address is wrong.
        """
        return self.send(body(event), delivery_id(event), path=_PATH)

    def send(self, content: bytes, identity: str, *, path: str = "") -> Delivery:
        """Send a body, signed; sending it again is harmless where the receiver knows its id.

        Args:
            content: The body, JSON.
            identity: Id of the delivery, which follows from what it tells.
            path: Below the receiver's address, or a whole address of the same origin.

        Raises:
            OlError: as `deliver`.
        """
        response = self._http.request(
            "POST",
            path,
            content=content,
            headers={
                "Content-Type": "application/json",
                "X-Delivery-Id": identity,
                "X-MITLearn-Signature": sign(content, self._secret),
            },
            accept=range(400, 500),
            idempotency_key=identity,
        )
        return Delivery(identity, "delivered" if response.is_success else "rejected", response.status_code)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
