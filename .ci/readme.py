"""Print the uv commands at the top of a README, so that CI runs what a newcomer runs.

They are the lines `uv run ...` and `uv sync` of the first fenced block that has any, in order; other lines of the block
(`git clone`, `cd`) are for people only. What serves until it is stopped belongs in a later block.
"""

import re
import sys
from pathlib import Path

FENCED_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def commands(readme: str) -> list[str]:
    """Return the commands; empty where no fenced block has any."""
    for block in FENCED_BLOCK.findall(readme):
        lines = (line.strip().removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines())
        if found := [line for line in lines if line.startswith(("uv run ", "uv sync"))]:
            return found
    return []


def main() -> None:
    """Print the commands of the README that is named; fail where none of them runs the tests."""
    found = commands(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if not any(command.split()[:3] == ["uv", "run", "pytest"] for command in found):
        sys.exit(f"{sys.argv[1]}: the first fenced block of uv commands must have `uv run pytest`; it has {found}")
    print("\n".join(found))


if __name__ == "__main__":
    main()
