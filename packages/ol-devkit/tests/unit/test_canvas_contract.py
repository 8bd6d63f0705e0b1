"""The simulated Canvas against Canvas's own API documentation of 2017 (Swagger 1.2)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from ol_devkit.campus import Campus, CampusContent
from ol_devkit.campus.canvas import ROUTES

pytestmark = pytest.mark.samples

# Fields that Canvas answers with and that the documents of 2017 do not name.
NEWER_FIELDS = {
    ("File", "uuid"): "lib/api/v1/attachment.rb",
    ("File", "folder_id"): "lib/api/v1/attachment.rb",
    ("File", "filename"): "lib/api/v1/attachment.rb",
    ("Page", "page_id"): "lib/api/v1/wiki_page.rb",
    ("Page", "html_url"): "lib/api/v1/wiki_page.rb",
    ("Module", "published"): "documented later, for callers who may see unpublished modules",
    ("ModuleItem", "published"): "documented later, for callers who may see unpublished items",
}
# Operations of resources whose document is not among the samples.
OTHER_OPERATIONS = {("GET", "/v1/users/{id}"): "doc/api/users.md, Show user details"}
# Types that the documents state too narrowly.
OTHER_TYPES: dict[tuple[str, str], type] = {
    ("Assignment", "points_possible"): float,  # documented as integer; Canvas answers 12.0
}
# Values that the documents leave out.
NEWER_STATES = {"waiting_for_external_tool", "deleted", "exported_for_course_copy"}
TYPES: dict[str, Any] = {
    "integer": int,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "datetime": str,
    "object": dict,
}


class Documents:
    def __init__(self, folder: Path) -> None:
        documents = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        self.models: dict[str, Any] = {}
        self.operations: set[tuple[str, str]] = set()
        for document in documents:
            self.models |= document.get("models", {})
            for api in document["apis"]:
                self.operations |= {(operation["method"], api["path"]) for operation in api.get("operations", ())}

    def check(self, model: str, value: dict[str, Any]) -> None:
        """Every field is in the model and has the type that it names; null is always allowed."""
        properties = self.models[model]["properties"]
        for name, inner in value.items():
            if (model, name) in NEWER_FIELDS or inner is None:
                continue
            assert name in properties, f"{model}.{name} is in no document"
            self._check_type(model, name, properties[name], inner)

    def _check_type(self, model: str, name: str, declared: dict[str, Any], inner: Any) -> None:
        if (model, name) in OTHER_TYPES:
            assert isinstance(inner, OTHER_TYPES[model, name])
        elif "$ref" in declared:
            self.check(declared["$ref"], inner)
        elif declared["type"] == "array":
            for element in inner:
                self._check_type(model, name, declared["items"], element)
        else:
            is_flag = isinstance(inner, bool) and declared["type"] != "boolean"
            assert isinstance(inner, TYPES[declared["type"]]), f"{model}.{name} is {inner!r}"
            assert not is_flag, f"{model}.{name} is {inner!r}"


@pytest.fixture(scope="module")
def documents(samples: Path) -> Documents:
    return Documents(samples / "canvas-swagger-1.2" / "api")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route[0]} {route[1]}")
def test_every_path_and_method_is_documented(documents: Documents, route: tuple[str, str, str]) -> None:
    assert (route[:2] in documents.operations) != (route[:2] in OTHER_OPERATIONS)


def test_every_answer_fits_its_model(
    documents: Documents, open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]
) -> None:
    campus = open_campus(CampusContent.generated(seed=3, canvas_courses=7, openedx_courses=0, size=60))
    campus.behaviour.canvas_restricted.add(4007)
    checked = dict.fromkeys(("Course", "File", "Folder", "Page", "Assignment", "Module", "ModuleItem"), 0)
    with canvas_client(campus) as client:

        def check(model: str, path: str, **params: str) -> list[dict[str, Any]]:
            records: list[dict[str, Any]] = client.get(path, params={"per_page": "100", **params}).json()
            for record in records:
                documents.check(model, record)
            checked[model] += len(records)
            return records

        for course in check("Course", "accounts/1/courses"):
            url = f"courses/{course['id']}"
            documents.check("Course", client.get(url).json())
            for model, path in {"File": "files", "Folder": "folders", "Page": "pages"}.items():
                check(model, f"{url}/{path}")
            check("Assignment", f"{url}/assignments")
            for module in check("Module", f"{url}/modules", **{"include[]": "items"}):
                check("ModuleItem", module["items_url"])
    assert min(checked.values()) >= 7, checked


def test_exports_fit_their_models(
    documents: Documents, open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]
) -> None:
    campus = open_campus()
    campus.behaviour.canvas_states[4001] = ("waiting_for_external_tool", "exporting", "exported")
    known = set(documents.models["ContentExport"]["properties"]["workflow_state"]["allowableValues"]["values"])
    with canvas_client(campus) as client:
        job = client.post("courses/4001/content_exports", data={"export_type": "common_cartridge"}).json()
        documents.check("ContentExport", job)
        for _ in range(3):
            job = client.get(f"courses/4001/content_exports/{job['id']}").json()
            documents.check("ContentExport", job)
            assert job["workflow_state"] in known | NEWER_STATES
        assert "attachment" in job
        progress = client.get(job["progress_url"]).json()
        documents.check("Progress", progress)
        assert progress["workflow_state"] in {"queued", "running", "completed", "failed"}


def test_the_known_gaps_are_still_gaps(documents: Documents) -> None:
    for model, name in NEWER_FIELDS:
        assert name not in documents.models[model]["properties"], f"{model}.{name} is documented after all"


def test_fields_of_recorded_answers_are_in_ours(
    samples: Path, open_campus: Callable[..., Campus], canvas_client: Callable[..., httpx.Client]
) -> None:
    """The fixtures of the Python client `canvasapi` know the least that callers rely on."""
    fixtures = json.loads((samples / "canvasapi-fixtures" / "tests" / "fixtures" / "course.json").read_text())
    campus = open_campus()
    with canvas_client(campus) as client:
        course = client.get("courses/4001").json()
        assert set(fixtures["get_by_id"]["data"]) - {"grading_standard_id"} <= course.keys()
        assert set(fixtures["get_by_sis_id"]["data"]) - {"grading_standard_id"} <= course.keys()
        for fixture, path in {
            "list_course_files": "files",
            "list_folders": "folders",
            "get_all_assignments": "assignments",
            "list_modules": "modules",
        }.items():
            ours = client.get(f"courses/4001/{path}").json()[0]
            assert set(fixtures[fixture]["data"][0]) <= ours.keys(), path
        created = client.post("courses/4001/content_exports", data={"export_type": "common_cartridge"}).json()
        assert set(fixtures["single_content_export"]["data"]) <= created.keys()
