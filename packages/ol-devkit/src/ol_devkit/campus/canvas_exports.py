"""Content exports of the simulated Canvas: jobs that move on with every poll, and the download of what they made.

Source: canvas-lms app/models/content_export.rb, lib/api/v1/content_export.rb, lib/api/v1/attachment.rb.
"""

import asyncio
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from ol_devkit.campus import canvas_json
from ol_devkit.campus.canvas_json import Json
from ol_devkit.campus.courses import CanvasCourse, Revision
from ol_devkit.campus.state import CampusState, object_store_refusal, parameters
from ol_devkit.generators.canvas_view import IDS_PER_COURSE, CanvasFile
from ol_devkit.generators.cartridge import FIRST_EXPORT
from ol_devkit.generators.seeds import Seed

FIRST_ATTACHMENT_ID = 9_000_000_000
EXPORT_TYPES = ("common_cartridge", "qti", "zip")
PROGRESS = {"created": "queued", "exported": "completed", "failed": "failed", "deleted": "failed"}
MEDIA_TYPE = "application/octet-stream"


@dataclass(slots=True)
class ContentExport:
    """One export job; `done` is the revision that it exported, None until there is a cartridge."""

    id: int
    course: CanvasCourse
    number: int
    export_type: str
    notifies: bool
    state: str = "created"
    polls: int = 0
    done: Revision | None = None
    size_bytes: int = 0
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class CanvasExports:
    """The export jobs of the campus."""

    def __init__(self, state: CampusState) -> None:
        self._state = state
        self.jobs: list[ContentExport] = []

    async def submit(self, request: Request, course: CanvasCourse) -> Response:
        """`POST /courses/:id/content_exports`."""
        given = await parameters(request)
        export_type = given.get("export_type")
        if export_type not in EXPORT_TYPES:
            return JSONResponse({"message": "invalid export_type"}, 400)
        number = sum(job.course is course for job in self.jobs)
        notifies = str(given.get("skip_notifications", False)).lower() not in {"true", "1"}
        job = ContentExport(len(self.jobs) + 1, course, number, str(export_type), notifies)
        self.jobs.append(job)
        return JSONResponse(self.json(job))

    def of(self, course: CanvasCourse) -> list[ContentExport]:
        """The jobs of a course, newest first."""
        return [job for job in reversed(self.jobs) if job.course is course]

    async def poll(self, job: ContentExport) -> None:
        """Move a job on by one poll."""
        behaviour, course_id = self._state.behaviour, job.course.identity.id
        states = behaviour.canvas_states.get(course_id, behaviour.canvas_default_states)
        job.state = states[min(job.polls, len(states) - 1)]
        job.polls += 1
        if job.state == "exported" and job.done is None:
            revision = self._state.revision(course_id)
            path = await asyncio.to_thread(job.course.archive, revision, job.number, self._state.store)
            job.done, job.size_bytes = revision, path.stat().st_size

    def json(self, job: ContentExport) -> Json:
        """A ContentExport; `attachment` only where there is a file."""
        has_file = job.done is not None and job.course.identity.id not in self._state.behaviour.canvas_no_attachment
        return {
            "id": job.id,
            "created_at": job.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "export_type": job.export_type,
            "progress_url": f"{self._state.base_url}/canvas/api/v1/progress/{job.id}",
            "user_id": canvas_json.USER_ID,
            "workflow_state": job.state,
            **({"attachment": self._attachment(job)} if has_file else {}),
        }

    def progress(self, job: ContentExport) -> Json:
        """The Progress of a job."""
        state = PROGRESS.get(job.state, "running")
        moment = (FIRST_EXPORT + timedelta(minutes=job.id)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "id": job.id,
            "context_id": job.id,
            "context_type": "ContentExport",
            "user_id": canvas_json.USER_ID,
            "tag": "content_export",
            "completion": 100 if state == "completed" else 0,
            "workflow_state": state,
            "created_at": moment,
            "updated_at": moment,
            "message": None,
            "url": f"{self._state.base_url}/canvas/api/v1/progress/{job.id}",
        }

    def _attachment(self, job: ContentExport) -> Json:
        name = f"{job.course.identity.course_code}-export.imscc".replace("/", "-")
        record = CanvasFile(FIRST_ATTACHMENT_ID + job.id, 0, name, name, "application/zip", job.size_bytes)
        return {**canvas_json.file(record, self.download_url(record.id)), "folder_id": None}

    def download_url(self, file_id: int) -> str:
        """Where a file can be had without a bearer."""
        query = f"download_frd=1&verifier={self._verifier(file_id)}"
        return f"{self._state.base_url}/canvas/files/{file_id}/download?{query}"

    def _verifier(self, file_id: int) -> str:
        return Seed.of(self._state.secret("verifier")).hex(file_id, 40)

    async def download(self, request: Request) -> Response:
        """`GET /files/:id/download`: a redirect to the store of files, as Canvas gives it."""
        file_id = int(request.path_params["file_id"])
        if request.query_params.get("verifier") != self._verifier(file_id):
            message = [{"message": "user authorization required"}]
            return JSONResponse({"status": "unauthenticated", "errors": message}, 401)
        token = Seed.of(self._verifier(file_id)).hex("storage", 40)
        return RedirectResponse(f"{self._state.base_url}/canvas/storage/{file_id}?token={token}", 302)

    async def stored(self, request: Request) -> Response:
        """The store behind the redirect; like S3 it refuses a signed URL together with an `Authorization` header."""
        file_id = int(request.path_params["file_id"])
        if "authorization" in request.headers:
            return object_store_refusal("InvalidArgument", 400)
        if request.query_params.get("token") != Seed.of(self._verifier(file_id)).hex("storage", 40):
            return object_store_refusal("AccessDenied", 403)
        number = file_id - FIRST_ATTACHMENT_ID
        if number < 1:
            return await asyncio.to_thread(self._course_file, file_id)
        job = self.jobs[number - 1] if number <= len(self.jobs) else None
        if job is None or job.done is None:
            return object_store_refusal("NoSuchKey", 404)
        path = await asyncio.to_thread(job.course.archive, job.done, job.number, self._state.store)
        return FileResponse(path, media_type=MEDIA_TYPE)

    def _course_file(self, file_id: int) -> Response:
        for course in self._state.content.canvas:
            if course.identity.id == file_id // IDS_PER_COURSE:
                revision = self._state.revision(course.identity.id)
                for record in course.view(revision).files:
                    if record.id == file_id:
                        with zipfile.ZipFile(course.archive(revision, 0, self._state.store)) as archive:
                            return Response(archive.read(record.path), media_type=record.content_type)
        return object_store_refusal("NoSuchKey", 404)
