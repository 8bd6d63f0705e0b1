"""A world that speaks HTTP, and the definitions of an installed code location that hear it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
from ol_core import code_locations
from ol_core.learn import LearnApi
from ol_core.webhooks import WebhookClient

from ol_devkit.simulator.world import World

PAGE = 100


class WorldTransport(httpx.MockTransport):
    """Answers as a source does; a subclass knows its protocol."""

    def __init__(self, world: World) -> None:
        super().__init__(self._handle)
        self.world = world

    def _handle(self, request: httpx.Request) -> httpx.Response:
        match self.world.call(self.kind(request)):
            case "down":
                return httpx.Response(503)
            case "throttled":
                return httpx.Response(429, headers={"Retry-After": f"{self.world.retry_after_seconds:.0f}"})
            case None:
                return self.answer(request)

    def kind(self, request: httpx.Request) -> str:
        """Return how a call is counted."""
        raise NotImplementedError

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer a call."""
        raise NotImplementedError

    def page(self, request: httpx.Request) -> tuple[list[str], int | None] | None:
        """Return a page of the list and the number of the next; None where the list breaks off."""
        number, listed = int(request.url.params.get("page", 1)), self.world.listed()
        if self.world.listing == "unreadable":
            return (listed, 2) if number == 1 else None
        some = listed[(number - 1) * PAGE : number * PAGE]
        return some, number + 1 if number * PAGE < len(listed) else None


class Receiver(LearnApi):
    """A receiver of webhooks that takes everything; it is not part of the world."""

    def client(self) -> WebhookClient:
        """Return a client that sends nothing."""
        return WebhookClient(self.url, "s3cr3t", transport=httpx.MockTransport(lambda _: httpx.Response(200)))


def located(name: str, folder: Path, simulated: Mapping[str, type[dg.ConfigurableResource[Any]]]) -> dg.Definitions:
    """Load an installed code location as `dev` has it, with another class for resources that speak to sources.

    Args:
        name: Name of the location.
        folder: Its data folder.
        simulated: A subclass of each such resource's own class.
    """
    with _development(folder):
        found = code_locations.load(code_locations.installed([name]))[name]
    resources = dict(found.resources or {})
    classes: dict[str, Any] = {"learn_api": Receiver, **simulated}
    for key, made in classes.items():
        stated = resources[key]
        resources[key] = made(**{field: getattr(stated, field) for field in type(stated).model_fields})
    return dg.Definitions(
        assets=found.assets,
        asset_checks=found.asset_checks,
        jobs=found.jobs,
        sensors=found.sensors,
        schedules=found.schedules,
        executor=found.executor,
        resources=resources,
    )


@contextmanager
def _development(folder: Path) -> Iterator[None]:
    stated = {"DAGSTER_ENV": "dev", "OL_DATA_DIR": str(folder), "OL_CAMPUS_URL": "http://127.0.0.1:1"}
    before = {name: os.environ.get(name) for name in (*stated, "OL_ENVIRONMENT_FILE")}
    os.environ.pop("OL_ENVIRONMENT_FILE", None)
    os.environ |= stated
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
