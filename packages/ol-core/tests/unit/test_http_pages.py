"""Lists in pages, against servers that page well, badly, and for ever."""

from collections.abc import Callable
from itertools import count
from urllib.parse import quote

import httpx
import pytest
from ol_core.failures import PermanentFailure, TransientFailure, UpstreamMissing
from ol_core.http import HttpClient, Runtime, drf_pages, link_pages

BASE = "https://lms.example/api"


def client_of(answer: Callable[[httpx.Request], httpx.Response]) -> HttpClient:
    return HttpClient(BASE, runtime=Runtime(httpx.MockTransport(answer), lambda _: None))


def walk_links(answer: Callable[[httpx.Request], httpx.Response]) -> list[object]:
    client = client_of(answer)
    return [one for page in link_pages(client, client.request("GET", "list")) for one in page]


def walk_drf(answer: Callable[[httpx.Request], httpx.Response]) -> list[object]:
    client = client_of(answer)
    return [one for page in drf_pages(client, client.request("GET", "list")) for one in page]


def page_of(request: httpx.Request) -> int:
    return int(request.url.params.get("page", "1"))


@pytest.mark.parametrize("name", ["Link", "link", "LINK"])
def test_links_are_followed_to_the_end(name: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = page_of(request)
        last = f'<{BASE}/list?page=3&a=1,2>; rel="last"'
        links = f'<{BASE}/list?page={page}>; rel="current", <{BASE}/list?page={page + 1}&per_page=2>; rel="next",{last}'
        return httpx.Response(200, json=[{"id": page}], headers={name: links} if page < 3 else {})

    assert walk_links(answer) == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_a_relative_or_opaque_link_is_followed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "page" in request.url.params:
            return httpx.Response(200, json=[{"page": request.url.params["page"]}])
        return httpx.Response(200, json=[], headers={"Link": '</api/list?page=bookmark:WzFd>; rel="next"'})

    assert walk_links(answer) == [{"page": "bookmark:WzFd"}]


@pytest.mark.parametrize(
    "link",
    [
        '<{}>; rel="NEXT"',
        '<{}>; Rel="next"',
        "<{}>; REL=next",
        "<{}>; rel='next'",
        '<{}>; rel="next last"',
        '<{}>; rel="https://lms.example/rels/next\tNext"',
        '< {} >\t; rel = "next" ;',
        '<{}>; title="x; y, <z>"; rel="next"',
        '<{}>; title="a \\"; rel=\\"last"; rel="n\\ext"; rel="last"',
        "<{}>; title*=UTF-8''n%c3%a4chste; crossorigin; type=text/html; rel=next",
        ', <https://lms.example/z>; title="rel=next, <x>; rel=next"; rel="prev",,<{}>;rel=next , ',
        '<{}>; rel="next", </api/list?a=1;b=2,3&page=bookmark:x;y>; rel="last next"',
        '<https://lms.example/z>; title="next", <{}>; rel="next"',
    ],
)
def test_links_are_read_as_their_standard_says(link: str) -> None:
    target = "/api/list?a=1;b=2,3&page=bookmark:x;y"

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.query:
            return httpx.Response(200, json=[{"of": request.url.raw_path.decode()}])
        return httpx.Response(200, json=[{}], headers={"Link": link.format(target)})

    assert walk_links(answer) == [{}, {"of": target}]


def test_several_link_headers_are_one() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        links = [("Link", '</api/list>; rel="first"'), ("Link", "</api/list?page=2>; rel=next")]
        return httpx.Response(200, json=[{"page": page_of(request)}], headers=[] if request.url.query else links)

    assert walk_links(answer) == [{"page": 1}, {"page": 2}]


@pytest.mark.parametrize(
    "link",
    [
        "https://lms.example/api/list?token=canary-5; rel=next",
        "</api/list?token=canary-5; rel=next",
        "</api/list?token=canary-5; rel=prev, </api/list?page=2>; rel=next",
        '</api/list?token=canary-5>; rel="next',
        '</api/list?token=canary-5>; rel="next"x',
        "</api/list?token=canary-5>; rel=next last",
        "</api/list?token=canary-5> rel=next",
        "</api/list?token=canary-5>; rel=next </api/list>; rel=last",
        "</api/list?token=canary-5>; rel=next, </api/list?page=2>; rel=next",
        "canary-5",
    ],
)
def test_a_link_header_that_cannot_be_read_is_not_the_end_of_the_list(link: str) -> None:
    stated = f"GET {BASE}/list answered 200 with a Link header that cannot be read: "
    with pytest.raises(PermanentFailure, match=stated) as caught:
        walk_links(lambda _: httpx.Response(200, json=[{}], headers={"Link": link}))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "link", ["", " , ", '</api/x>; rel="nextish"', "</api/x>", "</api/x>; rel", "<next>; rev=next"]
)
def test_links_to_anything_else_end_the_list(link: str) -> None:
    assert walk_links(lambda _: httpx.Response(200, json=[{}], headers={"Link": link})) == [{}]


@pytest.mark.parametrize("link", ["a" * 50_000, "<a>" + "; b  " * 20_000 + "!", '<a>; b="' + "\\" * 90_000])
def test_a_long_link_header_is_read_once(link: str) -> None:
    with pytest.raises(PermanentFailure, match="cannot be read"):
        walk_links(lambda _: httpx.Response(200, json=[{}], headers={"Link": link}))


def test_a_link_to_another_origin_is_not_followed() -> None:
    link = {"Link": '<https://proxy.example/api/list?page=2>; rel="next"'}
    with pytest.raises(PermanentFailure, match=r"proxy\.example.*another origin than https://lms\.example"):
        walk_links(lambda _: httpx.Response(200, json=[], headers=link))


