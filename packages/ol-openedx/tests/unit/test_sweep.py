"""A deployment as a source of sweeps: a list that the LMS's throttle does not let a tick read to its end."""

import httpx
from ol_core.orchestration.discovery import Discovery, Known, Unknown
from ol_openedx.client import OpenEdxClient
from ol_openedx.sweep import SWEEP_POLICY, DeploymentSource


class ThrottledLms:
    """Answers 40 requests a minute, 0.3 s each, with 100 course runs a page."""

    def __init__(self, url: str, courses: int) -> None:
        self.url, self.now = url, 0.0
        self.courses = [f"course-v1:O+C{number:04}+R" for number in range(courses)]
        self.pages: list[float] = []
        self.broken_from = 1000

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.now += 0.3
        if request.url.path.endswith("access_token"):
            return httpx.Response(200, json={"access_token": "t", "expires_in": 36000})
        recent = [one for one in self.pages if one > self.now - 60]
        if len(recent) >= 40:
            text = f"Request was throttled. Expected available in {recent[-40] + 60 - self.now:.0f} seconds."
            return httpx.Response(429, json={"developer_message": text})
        self.pages.append(self.now)
        page = int(request.url.params.get("page", 1))
        if page >= self.broken_from:
            return httpx.Response(500)
        found = self.courses[page * 100 - 100 : page * 100]
        if not found:
            return httpx.Response(404, json={"developer_message": "Invalid page (9): That page contains no results"})
        following = f"{self.url}/api/courses/v1/courses/?page={page + 1}&page_size=100"
        more = len(self.courses) > page * 100
        results = [{"id": course} for course in found]
        return httpx.Response(200, json={"results": results, "pagination": {"next": following if more else None}})

    def discover(self, minute: int) -> Discovery:
        """As a tick does in this minute."""
        self.now = minute * 60.0
        with OpenEdxClient(
            self.url,
            "https://studio",
            "id",
            "s3cr3t",
            policy=SWEEP_POLICY,
            transport=httpx.MockTransport(self.answer),
            sleep=self.sleep,
            clock=lambda: self.now,
        ) as client:
            return DeploymentSource(client, client.clock).discover(22.5)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_long_list_is_read_on_in_the_next_tick() -> None:
    lms = ThrottledLms("https://long", 5000)
    first, second, third = (lms.discover(minute) for minute in range(3))
    assert isinstance(first, Unknown)
    assert (len(first.seen), first.goes_on) == (4000, True)
    assert "the next tick reads on" in first.reason
    assert isinstance(second, Known)
    assert list(second.keys) == lms.courses
    assert isinstance(third, Unknown)  # it begins at the first page


def test_a_list_that_changed_meanwhile_is_read_anew() -> None:
    lms = ThrottledLms("https://changed", 5000)
    lms.discover(0)
    gone = lms.courses.pop(7)
    found = lms.discover(1)
    assert isinstance(found, Unknown)
    assert gone not in found.seen
    found = lms.discover(61)
    assert isinstance(found, Known)
    assert list(found.keys) == lms.courses


def test_a_list_that_became_shorter_is_read_anew() -> None:
    lms = ThrottledLms("https://shorter", 5000)
    lms.discover(0)
    del lms.courses[3000:]
    found = lms.discover(1)
    assert isinstance(found, Known)
    assert list(found.keys) == lms.courses


def test_a_list_that_does_not_get_further_is_left_until_the_next_rotation() -> None:
    lms = ThrottledLms("https://broken", 500)
    lms.broken_from = 3
    first, second = lms.discover(0), lms.discover(1)
    assert isinstance(first, Unknown)
    assert isinstance(second, Unknown)
    assert (first.goes_on, second.goes_on) == (True, False)
    assert len(second.seen) == 200
    lms.broken_from = 1000
    assert isinstance(lms.discover(60), Known)
