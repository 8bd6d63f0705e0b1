from pathlib import Path

import pytest
from ol_core.environment import InvalidEnvironment, development, load_environment


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAGSTER_ENV", "OL_ENVIRONMENT_FILE", "OL_DATA_DIR", "OL_CAMPUS_URL"):
        monkeypatch.delenv(name, raising=False)


def test_dev_is_complete_with_no_setting_at_all() -> None:
    environment = load_environment()

    assert environment.name == "dev"
    assert [one.name for one in environment.openedx] == ["mitx", "mitxonline", "xpro"]
    assert environment.objects.writable


def test_an_unknown_name_is_refused_with_the_valid_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_ENV", "prod")

    with pytest.raises(InvalidEnvironment, match=r"'prod'; valid names are dev, ci, qa, production"):
        load_environment()


def test_other_environments_need_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_ENV", "production")

    with pytest.raises(InvalidEnvironment, match="OL_ENVIRONMENT_FILE is not set"):
        load_environment()


def test_every_problem_of_a_file_is_listed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "environment.toml"
    file.write_text('name = "qa"\nsurprise = 1\n[objects]\nurl = "s3://bucket"\nwritable = "perhaps"\n')
    monkeypatch.setenv("DAGSTER_ENV", "qa")
    monkeypatch.setenv("OL_ENVIRONMENT_FILE", str(file))

    with pytest.raises(InvalidEnvironment) as caught:
        load_environment()

    message = str(caught.value)
    assert str(file) in message
    assert "surprise: Extra inputs are not permitted" in message
    assert "objects.writable: Input should be a valid boolean" in message
    assert "tables: Field required" in message


def test_a_file_for_another_environment_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "environment.toml"
    file.write_text('name = "production"')
    monkeypatch.setenv("DAGSTER_ENV", "qa")
    monkeypatch.setenv("OL_ENVIRONMENT_FILE", str(file))

    with pytest.raises(InvalidEnvironment, match="is for 'production' but DAGSTER_ENV is 'qa'"):
        load_environment()


def test_secrets_print_as_their_place_only() -> None:
    environment = development(data_dir=Path("somewhere"), campus_url="http://127.0.0.1:1")

    assert str(environment.canvas.access_token) == "canvas#access_token"
