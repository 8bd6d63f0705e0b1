"""How Canvas pages its lists and limits its callers."""

import base64
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request

T = TypeVar("T")
DEFAULT_PER_PAGE = 10
MAX_PER_PAGE = 100
HIGH_WATER_MARK = 600.0
MAXIMUM = 800.0
OUTFLOW_PER_SECOND = 10.0
UP_FRONT_COST = 50.0


class LeakyBucket:
    """The quota of one token: costs fill it, time drains it (canvas-lms app/middleware/request_throttle.rb)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._level = 0.0
        self._reserved = 0.0

    def _drain(self) -> None:
        now = self._clock()
        self._level = max(0.0, self._level - (now - self._at) * OUTFLOW_PER_SECOND)
        self._at = now

    def admit(self) -> bool:
        """Reserve the up-front cost of a request, unless the bucket is full."""
        self._drain()
        if self._level + self._reserved >= HIGH_WATER_MARK:
            return False
        self._reserved += UP_FRONT_COST
        return True

    def settle(self, cost: float) -> float:
        """Replace the up-front cost of an admitted request by its real one; what remains of the quota."""
        self._drain()
        self._reserved -= UP_FRONT_COST
        self._level = min(MAXIMUM, self._level + cost)
        return max(0.0, HIGH_WATER_MARK - self._level - self._reserved)


def page_of(request: Request, base_url: str, items: Sequence[T], *, bookmarks: bool) -> tuple[Sequence[T], str]:
    """One page of `items` and the `Link` header.

    `per_page` is clamped, not refused. A list pages by number, with `last`, or by bookmark, without it.

    Raises:
        ValueError: `page` is neither a number nor a bookmark.
    """
    per_page = max(1, min(MAX_PER_PAGE, int(request.query_params.get("per_page") or DEFAULT_PER_PAGE)))
    number = _number(request.query_params.get("page") or "1")
    last = max(1, -(-len(items) // per_page))
    targets = {"current": number, "next": number + 1, "prev": number - 1, "first": 1, "last": last}
    if number >= last:
        del targets["next"]
    if number == 1:
        del targets["prev"]
    if bookmarks:
        del targets["last"]
    kept = [(k, v) for k, v in request.query_params.multi_items() if k not in {"page", "per_page", "access_token"}]
    links = []
    for relation, target in targets.items():
        page = _bookmark(target) if bookmarks else str(target)
        query = urlencode([*kept, ("page", page), ("per_page", str(per_page))])
        links.append(f'<{base_url}{request.url.path}?{query}>; rel="{relation}"')
    return items[(number - 1) * per_page : number * per_page], ",".join(links)


def _bookmark(number: int) -> str:
    return "bookmark:" + base64.urlsafe_b64encode(f'["page",{number}]'.encode()).decode().rstrip("=")


def _number(page: str) -> int:
    if page.startswith("bookmark:"):
        page = base64.urlsafe_b64decode(page.removeprefix("bookmark:") + "==").decode().strip("[]").rpartition(",")[2]
    return max(1, int(page))
