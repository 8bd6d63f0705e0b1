"""Generated Canvas courses: the cartridge that Canvas would export, and the same course as its REST API shows it.

A course is a function of (seed, index, size, revision). Every export of it has the same content and different bytes:
Canvas rewrites the manifest and everything in `course_settings/`, and reshuffles resources and members, each time
(mit-learn, learning_resources/etl/canvas_utils.py, CHECKSUM_EXCLUDED).
"""

import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from ol_devkit.generators import cartridge_parts as parts
from ol_devkit.generators.canvas_view import (
    CanvasAssignment,
    CanvasFile,
    CanvasIdentity,
    CanvasModule,
    CanvasModuleItem,
    CanvasPage,
    CanvasView,
    IdCounter,
    folders_of,
)
from ol_devkit.generators.cartridge_manifest import ModulePlan, PlannedItem, rewritten_members
from ol_devkit.generators.cartridge_parts import Part
from ol_devkit.generators.seeds import Member, Seed
from ol_devkit.generators.vocabulary import SUBJECTS, file_size, title, topic, units_of

FIRST_COURSE_ID = 4001
ITEMS_PER_MODULE = 6
UNITS_PER_ANNOUNCEMENT = 6
FIRST_EXPORT = datetime(2025, 9, 1, 6, tzinfo=UTC)
FOLDERS = ("", "Lecture Notes", "Lecture Notes/Week 1", "images", "course_image")
FILE_TYPES = (
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("docx", "application/octet-stream"),
    ("csv", "text/csv"),
)
CONTENT_TYPES = {
    "WikiPage": "Page",
    "Assignment": "Assignment",
    "Quizzes::Quiz": "Quiz",
    "DiscussionTopic": "Discussion",
    "Attachment": "File",
    "ExternalUrl": "ExternalUrl",
    "ContextExternalTool": "ExternalTool",
    "ContextModuleSubHeader": "SubHeader",
}
"""The type of a module item in `module_meta.xml`, and the type of the same item in the API."""
ITEM_KINDS = (
    "WikiPage", "Assignment", "Attachment", "Quizzes::Quiz", "DiscussionTopic", "ContextModuleSubHeader",
    "WikiPage", "ExternalUrl", "Assignment", "ContextExternalTool", "Attachment", "WikiPage", "DiscussionTopic",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CartridgeTruth:
    """What a reader of the cartridge must find.

    Attributes:
        items: How many there are of each type: module, page, assignment, quiz, discussion, announcement, weblink,
            lti, file, syllabus, question_bank, subheader.
        file_bytes: The sizes of the files below `web_resources/`, added up.
    """

    items: Mapping[str, int]
    file_bytes: int


@dataclass(frozen=True, slots=True)
class CartridgeExport:
    """Which export of a course: sets times, orders and whatever Canvas rewrites without a reason."""

    number: int = 0


@dataclass(frozen=True, slots=True)
class CartridgeCourse:
    """A generated Canvas course.

    Attributes:
        identity: The course as the list of courses shows it.
        parts: Its content.
        modules: Its modules, as the cartridge tells of them.
        view: What the API lists below the course.
        truth: The numbers that a reader must find.
        seed: Where what each export rewrites comes from.
    """

    identity: CanvasIdentity
    parts: tuple[Part, ...]
    modules: tuple[ModulePlan, ...]
    view: CanvasView
    truth: CartridgeTruth
    seed: Seed

    @property
    def members(self) -> tuple[Member, ...]:
        """The files that are the same in every export."""
        return tuple(member for part in self.parts for member in part.members)

    def write(self, stream: BinaryIO, export: CartridgeExport | None = None) -> None:
        """Write one export (an .imscc) to `stream`, in constant memory."""
        export = export or CartridgeExport()
        seed = self.seed.child("export", export.number)
        exported_at = FIRST_EXPORT + timedelta(days=export.number, minutes=seed.integer("minute", 0, 999))
        rewritten = rewritten_members(self.identity, self.parts, self.modules, export=seed, exported_at=exported_at)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member in seed.shuffled("members", (*rewritten, *self.members)):
                info = zipfile.ZipInfo(member.path, exported_at.timetuple()[:6])
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w") as target:
                    for chunk in member.chunks():
                        target.write(chunk)


def canvas_identity(seed: int | str, index: int) -> CanvasIdentity:
    """What the list of courses shows of course `index`, without its content."""
    place = Seed.of(seed).child("canvas", index)
    number, name = place.choice("subject", SUBJECTS)
    term = place.choice("term", ("FA24", "SP25", "SU25", "FA25"))
    start = datetime(2024, 9, 1, 4, tzinfo=UTC) + timedelta(days=place.integer("start", 0, 400))
    states = {5: "completed", 6: "unpublished"}
    return CanvasIdentity(
        id=FIRST_COURSE_ID + index,
        name=f"{number} {name}",
        course_code=f"{term}.{number}.{index + 1}",
        # Canvas hides it where the caller may not read SIS data, and courses made by hand have none.
        sis_course_id=None if index % 5 == 4 else f"{term}.{number}.{index + 1}.A",  # noqa: PLR2004  # so that both come up
        workflow_state=states.get(index % 7, "available"),
        start_at=start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        end_at=None if index % 3 == 1 else (start + timedelta(days=110)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def generate_cartridge(seed: int | str, index: int, size: str | int = "small", *, revision: int = 0) -> CartridgeCourse:
    """Generate a Canvas course.

    Args:
        seed: Two courses of one seed and index are equal.
        index: Number of the course; its id is `FIRST_COURSE_ID` more.
        size: `small`, `medium`, `large`, or a number of module items.
        revision: Each revision adds a page; everything else stays.

    Raises:
        ValueError: `size` is unknown.
    """
    identity = canvas_identity(seed, index)
    place = Seed.of(seed).child("canvas", index, "content")
    assembly = _Assembly(place, IdCounter(identity.id))
    units = units_of(size)
    for first in range(0, units, ITEMS_PER_MODULE):
        assembly.add_module(first, min(ITEMS_PER_MODULE, units - first))
    assembly.add_loose_content(units)
    return assembly.finish(identity, revision)


class _Assembly:
    """One course while it is put together."""

    def __init__(self, seed: Seed, ids: IdCounter) -> None:
        self.seed = seed
        self.ids = ids
        self.parts: list[Part] = []
        self.plans: list[ModulePlan] = []
        self.counts: Counter[str] = Counter()
        self.pages: list[CanvasPage] = []
        self.assignments: list[CanvasAssignment] = []
        self.files: list[tuple[str, CanvasFile]] = []
        self.modules: list[CanvasModule] = []

    def add_module(self, first: int, count: int) -> None:
        """Add a module with `count` items; `first` is the number of the first one in the course."""
        number = first // ITEMS_PER_MODULE
        place = self.seed.child("module", number)
        published = number % 4 != 3  # noqa: PLR2004  # so that both come up
        planned, items = [], []
        for position in range(1, count + 1):
            plan, item = self._module_item(first + position - 1, position)
            planned.append(plan)
            items.append(item)
        name = title(place, number)
        self.plans.append(ModulePlan("i" + place.hex("id"), name, number + 1, published, tuple(planned)))
        self.modules.append(CanvasModule(self.ids.next(), name, number + 1, published, tuple(items)))
        self.counts["module"] += 1

    def _module_item(self, number: int, position: int) -> tuple[PlannedItem, CanvasModuleItem]:
        place = self.seed.child("item", number)
        kind = ITEM_KINDS[number % len(ITEM_KINDS)]
        name = f"{title(place, number)}"
        published = place.integer("published", 0, 4) > 0
        part: Part | None = None
        record = CanvasModuleItem(self.ids.next(), name, CONTENT_TYPES[kind], position, published=published)
        match kind:
            case "WikiPage":
                part = self._page(place, name, published=published)
                record = replace(record, page_url=self.pages[-1].url)
            case "Assignment":
                part = self._assignment(place, name, published=published)
                record = replace(record, content_id=self.assignments[-1].id)
            case "Quizzes::Quiz":
                part = self._quiz(place, name, published=published)
                record = replace(record, content_id=self.assignments[-1].quiz_id)
            case "DiscussionTopic":
                part = self._discussion(place, name, graded=number % 2 == 1)
                record = replace(record, content_id=self.ids.next())
            case "Attachment":
                part = self._file(place, number)
                record = replace(record, content_id=self.files[-1][1].id, title=self.files[-1][1].display_name)
            case "ExternalUrl":
                part = self._link(parts.weblink, "weblink", place, name)
                record = replace(record, external_url=_url(place))
            case "ContextExternalTool":
                part = self._link(parts.lti_link, "lti", place, name)
                record = replace(record, external_url=_url(place), content_id=self.ids.next())
            case _:
                self.counts["subheader"] += 1
        plan = PlannedItem(
            "i" + place.hex("id"),
            kind,
            record.title,
            position,
            published,
            part.identifier if part else None,
            record.external_url,
        )
        return plan, record

    def _keep(self, item_type: str, part: Part) -> Part:
        self.parts.append(part)
        self.counts[item_type] += 1
        return part

    def _page(self, place: Seed, name: str, *, published: bool, front_page: bool = False) -> Part:
        self.pages.append(CanvasPage(self.ids.next(), parts.slug(name), name, published, front_page))
        return self._keep("page", parts.page(place, name, published=published, front_page=front_page))

    def _assignment(self, place: Seed, name: str, *, published: bool) -> Part:
        points = float(place.integer("points", 1, 20) * 5)
        due_at = f"2025-1{place.integer('month', 0, 2)}-{place.integer('day', 10, 28)}T23:59:00Z"
        kinds = ("online_upload", "online_text_entry")
        self.assignments.append(CanvasAssignment(self.ids.next(), name, points, due_at, published, kinds))
        return self._keep(
            "assignment", parts.assignment(place, name, published=published, points=points, due_at=due_at)
        )

    def _quiz(self, place: Seed, name: str, *, published: bool) -> Part:
        points, quiz_id = float(place.integer("points", 1, 10)), self.ids.next()
        graded = CanvasAssignment(self.ids.next(), name, points, None, published, ("online_quiz",), quiz_id)
        self.assignments.append(graded)
        return self._keep("quiz", parts.quiz(place, name, published=published, points=points))

    def _discussion(self, place: Seed, name: str, *, graded: bool) -> Part:
        points = 10.0 if graded else None
        if graded:
            kinds = ("discussion_topic",)
            self.assignments.append(
                CanvasAssignment(self.ids.next(), name, points, None, published=True, submission_types=kinds)
            )
        return self._keep("discussion", parts.topic(place, name, points=points))

    def _file(self, place: Seed, number: int) -> Part:
        extension, content_type = place.choice("type", FILE_TYPES)
        folder = place.choice("folder", FOLDERS)
        name = f"{topic(place)} {number}.{extension}"
        path = f"{folder}/{name}".lstrip("/")
        size_bytes = file_size(place, number)
        part = self._keep("file", parts.web_resource(place, path, size_bytes))
        locked, hidden = place.integer("locked", 0, 9) == 0, place.integer("hidden", 0, 9) == 0
        full = part.members[0].path
        record = CanvasFile(self.ids.next(), 0, full, name, content_type, size_bytes, locked, hidden)
        self.files.append((path, record))
        return part

    def _link(self, build: Callable[[Seed, str, str], Part], item_type: str, place: Seed, name: str) -> Part:
        return self._keep(item_type, build(place, name, _url(place)))

    def add_loose_content(self, units: int) -> None:
        """Add what no module holds: the front page, announcements, a question bank, files."""
        self._page(self.seed.child("front"), "Welcome", published=True, front_page=True)
        self.counts["syllabus"] += 1
        for number in range(max(1, units // UNITS_PER_ANNOUNCEMENT)):
            place = self.seed.child("loose", number)
            self._keep("announcement", parts.topic(place, f"News {number + 1}", announcement=True))
            self._file(place, units + number)
        self._keep("question_bank", parts.question_bank(self.seed, "Unfiled Questions"))

    def finish(self, identity: CanvasIdentity, revision: int) -> CartridgeCourse:
        """The course; what a revision adds comes last, so that every id before it stays."""
        folders = folders_of([path for path, _ in self.files], self.ids)
        for number in range(1, revision + 1):
            self._page(self.seed.child("revision", number), f"Addition {number}", published=True)
        files = tuple(replace(file, folder_id=folders[path.rpartition("/")[0]].id) for path, file in self.files)
        view = CanvasView(
            tuple(folders.values()), files, tuple(self.pages), tuple(self.assignments), tuple(self.modules)
        )
        truth = CartridgeTruth(dict(self.counts), sum(file.size_bytes for file in files))
        return CartridgeCourse(identity, tuple(self.parts), tuple(self.plans), view, truth, self.seed)


def _url(place: Seed) -> str:
    return f"https://www.example.org/{place.hex('url', 8)}"
