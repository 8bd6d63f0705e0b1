"""The README's examples run, in order, in `dev` with a simulated campus."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ol_devkit.campus import CampusContent
from ol_devkit.sandbox import sandbox
from ol_devkit.servers.postgres import PostgresServer

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    before = dict(os.environ)
    content = CampusContent.generated(seed=5, openedx_courses=1, canvas_courses=3)
    with sandbox(tmp_path, content):
        yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def test_every_example_runs(data_dir: Path, postgres_server: PostgresServer) -> None:
    with (data_dir / "secrets.toml").open("a", encoding="utf-8") as secrets:
        account = f'user = "{postgres_server.user}"\npassword = "{postgres_server.password}"\n'
        secrets.write(f"\n[campus_database]\n{account}")
    names: dict[str, object] = {"__name__": "readme", "server": postgres_server}

    assert len(BLOCKS) == 8
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), names)
