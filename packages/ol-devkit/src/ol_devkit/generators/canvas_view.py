"""A Canvas course as the REST API shows it: the records that the simulated Canvas answers with.

Generated courses and courses read from cartridges both end in these records. Ids are unique in one campus.
"""

from dataclasses import dataclass

IDS_PER_COURSE = 100_000
TERM_ID = 7
UPDATED_AT = "2025-08-15T14:30:00Z"


@dataclass(frozen=True, slots=True)
class CanvasIdentity:
    """A course as the list of courses shows it; times are ISO 8601 in UTC."""

    id: int
    name: str
    course_code: str
    sis_course_id: str | None = None
    workflow_state: str = "available"
    start_at: str | None = None
    end_at: str | None = None


@dataclass(frozen=True, slots=True)
class CanvasFolder:
    """A folder; `full_name` begins with `course files`."""

    id: int
    parent_id: int | None
    full_name: str


@dataclass(frozen=True, slots=True)
class CanvasFile:
    """A file; `path` is where the cartridge holds it."""

    id: int
    folder_id: int
    path: str
    display_name: str
    content_type: str
    size_bytes: int
    locked: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class CanvasPage:
    """A wiki page; `url` is its slug."""

    id: int
    url: str
    title: str
    published: bool = True
    front_page: bool = False


@dataclass(frozen=True, slots=True)
class CanvasAssignment:
    """An assignment; graded quizzes and discussions are assignments too."""

    id: int
    name: str
    points_possible: float | None
    due_at: str | None
    published: bool
    submission_types: tuple[str, ...]
    quiz_id: int | None = None


@dataclass(frozen=True, slots=True)
class CanvasModuleItem:
    """A place in a module; `type` is one of the API's (Page, Assignment, Quiz, File, SubHeader, ...)."""

    id: int
    title: str
    type: str
    position: int
    published: bool = True
    content_id: int | None = None
    page_url: str | None = None
    external_url: str | None = None


@dataclass(frozen=True, slots=True)
class CanvasModule:
    """A module with its items in order."""

    id: int
    name: str
    position: int
    published: bool
    items: tuple[CanvasModuleItem, ...]


@dataclass(frozen=True, slots=True)
class CanvasView:
    """Everything that the API lists below one course."""

    folders: tuple[CanvasFolder, ...] = ()
    files: tuple[CanvasFile, ...] = ()
    pages: tuple[CanvasPage, ...] = ()
    assignments: tuple[CanvasAssignment, ...] = ()
    modules: tuple[CanvasModule, ...] = ()


class IdCounter:
    """Hands out the ids of one course: the course's own id times `IDS_PER_COURSE`, and up."""

    def __init__(self, course_id: int) -> None:
        self._next = course_id * IDS_PER_COURSE

    def next(self) -> int:
        """The next id."""
        self._next += 1
        return self._next


def folders_of(paths: list[str], ids: IdCounter) -> dict[str, CanvasFolder]:
    """The folders that hold files at `paths` (relative to `course files`), by path; the root is `""`."""
    wanted = {""} | {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    folders: dict[str, CanvasFolder] = {}
    for path in sorted(wanted):
        parent = None if not path else folders[path.rpartition("/")[0]].id
        folders[path] = CanvasFolder(ids.next(), parent, f"course files/{path}".rstrip("/"))
    return folders