def test_a_list_that_goes_in_circles_is_a_failure() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        following = page_of(request) % 3 + 1
        return httpx.Response(200, json=[{}], headers={"Link": f'<{BASE}/list?page={following}>; rel="next"'})

    with pytest.raises(PermanentFailure, match="does not end"):
        walk_links(answer)


def walk_from(
    link: Callable[[int], str], *, records: Callable[[int], list[object]] = lambda page: [{"id": page}]
) -> int:
    """Walk a list whose page `n` names `link(n)` as next; return how many pages were asked for until it failed."""
    asked = count(1)

    def answer(_: httpx.Request) -> httpx.Response:
        page = next(asked)
        return httpx.Response(200, json=records(page), headers={"Link": f'<{link(page)}>; rel="next"'})

    with pytest.raises(PermanentFailure, match=f"the list at {BASE}/list does not end: page"):
        walk_links(answer)
    return next(asked) - 1


def test_a_list_of_too_many_pages_is_a_failure() -> None:
    assert walk_from(lambda page: f"{BASE}/list?page={page + 1}") == 10_000


def test_a_page_that_names_itself_is_a_failure() -> None:
    assert walk_from(lambda _: f"{BASE}/list") == 1


def test_a_next_page_that_nests_the_address_of_the_last_is_a_failure() -> None:
    urls = [f"{BASE}/list"]

    def nested(_: int) -> str:
        urls.append(f"{BASE}/list?url={quote(urls[-1], safe='')}")
        return urls[-1]

    assert walk_from(nested) < 30


def test_a_query_that_grows_is_a_failure() -> None:
    assert walk_from(lambda page: f"{BASE}/list?" + "&".join(f"page={number}" for number in range(page))) < 1000


def test_a_server_that_ignores_the_page_is_a_failure() -> None:
    assert walk_from(lambda page: f"{BASE}/list?page={page + 1}", records=lambda _: [{"id": 1}, {"id": 2}]) == 2


def test_empty_pages_that_go_on_for_ever_are_a_failure() -> None:
    assert walk_from(lambda page: f"{BASE}/list?page={page + 1}", records=lambda _: []) == 21


@pytest.mark.parametrize("link", ["", "http://[", "//a:b:c/", "\x7f", "http://lms.example:99999999/"])
def test_a_next_page_that_is_no_address_is_a_failure(link: str) -> None:
    with pytest.raises(PermanentFailure):
        walk_links(lambda _: httpx.Response(200, json=[{}], headers={"Link": f'<{link}>; rel="next"'}))


def test_some_empty_pages_are_passed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = page_of(request)
        link = {"Link": f'<{BASE}/list?page={page + 1}>; rel="next"'}
        return httpx.Response(200, json=[{"id": page}] if page % 10 == 0 else [], headers=link if page < 50 else {})

    assert walk_links(answer) == [{"id": page} for page in (10, 20, 30, 40, 50)]


def test_a_failure_on_a_later_page_is_not_the_end_of_the_list() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if page_of(request) == 2:
            return httpx.Response(404, json={"errors": [{"message": "The specified resource does not exist."}]})
        return httpx.Response(200, json=[{}], headers={"Link": f'<{BASE}/list?page=2>; rel="next"'})

    with pytest.raises(UpstreamMissing):
        walk_links(answer)


@pytest.mark.parametrize("nested", [True, False])
def test_next_fields_are_followed(*, nested: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = page_of(request)
        pagination = {"next": f"{BASE}/list?page={page + 1}" if page < 3 else None, "count": 99, "num_pages": 50}
        results = {"results": [{"id": page}]}
        return httpx.Response(200, json=results | ({"pagination": pagination} if nested else pagination))

    assert walk_drf(answer) == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_an_invalid_page_after_the_last_ends_the_list() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if page_of(request) == 2:
            text = "Invalid page (2): That page contains no results"
            return httpx.Response(404, json={"developer_message": text})
        return httpx.Response(200, json={"results": [{"id": 1}], "pagination": {"next": f"{BASE}/list?page=2"}})

    assert walk_drf(answer) == [{"id": 1}]


def test_any_other_404_on_a_later_page_is_a_failure() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if page_of(request) == 2:
            return httpx.Response(404, json={"developer_message": "gone"})
        return httpx.Response(200, json={"results": [], "pagination": {"next": f"{BASE}/list?page=2"}})

    with pytest.raises(UpstreamMissing):
        walk_drf(answer)


def test_a_throttled_page_is_asked_for_again() -> None:
    asked = count(1)

    def answer(request: httpx.Request) -> httpx.Response:
        if page_of(request) == 2 and next(asked) < 3:
            return httpx.Response(429, json={"developer_message": "Expected available in 1 seconds."})
        following = f"{BASE}/list?page=2" if page_of(request) == 1 else None
        return httpx.Response(200, json={"results": [{"id": page_of(request)}], "next": following})

    assert walk_drf(answer) == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("body", ['{"detail": "maintenance"}', '{"results": [1]}', '{"results": [], "next": 2}'])
def test_an_answer_of_another_shape_is_never_an_empty_list(body: str) -> None:
    with pytest.raises(PermanentFailure, match="another shape"):
        walk_drf(lambda _: httpx.Response(200, text=body, headers={"Content-Type": "application/json"}))


def test_a_page_that_was_cut_is_transient() -> None:
    with pytest.raises(TransientFailure, match="not whole"):
        walk_links(lambda _: httpx.Response(200, text='[{"id": 1}, {"i', headers={"Content-Type": "application/json"}))
