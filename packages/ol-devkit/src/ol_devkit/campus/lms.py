"""The simulated LMS of one Open edX deployment: tokens, the list of courses and their outlines.

Source: openedx-platform (lms/djangoapps/course_api, openedx/core/djangoapps/content/learning_sequences).
"""

import base64
import json
import re
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ol_devkit.campus.archive_ids import COURSE_KEY
from ol_devkit.campus.courses import CourseRun
from ol_devkit.campus.state import CampusState, parameters
from ol_devkit.generators.seeds import Seed

DEFAULT_PAGE_SIZE = 10
MAX_PAGE_SIZE = 100


class TokenIssuer:
    """The OAuth2 server of a deployment; its tokens open the LMS and Studio."""

    def __init__(self, state: CampusState, deployment: str) -> None:
        self._state = state
        self._secrets = state.secrets()[f"openedx/{deployment}"]
        self._expiry: dict[str, float] = {}
        self._issued = 0

    def revoke(self) -> None:
        """Refuse every token issued so far, as after a change of the signing key."""
        self._expiry.clear()

    async def issue(self, request: Request) -> Response:
        """`POST /oauth2/access_token`."""
        given = await parameters(request)
        held = {key: given.get(key) for key in ("client_id", "client_secret")}
        if request.headers.get("authorization", "").startswith("Basic "):
            decoded = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
            held = dict(zip(("client_id", "client_secret"), decoded.partition(":")[::2], strict=True))
        if held != self._secrets:
            return JSONResponse({"error": "invalid_client"}, 401)
        if given.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        self._issued += 1
        lifetime = self._state.behaviour.lms_token_lifetime_seconds
        is_jwt = str(given.get("token_type", "")).lower() == "jwt"
        token = self._jwt() if is_jwt else Seed.of(self._secrets["client_secret"]).hex(self._issued, 30)
        if is_jwt:
            # Only these are remembered: the APIs that the platform calls refuse opaque bearer tokens.
            self._expiry[token] = self._state.clock() + lifetime
        scope = "read write profile email"
        kind = "JWT" if is_jwt else "Bearer"
        return JSONResponse({"access_token": token, "expires_in": lifetime, "token_type": kind, "scope": scope})

    def _jwt(self) -> str:
        parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "campus", "n": self._issued})
        body = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        return f"{body}.{Seed.of(self._secrets['client_secret']).hex(body, 43)}"

    def refusal(self, request: Request) -> Response | None:
        """The 401 for a caller without a valid token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        headers = {"WWW-Authenticate": 'JWT realm="api"'}
        if scheme != "JWT" or not token:
            text = "Authentication credentials were not provided."
            return JSONResponse({"developer_message": text}, 401, headers)
        if token not in self._expiry:
            return JSONResponse({"developer_message": "Invalid token."}, 401, headers)
        if self._expiry[token] <= self._state.clock():
            return JSONResponse({"developer_message": "Token has expired."}, 401, headers)
        return None


class Lms:
    """The endpoints of the LMS."""

    def __init__(self, state: CampusState, deployment: str, tokens: TokenIssuer) -> None:
        self._state = state
        self._url = f"{state.base_url}/{deployment}/lms"
        self._tokens = tokens
        self._courses = {course.run.course_id: course for course in state.content.openedx[deployment]}

    def routes(self) -> list[Route]:
        """The routes below `/{deployment}/lms`."""
        return [
            Route("/oauth2/access_token", self._tokens.issue, methods=["POST"]),
            Route("/api/courses/v1/courses/", self.courses),
            Route("/api/courses/v1/courses/{course_id:path}/", self.course),
            Route("/api/learning_sequences/v1/course_outline/{course_id:path}", self.outline),
        ]

    async def courses(self, request: Request) -> Response:
        """The course list, paged as Django REST framework pages an estimated sequence."""
        refusal = self._tokens.refusal(request)
        if refusal is not None:
            return refusal
        org = request.query_params.get("org")
        chosen = [course for course in self._courses.values() if org in {None, course.run.org}]
        asked = request.query_params.get("page_size", "")
        page_size = min(MAX_PAGE_SIZE, int(asked)) if re.fullmatch(r"[1-9]\d*", asked) else DEFAULT_PAGE_SIZE
        count = len(chosen) + self._state.behaviour.lms_overstated_count
        pages = max(1, -(-count // page_size))
        asked = request.query_params.get("page", "1")
        page = int(asked) if re.fullmatch(r"[1-9]\d*", asked) else 0
        results = chosen[(page - 1) * page_size : page * page_size] if page else []
        if not results and page != 1:
            text = f"Invalid page ({asked}): That page contains no results"
            return JSONResponse({"developer_message": text}, 404)

        def link(number: int) -> str:
            query = {**request.query_params, "page": str(number)}
            return f"{self._url}/api/courses/v1/courses/?{urlencode(query)}"

        pagination = {
            "next": link(page + 1) if page < pages else None,
            "previous": link(page - 1) if page > 1 else None,
            "count": count,
            "num_pages": pages,
        }
        return JSONResponse({"results": [self._json(c.run) for c in results], "pagination": pagination})

    async def course(self, request: Request) -> Response:
        """The detail of one course."""
        refusal = self._tokens.refusal(request)
        if refusal is not None:
            return refusal
        course_id = request.path_params["course_id"]
        if not COURSE_KEY.fullmatch(course_id):
            text = f"'{course_id}' is not a valid course key."
            return JSONResponse({"field_errors": {"course_key": {"developer_message": text}}}, 400)
        course = self._courses.get(course_id)
        if course is None:
            return JSONResponse({"developer_message": "Course not found."}, 404)
        return JSONResponse({**self._json(course.run), "overview": f"<p>{course.run.name}</p>"})

    async def outline(self, request: Request) -> Response:
        """The outline of one course; the new API knows no old-style keys."""
        refusal = self._tokens.refusal(request)
        if refusal is not None:
            return refusal
        course_id = request.path_params["course_id"]
        if not COURSE_KEY.fullmatch(course_id) or "/" in course_id:
            return JSONResponse({"developer_message": f"Invalid course key: {course_id}"}, 400)
        course = self._courses.get(course_id)
        if course is None:
            return JSONResponse({"developer_message": f"No outline for {course_id}"}, 404)
        version = course.version(self._state.revision(course_id))
        return JSONResponse(
            {
                "course_key": course_id,
                "course_start": course.run.start,
                "course_end": course.run.end,
                "title": course.run.name,
                "published_at": "2025-08-01T12:00:00Z",
                "published_version": version.published,
                "entrance_exam_id": None,
                "days_early_for_beta": None,
                "self_paced": course.run.self_paced,
                "username": "campus",
                "user_id": 1,
                "at_time": "2025-09-01T00:00:00Z",
                "outline": {"sections": [], "sequences": {}},
            }
        )

    def _json(self, run: CourseRun) -> dict[str, object]:
        block = f"block-v1:{run.org}+{run.number}+{run.run}+type@course+block@course"
        image = f"{self._url}/asset-v1:{run.org}+{run.number}+{run.run}+type@asset+block@course_image.png"
        return {
            "id": run.course_id,
            "course_id": run.course_id,
            "name": run.name,
            "org": run.org,
            "number": run.number,
            "short_description": None,
            "effort": None,
            "start": run.start,
            "start_display": run.start,
            "start_type": "timestamp" if run.start else "empty",
            "end": run.end,
            "enrollment_start": run.enrollment_start,
            "enrollment_end": run.enrollment_end,
            "pacing": "self" if run.self_paced else "instructor",
            "hidden": False,
            "invitation_only": False,
            "mobile_available": False,
            "blocks_url": f"{self._url}/api/courses/v2/blocks/?course_id={quote(block)}",
            "media": {"course_image": {"uri": image}, "course_video": {"uri": None}},
        }
