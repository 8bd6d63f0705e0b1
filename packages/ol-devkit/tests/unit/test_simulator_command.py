import json

from click.testing import CliRunner
from ol_devkit.commands import simulate
from ol_devkit.simulator import SCENARIOS


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
    for arguments, valid in [(["naught"], "nothing-changes"), (["deaths", "--location", "naught"], "generic")]:
        result = CliRunner().invoke(simulate, arguments)
        assert result.exit_code == 1
        assert valid in str(result.exception)
