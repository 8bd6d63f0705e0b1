"""Lists that come in pages: `Link` headers (Canvas) and `next` fields (Django REST framework)."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
from pydantic import BaseModel, TypeAdapter

from ol_core.failures import PermanentFailure
from ol_core.http.answers import failure, read_json, redact_url
from ol_core.http.client import HttpClient

Records = list[dict[str, Any]]
"""JSON objects of a list, before the client that asked gives them their type."""

_MAX_PAGES = 10_000


class _DrfPagination(BaseModel):
    next: str | None = None


class _DrfPage(_DrfPagination):
    results: Records
    pagination: _DrfPagination | None = None


_RECORDS = TypeAdapter(Records)
_DRF_PAGE = TypeAdapter(_DrfPage)


def link_pages(client: HttpClient, first: httpx.Response) -> Iterator[Records]:
    """Yield the records of a list's first page and of every page that a `Link` header names as next.

    Raises:
        PermanentFailure: a next page of another origin, or one that came before.
        OlError: as `HttpClient.request`.
    """
    return _walk(client, first, _read_link_page)


def drf_pages(client: HttpClient, first: httpx.Response) -> Iterator[Records]:
    """Yield the records of a list's first page and of every page that a `next` field names.

    Open edX estimates how many pages there are: a next page that answers 404 `Invalid page` is the end of the list.

    Raises:
        PermanentFailure: a next page of another origin, or one that came before.
        OlError: as `HttpClient.request`.
    """
    return _walk(client, first, _read_drf_page)


def _read_link_page(response: httpx.Response) -> tuple[Records, str | None]:
    return read_json(response, _RECORDS), response.links.get("next", {}).get("url")


def _read_drf_page(response: httpx.Response) -> tuple[Records, str | None]:
    page = read_json(response, _DRF_PAGE)
    return page.results, (page.pagination or page).next


def _walk(
    client: HttpClient, first: httpx.Response, read: Callable[[httpx.Response], tuple[Records, str | None]]
) -> Iterator[Records]:
    seen, response = {str(first.request.url)}, first
    while True:
        records, target = read(response)
        yield records
        if not target:
            return
        url = str(response.request.url.join(target))
        if url in seen or len(seen) == _MAX_PAGES:
            raise PermanentFailure(
                f"the list at {redact_url(first.request.url)} does not end: page {len(seen) + 1} is {redact_url(url)}; "
                f"no page may come twice, and there may be {_MAX_PAGES} of them"
            )
        seen.add(url)
        response = client.request("GET", url, accept=(404,))
        if not response.is_success:
            if "invalid page" in response.text.lower():
                return
            raise failure(response)
