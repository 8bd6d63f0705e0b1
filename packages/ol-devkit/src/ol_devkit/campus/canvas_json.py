"""The JSON objects of the Canvas API. Fields follow the models of Canvas's own API documentation."""

from collections.abc import Mapping
from urllib.parse import quote_plus

from ol_devkit.generators.canvas_view import (
    TERM_ID,
    UPDATED_AT,
    CanvasAssignment,
    CanvasFile,
    CanvasFolder,
    CanvasIdentity,
    CanvasModule,
    CanvasModuleItem,
    CanvasPage,
)
from ol_devkit.generators.seeds import Seed

ACCOUNT_ID = 1
USER_ID = 31

Json = dict[str, object]


def course(identity: CanvasIdentity) -> Json:
    """A Course."""
    return {
        "id": identity.id,
        "uuid": Seed.of(identity.id).hex("uuid", 40),
        "name": identity.name,
        "course_code": identity.course_code,
        "sis_course_id": identity.sis_course_id,
        "workflow_state": identity.workflow_state,
        "account_id": ACCOUNT_ID,
        "root_account_id": ACCOUNT_ID,
        "enrollment_term_id": TERM_ID,
        "start_at": identity.start_at,
        "end_at": identity.end_at,
        "default_view": "modules",
        "is_public": False,
        "license": "private",
        "time_zone": "America/New_York",
        "blueprint": False,
    }


def restricted_course(identity: CanvasIdentity) -> Json:
    """What the list shows of a course outside its dates."""
    return {"id": identity.id, "access_restricted_by_date": True}


def folder(record: CanvasFolder, api: str, course_id: int, counts: Mapping[str, int]) -> Json:
    """A Folder; `counts` has `files_count` and `folders_count`."""
    return {
        "id": record.id,
        "parent_folder_id": record.parent_id,
        "name": record.full_name.rpartition("/")[2],
        "full_name": record.full_name,
        "context_type": "Course",
        "context_id": course_id,
        "files_url": f"{api}/folders/{record.id}/files",
        "folders_url": f"{api}/folders/{record.id}/folders",
        "position": None,
        "created_at": UPDATED_AT,
        "updated_at": UPDATED_AT,
        "lock_at": None,
        "unlock_at": None,
        "locked": False,
        "locked_for_user": False,
        "hidden": None,
        "hidden_for_user": False,
        "for_submissions": False,
        **counts,
    }


def file(record: CanvasFile, url: str) -> Json:
    """A File; `url` is empty where the file is locked for the caller."""
    return {
        "id": record.id,
        "uuid": Seed.of(record.id).hex("uuid", 40),
        "folder_id": record.folder_id,
        "display_name": record.display_name,
        "filename": quote_plus(record.path.rpartition("/")[2]),
        "content-type": record.content_type,
        "url": "" if record.locked else url,
        "size": record.size_bytes,
        "created_at": UPDATED_AT,
        "updated_at": UPDATED_AT,
        "modified_at": UPDATED_AT,
        "lock_at": None,
        "unlock_at": None,
        "locked": record.locked,
        "locked_for_user": record.locked,
        "hidden": record.hidden,
        "hidden_for_user": False,
        "thumbnail_url": None,
        "mime_class": record.content_type.partition("/")[0],
        "media_entry_id": None,
    }


def page(record: CanvasPage, url: str) -> Json:
    """A Page of a list; lists have no `body`."""
    return {
        "page_id": record.id,
        "url": record.url,
        "title": record.title,
        "created_at": UPDATED_AT,
        "updated_at": UPDATED_AT,
        "hide_from_students": not record.published,
        "editing_roles": "teachers",
        "published": record.published,
        "front_page": record.front_page,
        "locked_for_user": False,
        "html_url": f"{url}/pages/{record.url}",
    }


def assignment(record: CanvasAssignment, course_id: int, url: str) -> Json:
    """An Assignment; `quiz_id` only where a quiz stands behind it."""
    quiz = {} if record.quiz_id is None else {"quiz_id": record.quiz_id}
    return {
        "id": record.id,
        "name": record.name,
        "description": "<p>See the unit.</p>",
        "course_id": course_id,
        "assignment_group_id": course_id,
        "created_at": UPDATED_AT,
        "updated_at": UPDATED_AT,
        "due_at": record.due_at,
        "lock_at": None,
        "unlock_at": None,
        "points_possible": record.points_possible,
        "grading_type": "points",
        "submission_types": list(record.submission_types),
        "published": record.published,
        "position": 1,
        "html_url": f"{url}/assignments/{record.id}",
        "has_submitted_submissions": False,
        "omit_from_final_grade": False,
        "only_visible_to_overrides": False,
        **quiz,
    }


def module(record: CanvasModule, course_api: str) -> Json:
    """A Module without its items."""
    return {
        "id": record.id,
        "name": record.name,
        "position": record.position,
        "unlock_at": None,
        "require_sequential_progress": False,
        "prerequisite_module_ids": [],
        "publish_final_grade": False,
        "published": record.published,
        "items_count": len(record.items),
        "items_url": f"{course_api}/modules/{record.id}/items",
    }


def module_item(record: CanvasModuleItem, module_id: int, url: str) -> Json:
    """A ModuleItem; which of content_id, page_url and external_url it has follows from its type."""
    optional = {
        "content_id": record.content_id,
        "page_url": record.page_url,
        "external_url": record.external_url,
    }
    return {
        "id": record.id,
        "module_id": module_id,
        "position": record.position,
        "title": record.title,
        "indent": 0,
        "type": record.type,
        "published": record.published,
        "html_url": f"{url}/modules/items/{record.id}",
        **{name: value for name, value in optional.items() if value is not None},
    }


def with_string_ids(value: object, key: str = "") -> object:
    """`value` as `Accept: application/json+canvas-string-ids` asks for it: every id is text."""
    if isinstance(value, dict):
        return {name: with_string_ids(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_string_ids(inner, key.removesuffix("s")) for inner in value]
    is_id = isinstance(value, int) and not isinstance(value, bool) and (key == "id" or key.endswith("_id"))
    return str(value) if is_id else value
