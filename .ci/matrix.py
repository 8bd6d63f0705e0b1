"""Print, as JSON, which packages a change affects and the Pythons each is tested with.

    matrix.py [--root FOLDER] [BASE]

`include` is GitHub's matrix: the changed packages and those that depend on them, times the Pythons they support.
`workspace` is false where only documents changed. Whatever is not known to be harmless affects everything: a file at
the root or of no known package, a missing BASE, a BASE that shares no history with this commit.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# The dbt project is data of ol-lakehouse, and what ol-devkit's demo runs; nothing imports it.
DBT_READERS = frozenset({"ol-lakehouse", "ol-devkit"})


Requirement = tuple[str, str]
"""A package and an extra of it; "" for the package itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """A package of the workspace.

    Attributes:
        pythons: Python versions it supports, such as `3.11`.
        requires: What its tests need: all that it declares, extras and groups included.
        brings: What comes with it to whoever requires it, by the extra that is asked for; "" for what always comes.
    """

    pythons: tuple[str, ...]
    requires: frozenset[Requirement]
    brings: Mapping[str, frozenset[Requirement]]


def read_members(root: Path) -> dict[str, Member]:
    """Read the packages below `packages/`, by folder name.

    Raises:
        ValueError: a package's `requires-python` is not of the form `>=3.A,<3.B`.
    """
    return {path.parent.name: _read_member(path) for path in sorted(root.glob("packages/*/pyproject.toml"))}


def _read_member(path: Path) -> Member:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    project = table["project"]
    supported = re.fullmatch(r">=3\.(\d+),\s*<3\.(\d+)", project["requires-python"])
    if supported is None:
        raise ValueError(f"{path}: requires-python is {project['requires-python']!r}; write it as >=3.A,<3.B")
    extras = project.get("optional-dependencies", {})
    brings = {"": project.get("dependencies", []), **extras}
    groups = table.get("dependency-groups", {}).values()
    declared = [one for group in (*brings.values(), *groups) for one in group if isinstance(one, str)]
    return Member(
        pythons=tuple(f"3.{minor}" for minor in range(int(supported[1]), int(supported[2]))),
        requires=_parsed(declared),
        brings={extra: _parsed(group) for extra, group in brings.items()},
    )


def _parsed(requirements: Iterable[str]) -> frozenset[Requirement]:
    found: set[Requirement] = set()
    for requirement in requirements:
        if parts := re.match(r"([\w.-]+)\s*(?:\[([^\]]*)\])?", requirement):
            name = re.sub(r"[-_.]+", "-", parts[1]).lower()
            found |= {(name, extra.strip()) for extra in ("", *(parts[2] or "").split(","))}
    return frozenset(found)


def changed_files(root: Path, base: str) -> list[PurePosixPath] | None:
    """Return the files that differ from where this commit left `base`, or None where git cannot tell."""
    command = ["git", "-C", str(root), "diff", "--name-only", "--no-renames", "-z", "--merge-base", base, "--"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"everything is affected: git cannot compare with {base}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return [PurePosixPath(name) for name in done.stdout.split("\0") if name]


def affected(files: Iterable[PurePosixPath], members: Mapping[str, Member]) -> set[str]:
    """Return the packages that changes to files affect."""
    changed: set[str] = set()
    readers: set[str] = set()
    for file in files:
        match file.parts:
            case ("packages", name, *_) if name in members:
                changed.add(name)
            case ("ol_dbt", *_):
                readers |= DBT_READERS & set(members)
            case ("tests" | "deployments", *_) | ("README.md",):
                pass  # the workspace's own steps cover them
            case _:
                return set(members)
    return with_dependents(changed, members) | readers


def with_dependents(changed: set[str], members: Mapping[str, Member]) -> set[str]:
    """Return packages together with those whose tests need them, directly or not."""
    return changed | {name for name, member in members.items() if changed & _needed(member.requires, members)}


def _needed(requires: frozenset[Requirement], members: Mapping[str, Member]) -> set[str]:
    """Return the names of all that comes with what is required."""
    known: set[Requirement] = set()
    todo = set(requires)
    while todo:
        name, extra = one = todo.pop()
        known.add(one)
        if name in members:
            todo |= members[name].brings.get(extra, frozenset()) - known
    return {name for name, _ in known}


def is_document(file: PurePosixPath) -> bool:
    """Tell whether a file is read by people only; CI runs the commands of the root's README.md."""
    match file.parts:
        case ("docs", *_) | ("LICENSE",):
            return True
        case (name,) | ("packages", _, name):
            return name.endswith(".md") and file != PurePosixPath("README.md")
        case _:
            return False


def plan(files: list[PurePosixPath] | None, members: Mapping[str, Member]) -> dict[str, object]:
    """Return what to run for changed files, None meaning that anything may have changed."""
    code = None if files is None else [file for file in files if not is_document(file)]
    names = set(members) if code is None else affected(code, members)
    return {
        "workspace": code is None or bool(code),
        "include": [{"package": name, "python": python} for name in sorted(names) for python in members[name].pythons],
    }


def main() -> None:
    """Read the command line, print the plan."""
    parser = argparse.ArgumentParser(description="Print, as JSON, which packages a change affects.")
    parser.add_argument("base", nargs="?", default="", metavar="BASE", help="commit to compare with")
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent, help="the repository")
    arguments = parser.parse_args()
    files = changed_files(arguments.root, arguments.base) if arguments.base else None
    print(json.dumps(plan(files, read_members(arguments.root))))


if __name__ == "__main__":
    main()
