"""The simulated Canvas: the part of its REST API that reads courses and exports them.

Paths, errors, paging and throttling follow canvas-lms (doc/api, lib/api.rb, app/middleware/request_throttle.rb).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ol_devkit.campus import canvas_json
from ol_devkit.campus.answers import canvas_throttled
from ol_devkit.campus.canvas_exports import CanvasExports, ContentExport
from ol_devkit.campus.canvas_json import ACCOUNT_ID, Json
from ol_devkit.campus.canvas_paging import LeakyBucket, page_of
from ol_devkit.campus.courses import CanvasCourse
from ol_devkit.campus.state import CampusState
from ol_devkit.generators.canvas_view import TERM_ID, CanvasModule, CanvasView

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
STRING_IDS = "application/json+canvas-string-ids"
NOT_FOUND = "The specified resource does not exist."
LEFT_OUT_EVERY = 2  # every second module leaves its items out, as Canvas may do with large ones

ROUTES = (
    ("GET", "/v1/accounts/{account_id}/courses", "courses"),
    ("GET", "/v1/courses/{id}", "course"),
    ("GET", "/v1/courses/{course_id}/files", "files"),
    ("GET", "/v1/courses/{course_id}/folders", "folders"),
    ("GET", "/v1/courses/{course_id}/pages", "pages"),
    ("GET", "/v1/courses/{course_id}/assignments", "assignments"),
    ("GET", "/v1/courses/{course_id}/modules", "modules"),
    ("GET", "/v1/courses/{course_id}/modules/{module_id}/items", "module_items"),
    ("POST", "/v1/courses/{course_id}/content_exports", "submit_export"),
    ("GET", "/v1/courses/{course_id}/content_exports", "exports"),
    ("GET", "/v1/courses/{course_id}/content_exports/{id}", "export"),
    ("GET", "/v1/progress/{id}", "progress"),
    ("GET", "/v1/users/{id}", "user"),
)
"""Method, path in the notation of Canvas's API documentation, and the method of `CanvasApi` that answers."""


