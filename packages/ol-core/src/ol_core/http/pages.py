"""Lists that come in pages: `Link` headers (Canvas) and `next` fields (Django REST framework)."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
from pydantic import BaseModel, TypeAdapter

from ol_core.failures import PermanentFailure
from ol_core.http.answers import failure, read_json
from ol_core.http.client import HttpClient
from ol_core.http.links import linked
from ol_core.http.redaction import redact_url

Records = list[dict[str, Any]]
"""JSON objects of a list, before the client that asked gives them their type."""

_MAX_PAGES = 10_000
_MOST_EMPTY_PAGES = 20
"""In a row; Canvas leaves out what the account may not see, which can empty a page."""
_LONGEST_URL = 4096
_SHOWN = 200


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
        PermanentFailure: a next page of another origin, a `Link` header that cannot be read, or a list that does not
            end.
        OlError: as `HttpClient.request`.
    """
    return _walk(client, first, _read_link_page)


def drf_pages(client: HttpClient, first: httpx.Response) -> Iterator[Records]:
    """Yield the records of a list's first page and of every page that a `next` field names.

    Open edX estimates how many pages there are: a next page that answers 404 `Invalid page` is the end of the list.

    Raises:
        PermanentFailure: a next page of another origin, or a list that does not end.
        OlError: as `HttpClient.request`.
    """
    return _walk(client, first, _read_drf_page)


def _read_link_page(response: httpx.Response) -> tuple[Records, str | None]:
    return read_json(response, _RECORDS), linked(response, "next")


def _read_drf_page(response: httpx.Response) -> tuple[Records, str | None]:
    page = read_json(response, _DRF_PAGE)
    return page.results, (page.pagination or page).next or None


def _walk(
    client: HttpClient, first: httpx.Response, read: Callable[[httpx.Response], tuple[Records, str | None]]
) -> Iterator[Records]:
    walk, response = _Walk(first), first
    while True:
        records, target = read(response)
        yield records
        if target is None:
            return
        url = walk.next_url(response, records, target)
        response = client.request("GET", url, accept=(404,))
        if not response.is_success:
            if "invalid page" in response.text.lower():
                return
            raise failure(response)


class _Walk:
    """What is remembered of a list's pages, to tell one that does not end."""

    def __init__(self, first: httpx.Response) -> None:
        self._list = redact_url(first.request.url)
        self._seen = {str(first.request.url)}
        self._last: Records = []
        self._empty = 0  # pages in a row

    def next_url(self, response: httpx.Response, records: Records, target: str) -> str:
        """Return the address of the page after one."""
        try:
            url = str(response.request.url.join(target))
        except (httpx.InvalidURL, ValueError):
            url = ""
        number = len(self._seen) + 1
        self._empty = 0 if records else self._empty + 1
        problems = (
            (not url, "has an address that cannot be read"),
            (url in self._seen, "came before"),
            (len(url) > _LONGEST_URL, f"has an address of {len(url)} characters, which grew from page to page"),
            (bool(records) and records == self._last, "comes after two pages with the same records"),
            (self._empty > _MOST_EMPTY_PAGES, f"comes after {self._empty} pages without a record"),
            (number > _MAX_PAGES, f"is one too many: there may be {_MAX_PAGES} of them"),
        )
        for applies, problem in problems:
            if applies:
                raise PermanentFailure(
                    f"the list at {self._list} does not end: page {number}, {redact_url(url)[:_SHOWN]}, {problem}"
                )
        self._seen.add(url)
        self._last = records
        return url
