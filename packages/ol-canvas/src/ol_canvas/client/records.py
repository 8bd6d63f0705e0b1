"""What Canvas says, as records; ids are text, times naive UTC.

Sources: Canvas LMS REST API documentation (developerdocs.instructure.com): Course, File, Page, Assignment, Module.
"""

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from ol_core.http import NaiveUtc
from pydantic import Field

_Id = Annotated[str, Field(validation_alias="id", coerce_numbers_to_str=True)]
_Text = Annotated[str | None, Field(coerce_numbers_to_str=True)]


@dataclass(frozen=True, slots=True)
class CanvasCourse:
    """A course of an account; of a course outside its dates Canvas shows the id only."""

    course_id: _Id
    name: str | None = None
    course_code: str | None = None
    sis_course_id: _Text = None
    workflow_state: str | None = None
    start_at: NaiveUtc = None
    end_at: NaiveUtc = None
    account_id: _Text = None
    term_id: Annotated[_Text, Field(validation_alias="enrollment_term_id")] = None


@dataclass(frozen=True, slots=True)
class CanvasFile:
    """A file of a course; `folder_path` is its folder's full name, such as `course files/week 1`."""

    file_id: _Id
    folder_path: str | None = None
    display_name: str | None = None
    filename: str | None = None
    content_type: Annotated[str | None, Field(validation_alias="content-type")] = None
    size_bytes: Annotated[int | None, Field(validation_alias="size")] = None
    locked: bool | None = None
    hidden: bool | None = None
    updated_at: NaiveUtc = None


@dataclass(frozen=True, slots=True)
class CanvasPage:
    """A wiki page of a course; `url` is its slug."""

    page_id: Annotated[str, Field(coerce_numbers_to_str=True)]
    url: str | None = None
    title: str | None = None
    published: bool | None = None
    front_page: bool | None = None
    updated_at: NaiveUtc = None


@dataclass(frozen=True, slots=True)
class CanvasAssignment:
    """An assignment of a course."""

    assignment_id: _Id
    name: str | None = None
    points_possible: float | None = None
    due_at: NaiveUtc = None
    published: bool | None = None
    submission_types: tuple[str, ...] = ()
    updated_at: NaiveUtc = None


@dataclass(frozen=True, slots=True)
class CanvasModuleItem:
    """An item of a module."""

    item_id: _Id
    title: str | None = None
    item_type: Annotated[str | None, Field(validation_alias="type")] = None
    position: int | None = None
    content_id: _Text = None
    published: bool | None = None


@dataclass(frozen=True, slots=True)
class CanvasModule:
    """A module of a course with all its items."""

    module_id: _Id
    name: str | None = None
    position: int | None = None
    published: bool | None = None
    items: tuple[CanvasModuleItem, ...] = ()


@dataclass(frozen=True, slots=True)
class CourseMetadata:
    """What the API says about a course.

    Attributes:
        course_id: Id of the course.
        files: Its files.
        pages: Its wiki pages.
        assignments: Its assignments.
        modules: Its modules with their items.
        unavailable: Which of `files`, `folders`, `pages`, `assignments`, `modules` Canvas hides or has switched off.
    """

    course_id: str
    files: tuple[CanvasFile, ...]
    pages: tuple[CanvasPage, ...]
    assignments: tuple[CanvasAssignment, ...]
    modules: tuple[CanvasModule, ...]
    unavailable: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the canonical document: records ordered by position and id, times as ISO 8601 text with `Z`."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical document; it holds no URL that expires."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in sorted(value, key=_place)]
    return f"{value.isoformat()}Z" if isinstance(value, datetime) else value


def _place(one: object) -> tuple[float, int, str]:
    """Order in the document's lists: by position where records have one, then by id as numbers are ordered."""
    if not is_dataclass(one):
        return 0, 0, str(one)
    identity, position = str(getattr(one, fields(one)[0].name)), getattr(one, "position", None)
    return float("inf") if position is None else position, len(identity), identity


@dataclass(frozen=True, slots=True)
class CanvasExport:
    """A course's cartridge, downloaded whole."""

    course_id: str
    export_id: str
    path: Path
    size_bytes: int
    sha256: str
