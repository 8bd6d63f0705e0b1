"""The simulated Studio of one deployment: the export plugin, and the bucket that it writes to.

Source: ol_openedx_course_export 0.4 (mitodl/open-edx-plugins); states of django-user-tasks.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ol_devkit.campus.archive_ids import COURSE_KEY
from ol_devkit.campus.courses import OpenEdxCourse, Revision
from ol_devkit.campus.lms import TokenIssuer
from ol_devkit.campus.state import CampusState, object_store_refusal, parameters
from ol_devkit.generators.seeds import Seed

MAX_VERSIONS = 200


@dataclass(slots=True)
class ExportTask:
    """One task of the plugin; `number` counts the exports of the course."""

    course: OpenEdxCourse
    number: int
    polls: int = 0
    state: str = "Pending"


class Studio:
    """The endpoints of the plugin, and the bucket."""

    def __init__(self, state: CampusState, deployment: str, tokens: TokenIssuer) -> None:
        self._state = state
        self._deployment = deployment
        self._tokens = tokens
        self._courses = {course.run.course_id: course for course in state.content.openedx[deployment]}
        self._tasks: dict[str, ExportTask] = {}
        self._exports: Counter[str] = Counter()
        # The key of an object names the course only: each export overwrites the one before it.
        self._bucket: dict[str, tuple[Revision, int]] = {}

    def routes(self) -> list[Route]:
        """The routes below `/{deployment}/studio`."""
        return [
            Route("/api/courses/v0/export/", self.submit, methods=["POST"]),
            Route("/api/courses/v0/export/versions/", self.versions, methods=["POST"]),
            Route("/api/courses/v0/export/{course_id:path}/", self.status),
        ]

    def bucket_routes(self) -> list[Route]:
        """The routes below `/{deployment}/exports`."""
        return [Route("/{key:path}.tar.gz", self.download)]

    async def submit(self, request: Request) -> Response:
        """Queue an export of each course; 400 with the same body when any is refused."""
        refusal = self._tokens.refusal(request)
        if refusal is not None:
            return refusal
        course_ids = (await parameters(request)).get("courses")
        if not isinstance(course_ids, list) or not course_ids:
            return _internal_error("No course(s) found in request", 400)
        urls: dict[str, str] = {}
        task_ids: dict[str, str] = {}
        failed: dict[str, str] = {}
        for course_id in map(str, course_ids):
            course = self._courses.get(course_id)
            reason = self._state.behaviour.studio_refused.get(course_id)
            if reason is None and course is None:
                reason = "Course does not exist" if COURSE_KEY.fullmatch(course_id) else "Invalid course key"
            if reason is not None or course is None:
                failed[course_id] = str(reason)
                continue
            self._exports[course_id] += 1
            number = self._exports[course_id]
            task_id = _uuid(Seed.of(course_id).hex(f"task/{number}"))
            self._tasks[task_id] = ExportTask(course, number)
            task_ids[course_id] = task_id
            key = quote(course_id, safe="")
            urls[course_id] = f"{self._state.base_url}/{self._deployment}/exports/{key}.tar.gz"
        body = {"upload_urls": urls, "upload_task_ids": task_ids, "failed_uploads": failed}
        return JSONResponse(body, 400 if failed else 200)

    async def status(self, request: Request) -> Response:
        """The state of a task; each call moves it on."""
        refusal = self._tokens.refusal(request)
        if refusal is not None:
            return refusal
        course_id = request.path_params["course_id"]
        if course_id not in self._courses:
            return JSONResponse({"detail": "Not found."}, 404)
        if "task_id" not in request.query_params:
            return _internal_error("'task_id'", 500)
        task = self._tasks.get(request.query_params["task_id"])
        if task is None or task.course.run.course_id != course_id:
            return JSONResponse({"detail": "Task not found"}, 404)
        behaviour = self._state.behaviour
        states = behaviour.studio_states.get(course_id, behaviour.studio_default_states)
        succeeded_before = task.state == "Succeeded"
        task.state = states[min(task.polls, len(states) - 1)]
        task.polls += 1
        if task.state == "Succeeded" and not succeeded_before:
            self._bucket[course_id] = (self._state.revision(course_id), task.number)
        return JSONResponse({"state": task.state})

    async def versions(self, request: Request) -> Response:
        """The versions of up to 200 courses; unlike the outline's they move with files and transcripts."""
        if self._state.behaviour.studio_versions == "absent":
            return JSONResponse({"detail": "Not found."}, 404)
        if self._state.behaviour.studio_versions == "exports":
            return await self.submit(request)
        refusal = self._tokens.refusal(request)
        if refusal is not None:
            return refusal
        course_ids = (await parameters(request)).get("courses")
        if not isinstance(course_ids, list) or not 1 <= len(course_ids) <= MAX_VERSIONS:
            return _internal_error(f"Give 1 to {MAX_VERSIONS} courses", 400)
        known = {course_id: self._courses[course_id] for course_id in course_ids if course_id in self._courses}
        versions = {course_id: await asyncio.to_thread(self._version, known[course_id]) for course_id in known}
        missing = [course_id for course_id in course_ids if course_id not in known]
        return JSONResponse({"versions": versions, "missing": missing})

    def _version(self, course: OpenEdxCourse) -> dict[str, object]:
        version = course.version(self._state.revision(course.run.course_id))
        return {
            "published_version": version.published,
            "static_assets": {
                "count": version.asset_count,
                "latest_upload": version.latest_upload,
                "latest_asset": version.latest_asset,
            },
            "transcripts": {"count": version.transcript_count, "latest_modified": version.latest_transcript},
        }

    async def download(self, request: Request) -> Response:
        """The last export of a course; like S3 it refuses an `Authorization` header that it does not understand."""
        if "authorization" in request.headers:
            return object_store_refusal("InvalidArgument", 400)
        course_id = request.path_params["key"]
        held = self._bucket.get(course_id)
        if held is None:
            return object_store_refusal("NoSuchKey", 404)
        revision, number = held
        archive = self._courses[course_id].archive
        path = await asyncio.to_thread(archive, revision, number, self._state.store)
        return FileResponse(path, media_type="application/gzip")


def _internal_error(message: str, status: int) -> Response:
    return JSONResponse({"developer_message": message, "error_code": "internal_error"}, status)


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"
