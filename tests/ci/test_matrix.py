"""What a change affects, asked as CI asks: the command, on git repositories."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = ["3.11", "3.12", "3.13"]
REQUIREMENTS = {
    "ol-core": "",
    "ol-canvas": 'dependencies = ["click>=8", "Ol_Core[objects,tables]>=0.1,<0.2"]\n[dependency-groups]\n'
    'dev = [{ include-group = "test" }]\ntest = ["ol-devkit"]\n',
    "ol-openedx": 'dependencies = ["ol-core"]\n',
    "ol-lakehouse": 'dependencies = ["ol-core[tables]"]\n[project.optional-dependencies]\nedx = ["ol-openedx"]\n',
    "ol-devkit": 'dependencies = ["ol-core"]\n',
}
EVERYTHING = set(REQUIREMENTS)
DOMAINS = {"ol-canvas", "ol-openedx", "ol-lakehouse"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository whose branch `base` is what changes are compared with."""

    root: Path

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.check_output(["git", "-C", str(self.root), *identity, *arguments], text=True)

    def write(self, *names: str, text: str = "changed\n") -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "change")
        return self.git("rev-parse", "HEAD").strip()

    def plan(self, *base: str) -> tuple[set[str], bool]:
        plan = json.loads(self.run(*base).stdout)
        pythons: dict[str, list[str]] = {}
        for one in plan["include"]:
            pythons.setdefault(one["package"], []).append(one["python"])
        assert all(found == PYTHONS for found in pythons.values())
        return set(pythons), plan["workspace"]

    def run(self, *base: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / ".ci" / "matrix.py"), "--root", str(self.root), *base]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    repository.git("init", "--quiet", "--initial-branch=main")
    for name, rest in REQUIREMENTS.items():
        text = f'[project]\nname = "{name}"\nrequires-python = ">=3.11,<3.14"\n{rest}'
        repository.write(f"packages/{name}/pyproject.toml", text=text)
        repository.write(f"packages/{name}/src/module.py", text=f"{name}\n")
    repository.commit()
    repository.git("branch", "base")
    return repository


@pytest.mark.parametrize(
    ("files", "packages"),
    [
        (["packages/ol-core/src/module.py"], EVERYTHING),
        (["packages/ol-canvas/src/module.py"], {"ol-canvas"}),
        (["packages/ol-canvas/tests/data/a course.html"], {"ol-canvas"}),
        (["packages/ol-canvas/tests/page.md"], {"ol-canvas"}),
        (["packages/ol-devkit/src/module.py"], {"ol-devkit", "ol-canvas"}),
        (["packages/ol-openedx/src/module.py"], {"ol-openedx", "ol-lakehouse"}),
        (["ol_dbt/models/staging/stg_courses.sql"], {"ol-lakehouse", "ol-devkit"}),
        (["ol_dbt/models/docs.md"], {"ol-lakehouse", "ol-devkit"}),
        (["tests/end_to_end/test_demo.py"], set()),
        (["deployments/production/environment.toml"], set()),
        (["README.md"], set()),
        (["docs/guide.md", "packages/ol-canvas/src/module.py", "tests/x.py"], {"ol-canvas"}),
        (["pyproject.toml"], EVERYTHING),
        (["uv.lock"], EVERYTHING),
        ([".ci/run"], EVERYTHING),
        ([".github/workflows/ci.yml"], EVERYTHING),
        (["something new"], EVERYTHING),
        (["packages/ol-gone/src/module.py"], EVERYTHING),
        (["packages/stray.py"], EVERYTHING),
    ],
)
def test_changed_files_affect_their_package_and_its_dependents(
    repository: Repository, files: list[str], packages: set[str]
) -> None:
    repository.write(*files)
    repository.commit()
    assert repository.plan("base") == (packages, True)


@pytest.mark.parametrize("file", ["docs/how.md", "docs/a.svg", "CHANGELOG.md", "LICENSE", "packages/ol-core/README.md"])
def test_documents_affect_nothing(repository: Repository, file: str) -> None:
    repository.write(file)
    repository.commit()
    assert repository.plan("base") == (set(), False)


def test_no_change_affects_nothing(repository: Repository) -> None:
    assert repository.plan("base") == (set(), False)


def test_a_moved_file_affects_where_it_was_and_where_it_is(repository: Repository) -> None:
    repository.git("mv", "packages/ol-openedx/src/module.py", "packages/ol-canvas/src/moved.py")
    repository.commit()
    assert repository.plan("base") == ({"ol-canvas", "ol-openedx", "ol-lakehouse"}, True)


def test_what_is_not_committed_counts(repository: Repository) -> None:
    repository.write("packages/ol-canvas/src/module.py")
    assert repository.plan("base") == ({"ol-canvas"}, True)


def test_changes_of_the_base_since_the_branch_left_it_do_not_count(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.write("packages/ol-canvas/src/module.py")
    repository.commit()
    repository.git("checkout", "--quiet", "base")
    repository.write("uv.lock")
    moved = repository.commit()
    repository.git("checkout", "--quiet", "feature")
    assert repository.plan(moved) == ({"ol-canvas"}, True)


@pytest.mark.parametrize("base", [(), ("",), ("no-such-commit",), ("0" * 40,)])
def test_everything_is_affected_where_there_is_no_base(repository: Repository, base: tuple[str, ...]) -> None:
    assert repository.plan(*base) == (EVERYTHING, True)


def test_everything_is_affected_where_histories_share_nothing(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "--orphan", "other")
    repository.write("docs/other.md")
    repository.commit()
    done = repository.run("base")
    assert "everything is affected: git cannot compare with base" in done.stderr
    assert repository.plan("base") == (EVERYTHING, True)


def test_an_unreadable_python_range_is_an_error(repository: Repository) -> None:
    repository.write(
        "packages/ol-core/pyproject.toml", text='[project]\nname = "ol-core"\nrequires-python = ">=3.11"\n'
    )
    done = repository.run()
    assert done.returncode != 0
    assert "requires-python is '>=3.11'; write it as >=3.A,<3.B" in done.stderr


@pytest.fixture
def workspace(repository: Repository) -> Repository:
    """The members of this workspace, as they are."""
    shutil.rmtree(repository.root / "packages")
    for path in ROOT.glob("packages/*/pyproject.toml"):
        repository.write(str(path.relative_to(ROOT)), text=path.read_text(encoding="utf-8"))
    repository.commit()
    repository.git("branch", "--force", "base")
    return repository


def test_every_package_of_this_workspace_is_tested_and_rests_on_core(workspace: Repository) -> None:
    members = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}
    assert workspace.plan() == (members, True)
    workspace.write("packages/ol-core/src/ol_core/failures.py")
    workspace.commit()
    assert workspace.plan("base") == (members, True)


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_the_domains_of_this_workspace_are_independent(workspace: Repository, name: str) -> None:
    workspace.write(f"packages/{name}/src/changed.py")
    workspace.commit()
    packages, _ = workspace.plan("base")
    assert packages & DOMAINS == {name}
