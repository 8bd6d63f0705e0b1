"""The courses of a campus: generated ones, and archives in a folder. Versions are a function of the bytes."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

from ol_devkit.campus import cartridge_reader
from ol_devkit.generators.canvas_view import CanvasIdentity, CanvasView
from ol_devkit.generators.cartridge import CartridgeExport, canvas_identity, generate_cartridge
from ol_devkit.generators.olx import OlxExport, generate_olx_course
from ol_devkit.generators.olx_identity import olx_identity, stamp
from ol_devkit.generators.olx_policies import static_file_count
from ol_devkit.generators.seeds import Seed
from ol_devkit.generators.vocabulary import units_of

FIRST_UPLOAD = datetime(2025, 8, 1, 12, tzinfo=UTC)
VERSION_DIGITS = 24  # as in the object ids of modulestore


@dataclass(frozen=True, slots=True)
class Revision:
    """How often a course's content and its files were changed since the campus opened."""

    content: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class CourseRun:
    """A course run as the LMS lists it; times are ISO 8601 in UTC."""

    course_id: str
    org: str
    number: str
    run: str
    name: str
    start: str | None = None
    end: str | None = None
    enrollment_start: str | None = None
    enrollment_end: str | None = None
    self_paced: bool = False


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """What `export/versions/` says of a course; `published` does not move when files or transcripts change."""

    published: str
    asset_count: int
    latest_upload: str | None
    latest_asset: str | None
    transcript_count: int
    latest_transcript: str | None


class ArchiveStore:
    """Archives that were written for a download; the oldest go first, since each can be written again."""

    def __init__(self, directory: Path, *, keep: int = 64) -> None:
        self._directory = directory
        self._keep = keep
        self._paths: OrderedDict[str, Path] = OrderedDict()
        self._lock = threading.Lock()

    def path(self, name: str, write: Callable[[BinaryIO], None]) -> Path:
        """The archive `name`, written where it is missing."""
        with self._lock:
            if name not in self._paths:
                path = self._directory / hashlib.sha256(name.encode()).hexdigest()
                with path.open("wb") as stream:
                    write(stream)
                self._paths[name] = path
                if len(self._paths) > self._keep:
                    self._paths.popitem(last=False)[1].unlink()
            self._paths.move_to_end(name)
            return self._paths[name]


class OpenEdxCourse(Protocol):
    """A course run of one deployment."""

    @property
    def run(self) -> CourseRun:
        """The run as the LMS lists it."""

    def version(self, revision: Revision) -> PublishedVersion:
        """What Studio says of its version."""

    def archive(self, revision: Revision, export: int, store: ArchiveStore) -> Path:
        """The .tar.gz of export number `export`."""


class CanvasCourse(Protocol):
    """A Canvas course."""

    @property
    def identity(self) -> CanvasIdentity:
        """The course as the list of courses shows it."""

    def view(self, revision: Revision) -> CanvasView:
        """What the API lists below it."""

    def archive(self, revision: Revision, export: int, store: ArchiveStore) -> Path:
        """The .imscc of export number `export`."""


@dataclass(frozen=True)
class GeneratedRun:
    """A generated Open edX course run."""

    seed: int | str
    index: int
    size: str | int

    @cached_property
    def run(self) -> CourseRun:
        """The run as the LMS lists it."""
        identity = olx_identity(self.seed, self.index)
        return CourseRun(
            course_id=identity.course_id,
            org=identity.org,
            number=identity.course,
            run=identity.run,
            name=identity.display_name,
            start=stamp(identity.start),
            end=stamp(identity.end),
            enrollment_start=stamp(identity.enrollment_start),
            enrollment_end=stamp(identity.enrollment_end),
            self_paced=identity.self_paced,
        )

    def version(self, revision: Revision) -> PublishedVersion:
        """What Studio says of its version."""
        place = Seed.of(self.seed).child("version", self.index, self.size)
        return PublishedVersion(
            published=place.hex(revision.content, VERSION_DIGITS),
            asset_count=static_file_count(units_of(self.size)) + revision.files,
            latest_upload=(FIRST_UPLOAD + timedelta(days=revision.files)).isoformat(),
            latest_asset=place.hex(f"asset/{revision.files}", VERSION_DIGITS),
            transcript_count=place.integer("transcripts", 1, 9),
            latest_transcript=FIRST_UPLOAD.isoformat(),
        )

    def archive(self, revision: Revision, export: int, store: ArchiveStore) -> Path:
        """The .tar.gz of export number `export`."""

        def write(stream: BinaryIO) -> None:
            course = generate_olx_course(
                self.seed, self.index, self.size, revision=revision.content, files_revision=revision.files
            )
            course.write(stream, OlxExport.nth(export))

        return store.path(f"{self.run.course_id} {revision} {export}", write)


@dataclass(frozen=True)
class ArchivedRun:
    """A course run whose exports are always the same file."""

    run: CourseRun
    path: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file; read when first asked for."""
        return digest_of(self.path)

    def version(self, revision: Revision) -> PublishedVersion:
        """What Studio says of its version; a new revision of the same bytes is a publication without a change."""
        published = Seed.of(self.digest).hex(revision, VERSION_DIGITS)
        return PublishedVersion(published, 0, None, None, 0, None)

    def archive(self, revision: Revision, export: int, store: ArchiveStore) -> Path:  # noqa: ARG002  # the signature is the caller's
        """The file."""
        return self.path


@dataclass(frozen=True)
class GeneratedCanvasCourse:
    """A generated Canvas course."""

    seed: int | str
    index: int
    size: str | int

    @cached_property
    def identity(self) -> CanvasIdentity:
        """The course as the list of courses shows it."""
        return canvas_identity(self.seed, self.index)

    def view(self, revision: Revision) -> CanvasView:
        """What the API lists below it."""
        return _generated_view(self.seed, self.index, self.size, revision.content)

    def archive(self, revision: Revision, export: int, store: ArchiveStore) -> Path:
        """The .imscc of export number `export`."""

        def write(stream: BinaryIO) -> None:
            course = generate_cartridge(self.seed, self.index, self.size, revision=revision.content)
            course.write(stream, CartridgeExport(export))

        return store.path(f"{self.identity.id} {revision} {export}", write)


@lru_cache(maxsize=32)
def _generated_view(seed: int | str, index: int, size: str | int, revision: int) -> CanvasView:
    return generate_cartridge(seed, index, size, revision=revision).view


@dataclass(frozen=True)
class ArchivedCanvasCourse:
    """A Canvas course whose exports are always the same file; what the API lists is read from it."""

    course_id: int
    path: Path

    @cached_property
    def _read(self) -> tuple[CanvasIdentity, CanvasView]:
        return cartridge_reader.read_course(self.path, self.course_id)

    @property
    def identity(self) -> CanvasIdentity:
        """The course as the list of courses shows it."""
        return self._read[0]

    def view(self, revision: Revision) -> CanvasView:  # noqa: ARG002  # the signature is the caller's
        """What the API lists below it."""
        return self._read[1]

    def archive(self, revision: Revision, export: int, store: ArchiveStore) -> Path:  # noqa: ARG002  # the signature is the caller's
        """The file."""
        return self.path


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
