import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ol_core.cli import main
from ol_core.environment import InvalidEnvironment, SecretRef, development, load_environment
from pydantic import ValidationError


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

    with pytest.raises(InvalidEnvironment, match=r"'prod'; valid: dev, ci, qa, production"):
        load_environment()


def test_other_environments_need_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_ENV", "production")

    with pytest.raises(InvalidEnvironment, match="OL_ENVIRONMENT_FILE is not set"):
        load_environment()


def stated(**changed: object) -> dict[str, Any]:
    """The settings of `dev`, as a file states them, with some of them changed."""
    environment = development(data_dir=Path("data"), campus_url="http://127.0.0.1:1")
    return {**environment.model_dump(mode="json"), "name": "qa", **changed}


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return "nan" if value != value else json.dumps(value)  # noqa: PLR0124 - only that is not itself


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    def _write(content: Mapping[str, object], name: str = "qa") -> Path:
        file = tmp_path / "environment.toml"
        file.write_text("\n".join(f"{key} = {toml(value)}" for key, value in content.items()))
        monkeypatch.setenv("DAGSTER_ENV", name)
        monkeypatch.setenv("OL_ENVIRONMENT_FILE", str(file))
        return file

    return _write


def problems() -> list[str]:
    with pytest.raises(InvalidEnvironment) as caught:
        load_environment()
    return str(caught.value).splitlines()


def test_what_a_file_states_is_in_force(write: Callable[..., Path]) -> None:
    write(stated())

    assert load_environment().model_dump(mode="json") == stated()


def test_every_problem_of_a_file_is_listed_at_once(write: Callable[..., Path]) -> None:
    openedx = stated()["openedx"]
    file = write(
        stated(
            name="production",
            surprise=1,
            objects={"kind": "s3", "bucket": "b", "writable": "perhaps"},
            tables={"kind": "foo"},
            engine={"writable": True},
            canvas=[{"name": "My Canvas", "url": "no address", "account_id": "one", "access_token": "hunter2"}],
            openedx=[*openedx, openedx[0]],
        )
    )
    lines = problems()

    assert lines[0] == f"{file} has 14 problems:"
    assert sorted(line.strip() for line in lines[1:]) == sorted(
        [
            "name: the file is for 'production' but DAGSTER_ENV is 'qa'; use one name",
            "surprise: there is no such key",
            "objects.prefix: this key is missing",
            "objects.region: this key is missing",
            "objects.endpoint_url: this key is missing",
            "objects.writable: Input should be a valid boolean",
            "tables.kind: 'foo' is unknown; valid: sql, rest, glue",
            "engine.kind: this key is missing",
            "canvas.0.name: String should match pattern '^[a-z][a-z0-9]*(_[a-z0-9]+)*$'",
            "canvas.0.url: Input should be a valid URL, relative URL without a base",
            "canvas.0.account_id: Input should be a valid integer",
            "canvas.0.webhook_source: this key is missing",
            "canvas.0.access_token: must be a table { path, key }",
            "openedx: Value error, names must differ; twice or more: mitx",
        ]
    )
    assert "hunter2" not in "".join(lines)


def test_a_missing_section_and_a_missing_key_are_named(write: Callable[..., Path]) -> None:
    content = stated()
    del content["learn"]
    content["secrets"] = {
        "kind": "vault", "url": "https://vault.invalid", "mount": "secret", "namespace": "", "ca_file": "",
        "database_mount": "database",
        "auth": {"method": "kubernetes", "role": "dagster"},
    }  # fmt: skip
    write(content)

    assert [line.strip() for line in problems()[1:]] == [
        "secrets.auth.mount: this key is missing",
        "secrets.auth.token_file: this key is missing",
        "learn: this key is missing",
    ]


def test_an_unknown_name_and_the_problems_of_its_file_are_told_together(write: Callable[..., Path]) -> None:
    write(stated(surprise=1, name="staging"), name="staging")

    assert [line.strip() for line in problems()[1:]] == [
        "DAGSTER_ENV is 'staging'; valid: dev, ci, qa, production",
        "name: valid: dev, ci, qa or production",
        "surprise: there is no such key",
    ]


@pytest.mark.parametrize(
    ("section", "key", "value", "problem"),
    [
        ("objects", "writable", "yes", "Input should be a valid boolean"),
        ("objects", "writable", 1, "Input should be a valid boolean"),
        ("orchestration", "attempts", True, "Input should be a valid integer"),
        ("orchestration", "attempts", "3", "Input should be a valid integer"),
        ("orchestration", "attempts", 3.0, "Input should be a valid integer"),
        ("orchestration", "backoff_seconds", float("nan"), "Input should be a finite number"),
        ("tables", "uri", "postgresql://u@db/iceberg?password=hunter2", "Value error, must hold no password"),
        ("learn", "url", "https://u:hunter2@learn.invalid/", "Value error, must hold no password"),
        ("tables", "uri", "postgresql://u:hunter2/x@db/iceberg", "Value error, must hold no password"),
        ("tables", "uri", "postgresql://u:hunter2#x@db/iceberg", "Value error, must hold no password"),
        ("tables", "uri", "postgresql://u:hunter2?x@db/iceberg", "Value error, must hold no password"),
        ("tables", "uri", "mysql+pymysql://u@db/iceberg?passwd=hunter2", "Value error, must hold no password"),
        ("superset", "databases", "Trino", "must be a list"),
        ("objects", "folder", "x", "there is no such key"),
    ],
)
def test_what_almost_fits_is_refused(
    write: Callable[..., Path], *, section: str, key: str, value: object, problem: str
) -> None:
    content = stated()
    content[section][key] = value
    write(content)
    (line,) = problems()[1:]

    assert line.strip().startswith(f"{section}.{key}: {problem}")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("place", "begun"), [("[canvas]", "list; begin each of its tables with [[canvas]]"), ("[[engine]]", "table")]
)
def test_a_section_that_is_begun_as_the_other_kind_says_how(write: Callable[..., Path], place: str, begun: str) -> None:
    section = place.strip("[]")
    content = stated()
    del content[section]
    file = write(content)
    file.write_text(f"{file.read_text()}\n{place}\nname = 'x'\n")

    assert problems()[1].strip() == f"{section}: must be a {begun}"


