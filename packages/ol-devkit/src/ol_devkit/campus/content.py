"""Which courses a campus has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ol_devkit.campus.archive_ids import runs_of
from ol_devkit.campus.courses import (
    ArchivedCanvasCourse,
    ArchivedRun,
    CanvasCourse,
    GeneratedCanvasCourse,
    GeneratedRun,
    OpenEdxCourse,
)
from ol_devkit.generators.cartridge import FIRST_COURSE_ID
from ol_devkit.generators.vocabulary import units_of

DEPLOYMENTS = ("mitx", "mitxonline", "xpro")


@dataclass(frozen=True)
class CampusContent:
    """The courses of a campus.

    Attributes:
        seed: Where generated courses and the campus's secrets come from.
        openedx: The course runs of each deployment, in the order of the list.
        canvas: The Canvas courses of account 1.
    """

    seed: int | str
    openedx: Mapping[str, tuple[OpenEdxCourse, ...]]
    canvas: tuple[CanvasCourse, ...]

    @property
    def deployments(self) -> tuple[str, ...]:
        """The names of the Open edX deployments."""
        return tuple(self.openedx)

    @property
    def files(self) -> Mapping[str, Path | None]:
        """For each course, by its id as text, the file that it comes from; None for a generated one."""
        runs = {run.run.course_id: run for runs in self.openedx.values() for run in runs}
        courses = {str(course.identity.id): course for course in self.canvas}
        return {
            course_id: one.path if isinstance(one, ArchivedRun | ArchivedCanvasCourse) else None
            for course_id, one in (*runs.items(), *courses.items())
        }

    @classmethod
    def generated(
        cls,
        *,
        seed: int | str = 0,
        openedx_courses: int = 4,
        canvas_courses: int = 2,
        deployments: Sequence[str] = DEPLOYMENTS,
        size: str | int = "small",
    ) -> "CampusContent":
        """Generated courses only; course runs go round robin over the deployments.

        Args:
            seed: The same seed gives the same courses, ids and versions.
            openedx_courses: How many course runs.
            canvas_courses: How many Canvas courses.
            deployments: Names of the Open edX deployments.
            size: `small`, `medium`, `large`, or a number of units.

        Raises:
            ValueError: `size` is unknown, or there is no deployment.
        """
        units_of(size)
        if not deployments:
            raise ValueError("deployments is empty; a campus has at least one Open edX deployment")
        runs = [GeneratedRun(seed, index, size) for index in range(openedx_courses)]
        openedx = {name: tuple(runs[first :: len(deployments)]) for first, name in enumerate(deployments)}
        canvas = tuple(GeneratedCanvasCourse(seed, index, size) for index in range(canvas_courses))
        return cls(seed, openedx, canvas)

    @classmethod
    def from_folders(  # noqa: PLR0913  # all but the folders have defaults
        cls,
        olx: Path | None,
        cartridges: Path | None,
        *,
        seed: int | str = 0,
        courses: int = 4,
        deployments: Sequence[str] = DEPLOYMENTS,
        size: str | int = "small",
    ) -> "CampusContent":
        """Archives below folders, and generated courses where a folder is None.

        Archives stay where they are. Every one becomes a course, also one that cannot be read. All of `olx` belong
        to the first deployment.

        Args:
            olx: Folder with `*.tar.gz` and `*.tgz`, at any depth.
            cartridges: Folder with `*.imscc`, at any depth.
            seed: See `generated`, as `deployments` and `size`.
            courses: How many courses to generate for a system without a folder.
            deployments: Names of the Open edX deployments.
            size: Size of generated courses.

        Raises:
            ValueError: `size` is unknown, there is no deployment, or a folder holds no archive.
        """
        content = cls.generated(
            seed=seed, openedx_courses=courses, canvas_courses=courses, deployments=deployments, size=size
        )
        openedx, canvas = content.openedx, content.canvas
        if olx is not None:
            openedx = dict.fromkeys(deployments, ()) | {deployments[0]: tuple(_archived_runs(olx))}
        if cartridges is not None:
            paths = files_below(cartridges, ".imscc")
            canvas = tuple(ArchivedCanvasCourse(FIRST_COURSE_ID + n, path) for n, path in enumerate(paths))
        return cls(seed, openedx, canvas)


def _archived_runs(folder: Path) -> Iterator[OpenEdxCourse]:
    paths = files_below(folder, ".tar.gz", ".tgz")
    return (ArchivedRun(run, path) for run, path in zip(runs_of(paths), paths, strict=True))


def files_below(folder: Path, *suffixes: str) -> list[Path]:
    """The files below `folder` whose names end with one of `suffixes`, sorted.

    Raises:
        ValueError: There is none.
    """
    paths = sorted(path for path in folder.rglob("*") if _is_archive(path, suffixes))
    if not paths:
        raise ValueError(f"no {' or '.join('*' + suffix for suffix in suffixes)} below {folder}; name another folder")
    return paths


def _is_archive(path: Path, suffixes: tuple[str, ...]) -> bool:
    # macOS leaves `._name` beside each file that it copies to a foreign disk.
    return path.name.lower().endswith(suffixes) and not path.name.startswith("._") and path.is_file()
