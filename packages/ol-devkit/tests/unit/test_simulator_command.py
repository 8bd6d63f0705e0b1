import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from ol_core.failures import PermanentFailure
from ol_devkit.commands import simulate
from ol_devkit.simulator import SCENARIOS

README = Path(__file__).parents[2] / "README.md"


def test_scenarios_are_listed() -> None:
    result = CliRunner().invoke(simulate, ["--list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [one.name for one in SCENARIOS]


def test_a_scenario_that_holds_ends_with_0_and_prints_its_bars() -> None:
    result = CliRunner().invoke(simulate, ["three-republished", "--partitions", "10"])
    assert result.exit_code == 0, result.output
    assert "3 partitions requested, once each" in result.output
    assert "missed" not in result.output


def test_a_bar_that_is_missed_ends_with_1_and_says_which() -> None:
    result = CliRunner().invoke(simulate, ["three-republished", "--partitions", "10", "--ticks", "20", "--json"])
    assert result.exit_code == 1
    verdict = json.loads(result.stdout)
    assert verdict["holds"] is False
    assert {one["bar"]: one["holds"] for one in verdict["findings"]}["3 materializations"] is False


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    result = CliRunner().invoke(simulate, ["naught"])
    assert result.exit_code == 1
    assert "nothing-changes" in str(result.exception)


def test_a_subject_of_ones_own_is_judged_as_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"`judged\.py`.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "judged.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(simulate, ["three-republished", "--location", "judged:subject", "--partitions", "10"])
    assert result.exit_code == 0, result.output
    assert "three-republished: courses, 10 partitions" in result.output


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("naught", "nothing called 'naught' can be judged; valid are generic, canvas, openedx, or module:function"),
        ("naught:subject", "No module named 'naught'"),
        ("json:subject", "has no attribute 'subject'"),
        ("itertools:chain", "returns a chain, not a Subject"),
        ("json:", "nothing called 'json:'"),
    ],
)
def test_a_location_that_is_not_a_subject_is_refused(location: str, said: str) -> None:
    result = CliRunner().invoke(simulate, ["deaths", "--location", location])
    assert result.exit_code == 1
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("garbage", "cannot be read"),
        ("postgresql://u:s3cr3t@127.0.0.1:port/d", "cannot be read"),
        ("mysql://u:s3cr3t@127.0.0.1/d", r"mysql://u:\*\*\*@127.0.0.1/d is not PostgreSQL"),
        ("postgresql://u:s3cr3t@127.0.0.1:1/d", "cannot be reached: .*refused"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_its_password(address: str, said: str) -> None:
    result = CliRunner().invoke(simulate, ["deaths", "--partitions", "10", "--postgres", address])
    assert isinstance(result.exception, PermanentFailure)
    assert re.search(said, str(result.exception))
    assert "state an empty PostgreSQL database" in str(result.exception)
    assert "s3cr3t" not in str(result.exception)
