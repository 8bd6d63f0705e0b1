"""The simulated receiver of webhooks. Source: mit-learn, webhooks/ (views, serializers, decorators)."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ol_devkit.campus.state import CampusState

SIGNATURE_HEADER = "X-MITLearn-Signature"
SOURCES = frozenset(
    (
        "mit_edx",
        "mitpe",
        "mitxonline",
        "oll",
        "ocw",
        "podcast",
        "mit_climate",
        "see",
        "xpro",
        "youtube",
        "canvas",
        "ovs",
    )
)
OPTIONAL_FIELDS = ("content_path", "course_id", "course_readable_id")


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """A webhook as it arrived.

    Attributes:
        kind: `update` or `delete`.
        verified: Whether the signature fits the body.
        status: What the receiver answered.
        body: The raw body.
        payload: The body as JSON, where it is an object.
    """

    kind: str
    verified: bool
    status: int
    body: bytes
    payload: dict[str, Any] | None


class WebhookReceiver:
    """The endpoints of the receiver; it keeps every delivery, accepted or not."""

    def __init__(self, state: CampusState) -> None:
        self._secret = state.secret("learn").encode()
        self.deliveries: list[WebhookDelivery] = []

    def routes(self) -> list[Route]:
        """The routes below `/learn`."""
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        path = "/api/v1/webhooks/content_files/"
        return [
            Route(path, self.updated, methods=methods),
            Route(f"{path}delete/", self.deleted, methods=methods),
        ]

    async def updated(self, request: Request) -> Response:
        """Content moved."""
        return await self._receive(request, "update")

    async def deleted(self, request: Request) -> Response:
        """Content is gone."""
        return await self._receive(request, "delete")

    async def _receive(self, request: Request, kind: str) -> Response:
        if request.method != "POST":
            return JSONResponse({"detail": f'Method "{request.method}" not allowed.'}, 405, {"Allow": "POST, OPTIONS"})
        body = await request.body()
        expected = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        verified = hmac.compare_digest(expected.encode(), request.headers.get(SIGNATURE_HEADER, "").encode())
        payload, answer = _parsed(body)
        if not verified:
            answer = JSONResponse({"error": "Invalid signature"}, 403)
        self.deliveries.append(WebhookDelivery(kind, verified, answer.status_code, body, payload))
        return answer


def _parsed(body: bytes) -> tuple[dict[str, Any] | None, Response]:
    try:
        payload = json.loads(body)
    except ValueError:
        return None, JSONResponse({"error": "Invalid JSON format"}, 400)
    if not isinstance(payload, dict):
        return None, JSONResponse({"error": "Expected an object"}, 400)
    errors: dict[str, list[str]] = {}
    if "source" not in payload:
        errors["source"] = ["This field is required."]
    elif payload["source"] not in SOURCES:
        errors["source"] = [f'"{payload["source"]}" is not a valid choice.']
    for name in OPTIONAL_FIELDS:
        if isinstance(payload.get(name), bool | list | dict):
            errors[name] = ["Not a valid string."]
    if errors:
        return payload, JSONResponse(errors, 400)
    return payload, JSONResponse({"status": "success", "message": "Webhook received"})