class Refusal(Exception):
    """An error of the API."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(status)
        self.response = JSONResponse(body, status)


class CanvasApi:
    """The endpoints of the API."""

    def __init__(self, state: CampusState) -> None:
        self._state = state
        self._url = f"{state.base_url}/canvas"
        self._token = state.secret("canvas-token")
        self._bucket = LeakyBucket(state.clock)
        self.content_exports = CanvasExports(state)

    def routes(self) -> list[Route]:
        """The routes below `/canvas`."""
        routes = [
            Route(f"/api{path}", self._guarded(getattr(self, name)), methods=[method]) for method, path, name in ROUTES
        ]
        routes.append(Route("/files/{file_id:int}/download", self.content_exports.download))
        routes.append(Route("/storage/{file_id:int}", self.content_exports.stored))
        routes.append(Route("/api/{rest:path}", self._guarded(self.unknown), methods=["GET", "POST", "PUT", "DELETE"]))
        return routes

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            refusal = self._unauthenticated(request)
            if refusal is not None:
                return refusal
            if not self._bucket.admit():
                throttled = canvas_throttled(self._state.behaviour.canvas_throttle_status)
                return PlainTextResponse(throttled.encoded()[0], throttled.status or 403, dict(throttled.headers))
            try:
                response = await handler(request)
            except Refusal as refused:
                response = refused.response
            usual = 0.02 + len(response.body) / 100_000
            given = self._state.behaviour.canvas_request_cost
            cost = usual if given is None else given
            response.headers["X-Request-Cost"] = str(cost)
            response.headers["X-Rate-Limit-Remaining"] = str(self._bucket.settle(cost))
            return response

        return answer

    def _unauthenticated(self, request: Request) -> Response | None:
        header = request.headers.get("authorization", "")
        token = header.removeprefix("Bearer ") if header else request.query_params.get("access_token", "")
        headers = {"WWW-Authenticate": 'Bearer realm="canvas-lms"'}
        if not token:
            body: Json = {"status": "unauthenticated", "errors": [{"message": "user authorization required"}]}
            return JSONResponse(body, 401, headers)
        validity = self._state.behaviour.canvas_token if token == self._token else "invalid"
        if validity == "valid":
            return None
        error = {"message": f"{validity.capitalize()} access token."}
        if validity == "expired":
            error["expired_at"] = "2025-01-01T00:00:00Z"
        return JSONResponse({"errors": [error]}, 401, headers)

    def _course(self, request: Request) -> CanvasCourse:
        wanted = request.path_params.get("course_id") or request.path_params["id"]
        for course in self._state.content.canvas:
            identity = course.identity
            if wanted in {str(identity.id), f"sis_course_id:{identity.sis_course_id}"}:
                if identity.id in self._state.behaviour.canvas_no_permission:
                    raise self._forbidden()
                return course
        raise Refusal(404, {"errors": [{"message": NOT_FOUND}]})

    def _forbidden(self) -> Refusal:
        message = "user not authorized to perform that action"
        body: Json = {"status": "unauthorized", "errors": [{"message": message}]}
        return Refusal(self._state.behaviour.canvas_permission_status, body)

    def _view(self, course: CanvasCourse) -> CanvasView:
        return course.view(self._state.revision(course.identity.id))

    def _page(
        self, request: Request, items: Sequence[T], json: Callable[[T], Json], *, bookmarks: bool = False
    ) -> Response:
        try:
            chosen, links = page_of(request, self._state.base_url, items, bookmarks=bookmarks)
        except ValueError:
            raise Refusal(400, {"errors": [{"message": "page parameter is invalid"}]}) from None
        return self._json(request, [json(item) for item in chosen], {"Link": links})

    def _json(self, request: Request, body: object, headers: dict[str, str] | None = None) -> Response:
        if STRING_IDS in request.headers.get("accept", ""):
            body = canvas_json.with_string_ids(body)
        return JSONResponse(body, headers=headers)

    async def unknown(self, request: Request) -> Response:  # noqa: ARG002  # the signature is the caller's
        """Any other path."""
        raise Refusal(404, {"errors": [{"message": NOT_FOUND}]})

    async def courses(self, request: Request) -> Response:
        """The courses of an account."""
        if request.path_params["account_id"] != str(ACCOUNT_ID):
            raise Refusal(404, {"errors": [{"message": NOT_FOUND}]})
        query = request.query_params
        states = set(query.getlist("state[]")) or {"created", "claimed", "available", "unpublished", "completed"}
        if query.get("published") == "true":
            states &= {"available", "completed"}
        known_term = query.get("enrollment_term_id", str(TERM_ID)) == str(TERM_ID)
        chosen = [c for c in self._state.content.canvas if known_term and c.identity.workflow_state in states]

        def json(course: CanvasCourse) -> Json:
            restricted = course.identity.id in self._state.behaviour.canvas_restricted
            return (canvas_json.restricted_course if restricted else canvas_json.course)(course.identity)

        return self._page(request, chosen, json, bookmarks=True)

    async def course(self, request: Request) -> Response:
        """One course."""
        return self._json(request, canvas_json.course(self._course(request).identity))

    async def files(self, request: Request) -> Response:
        """The files of a course, all folders together."""
        course = self._course_with_files(request)
        download = self.content_exports.download_url
        files = self._view(course).files
        return self._page(request, files, lambda record: canvas_json.file(record, download(record.id)), bookmarks=True)

    async def folders(self, request: Request) -> Response:
        """The folders of a course, flat."""
        course = self._course_with_files(request)
        view = self._view(course)
        files, folders = Counter(f.folder_id for f in view.files), Counter(f.parent_id for f in view.folders)
        return self._page(
            request,
            view.folders,
            lambda record: canvas_json.folder(
                record,
                f"{self._url}/api/v1",
                course.identity.id,
                {"files_count": files[record.id], "folders_count": folders[record.id]},
            ),
        )

    def _course_with_files(self, request: Request) -> CanvasCourse:
        course = self._course(request)
        if course.identity.id in self._state.behaviour.canvas_files_hidden:
            raise self._forbidden()
        return course

    async def pages(self, request: Request) -> Response:
        """The pages of a course."""
        course = self._course(request)
        if course.identity.id in self._state.behaviour.canvas_pages_disabled:
            raise Refusal(404, {"message": "That page has been disabled for this course"})
        url = self._course_url(course)
        return self._page(request, self._view(course).pages, lambda record: canvas_json.page(record, url))

    def _course_url(self, course: CanvasCourse) -> str:
        return f"{self._url}/courses/{course.identity.id}"

    async def assignments(self, request: Request) -> Response:
        """The assignments of a course."""
        course = self._course(request)
        url, course_id = self._course_url(course), course.identity.id
        records = self._view(course).assignments
        return self._page(request, records, lambda record: canvas_json.assignment(record, course_id, url))

    async def modules(self, request: Request) -> Response:
        """The modules of a course; `include[]=items` adds items to most of them."""
        course = self._course(request)
        api, url = f"{self._url}/api/v1/courses/{course.identity.id}", self._course_url(course)
        with_items = "items" in request.query_params.getlist("include[]")

        def json(pair: tuple[int, CanvasModule]) -> Json:
            number, record = pair
            body = canvas_json.module(record, api)
            if with_items and number % LEFT_OUT_EVERY == 0:
                body["items"] = [canvas_json.module_item(item, record.id, url) for item in record.items]
            return body

        return self._page(request, list(enumerate(self._view(course).modules)), json)

    async def module_items(self, request: Request) -> Response:
        """The items of a module."""
        course = self._course(request)
        url = self._course_url(course)
        found = [m for m in self._view(course).modules if str(m.id) == request.path_params["module_id"]]
        if not found:
            raise Refusal(404, {"errors": [{"message": NOT_FOUND}]})
        return self._page(request, found[0].items, lambda item: canvas_json.module_item(item, found[0].id, url))

    async def submit_export(self, request: Request) -> Response:
        """Start an export."""
        return await self.content_exports.submit(request, self._course(request))

    async def exports(self, request: Request) -> Response:
        """The exports of a course, newest first."""
        jobs = self.content_exports.of(self._course(request))
        return self._page(request, jobs, self.content_exports.json)

    async def export(self, request: Request) -> Response:
        """One export; each call moves it on."""
        job = self._job(request, self.content_exports.of(self._course(request)))
        await self.content_exports.poll(job)
        return self._json(request, self.content_exports.json(job))

    async def progress(self, request: Request) -> Response:
        """The progress of an export; each call moves it on."""
        job = self._job(request, self.content_exports.jobs)
        await self.content_exports.poll(job)
        return self._json(request, self.content_exports.progress(job))

    async def user(self, request: Request) -> Response:
        """The user whose token it is; the campus knows no other."""
        if request.path_params["id"] not in {"self", str(canvas_json.USER_ID)}:
            raise Refusal(404, {"errors": [{"message": NOT_FOUND}]})
        return self._json(request, {"id": canvas_json.USER_ID, "name": "Campus"})

    def _job(self, request: Request, jobs: Sequence[ContentExport]) -> ContentExport:
        for job in jobs:
            if str(job.id) == request.path_params["id"]:
                return job
        raise Refusal(404, {"errors": [{"message": NOT_FOUND}]})
