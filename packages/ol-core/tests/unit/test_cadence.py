from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from ol_core.environment import Environment, EnvironmentName, development
from ol_core.failures import PermanentFailure
from ol_core.orchestration.cadence import OFF, Cadence

HOURLY = Cadence(dev=60, ci=OFF, qa=7200, production=3600)


def environment(name: str) -> Environment:
    dev = development(data_dir=Path("/nowhere"), campus_url="http://127.0.0.1:1")
    return dev.model_copy(update={"name": name})


def test_it_names_every_environment() -> None:
    assert {field.name for field in fields(Cadence)} == set(get_args(EnvironmentName))


@pytest.mark.parametrize("left_out", get_args(EnvironmentName))
def test_an_environment_that_is_left_out_is_an_error(left_out: str) -> None:
    stated: dict[str, Any] = dict.fromkeys(get_args(EnvironmentName), 60)
    del stated[left_out]

    with pytest.raises(TypeError, match=left_out):
        Cadence(**stated)


@pytest.mark.parametrize("wrong", [0, -60, ""])
def test_a_cadence_that_is_none_is_an_error(wrong: int | str) -> None:
    with pytest.raises(PermanentFailure, match=f"cadence of qa is {wrong!r}; state seconds, a cron line, or OFF"):
        Cadence(dev=OFF, ci=OFF, qa=wrong, production=OFF)  # type: ignore[type-var]  # a union is not a rhythm


@pytest.mark.parametrize(("name", "seconds"), [("dev", [60]), ("ci", []), ("qa", [7200]), ("production", [3600])])
def test_off_means_not_registered(name: str, seconds: list[int]) -> None:
    assert HOURLY.registered(environment(name), lambda every: every) == seconds


def test_it_is_shown_as_metadata() -> None:
    assert HOURLY.metadata == {"cadence": {"dev": 60, "ci": "off", "qa": 7200, "production": 3600}}
