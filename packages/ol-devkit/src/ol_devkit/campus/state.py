"""What the parts of a running campus share."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from ol_devkit.campus.behaviour import Behaviour
from ol_devkit.campus.content import CampusContent
from ol_devkit.campus.courses import ArchiveStore, Revision
from ol_devkit.generators.seeds import Seed


@dataclass(slots=True)
class CampusState:
    """The content and the switches of a campus, and how often each course was changed."""

    content: CampusContent
    behaviour: Behaviour
    base_url: str
    store: ArchiveStore
    clock: Callable[[], float]
    revisions: dict[int | str, Revision] = field(default_factory=dict)

    def revision(self, course_id: int | str) -> Revision:
        """How often the course was changed."""
        return self.revisions.get(course_id, Revision())

    def change(self, course_id: int | str, *, files_only: bool) -> None:
        """Count one more change."""
        held = self.revision(course_id)
        changed = replace(held, files=held.files + 1) if files_only else replace(held, content=held.content + 1)
        self.revisions[course_id] = changed

    def secret(self, name: str) -> str:
        """A secret of this campus; none of them opens anything else."""
        return f"campus-{name}-{Seed.of(self.content.seed).hex(f'secret/{name}', 24)}"

    def secrets(self) -> dict[str, dict[str, str]]:
        """Every secret that a caller needs: path -> key -> value."""
        deployments = {
            f"openedx/{name}": {
                key: self.secret(f"{name}-{key.replace('_', '-')}") for key in ("client_id", "client_secret")
            }
            for name in self.content.deployments
        }
        return {
            "canvas": {"access_token": self.secret("canvas-token")},
            "learn": {"webhook_secret": self.secret("learn")},
            **deployments,
        }


async def parameters(request: Request) -> dict[str, Any]:
    """The parameters of a call: query, form or JSON object, the body before the query."""
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = {}
        return {**request.query_params, **(parsed if isinstance(parsed, dict) else {})}
    return {**request.query_params, **dict(parse_qsl(body.decode("utf-8", "replace")))}


def object_store_refusal(code: str, status: int) -> Response:
    """An error as S3 writes it."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return Response(text, status, media_type="application/xml")
