"""The README's own commands are what CI runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "readme.py"


def run(tmp_path: Path, readme: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "README.md"
    path.write_text(readme, encoding="utf-8")
    return subprocess.run([sys.executable, str(SCRIPT), str(path)], capture_output=True, text=True, check=False)


def test_the_uv_commands_of_the_first_block_that_has_any(tmp_path: Path) -> None:
    readme = """# Title

Run `uv run nothing`, or see

```toml
uv = "a tool"
```

```console
$ git clone https://example.org/x && cd x
$ uv run ol demo   # a campus
uv run \\
    pytest
```

```bash
uv run ol dev
```
"""
    done = run(tmp_path, readme)
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["uv", "run", "ol", "demo", "#", "a", "campus"],
        ["uv", "run", "pytest"],
    ]


@pytest.mark.parametrize("readme", ["", "# Title\n", "```\nuv run ol demo\n```\n```\nuv run pytest\n```\n"])
def test_a_readme_that_runs_no_test_is_refused(tmp_path: Path, readme: str) -> None:
    done = run(tmp_path, readme)
    assert done.returncode == 1
    assert "must have `uv run pytest`" in done.stderr