@pytest.mark.parametrize("prefix", ["/p", "p/", "/"])
def test_a_prefix_has_no_slash_at_its_ends(write: Callable[..., Path], prefix: str) -> None:
    bucket = {"kind": "s3", "bucket": "b", "region": "r", "endpoint_url": "", "writable": False}
    write(stated(objects={**bucket, "prefix": prefix}))
    (line,) = problems()[1:]
    assert line.strip().startswith("objects.prefix: String should match pattern")

    write(stated(objects={**bucket, "prefix": "p/q"}))
    assert load_environment().objects.url == "s3://b/p/q"


def test_keys_that_only_look_like_settings_are_refused(write: Callable[..., Path]) -> None:
    write(stated(_env_file="other.env"))

    assert [line.strip() for line in problems()[1:]] == ["_env_file: there is no such key"]


def test_variables_that_are_wrong_or_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OL_ENVIRONMENT_FILE", "")
    assert load_environment().name == "dev"
    monkeypatch.setenv("OL_CAMPUS_URL", "http://campus.invalid/")
    assert str(load_environment().learn.url) == "http://campus.invalid/learn"
    monkeypatch.setenv("OL_CAMPUS_URL", "campus")
    with pytest.raises(InvalidEnvironment, match="OL_CAMPUS_URL is 'campus': Input should be a valid URL"):
        load_environment()
    monkeypatch.setenv("OL_DATA_DIR", "what?")
    with pytest.raises(InvalidEnvironment, match=r"OL_DATA_DIR is 'what\?'; name a folder without a question mark"):
        load_environment()


@pytest.mark.parametrize("text", ["a", "#key", "path#", ""])
def test_what_refers_to_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="refers to no secret; write its path, `#` and its key"):
        SecretRef.parse(text)


@pytest.mark.parametrize("content", ["a = ", "name = \udcff"])
def test_a_file_that_is_no_toml_is_named(write: Callable[..., Path], content: str) -> None:
    file = write({})
    file.write_bytes(content.encode("utf-8", "surrogateescape"))

    assert problems()[0].startswith(f"{file} is not TOML: ")


def test_a_file_that_is_not_there_is_named(write: Callable[..., Path]) -> None:
    write({}).unlink()

    assert "No such file or directory" in problems()[0]


def test_variables_change_no_value_of_a_file(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write(stated())
    monkeypatch.setenv("OBJECTS", '{"kind": "folder", "path": "elsewhere", "writable": true}')

    assert load_environment().model_dump(mode="json") == stated()


def test_an_environment_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_environment().name = "qa"  # type: ignore[misc]


def test_secrets_print_serialise_and_compare_as_their_place_only() -> None:
    ref = development(data_dir=Path("somewhere"), campus_url="http://127.0.0.1:1").canvas[0].access_token

    assert str(ref) == "canvas#access_token"
    assert ref.model_dump() == {"path": "canvas", "key": "access_token"}
    assert ref == SecretRef.parse(str(ref))
    assert len({ref, SecretRef.parse(str(ref))}) == 1


def test_a_password_in_the_address_of_a_catalog_is_refused_and_not_told(write: Callable[..., Path]) -> None:
    uri = "postgresql://dagster:hunter2@db.invalid/catalog"
    write(stated(tables={"kind": "sql", "uri": uri, "warehouse": "s3://b", "writable": True}))

    assert "tables.uri: Value error, must hold no password" in problems()[1]
    assert "hunter2" not in "".join(problems())


def test_the_command_prints_what_is_in_force_and_where_secrets_are(write: Callable[..., Path]) -> None:
    file = write(stated())
    text, data = (CliRunner().invoke(main, ["environment", *options]) for options in ([], ["--json"]))

    assert text.output.splitlines()[0] == f"# {file}"
    assert ["openedx.mitx.client_secret", "openedx/mitx#client_secret"] in [
        line.split() for line in text.output.splitlines()
    ]
    assert json.loads(data.output) == stated()


def test_the_command_fails_with_every_problem(write: Callable[..., Path]) -> None:
    write(stated(surprise=1, engine={}))
    done = CliRunner().invoke(main, ["environment"])

    assert done.exit_code == 1
    assert "surprise: there is no such key" in done.output
    assert "engine.kind: this key is missing" in done.output
