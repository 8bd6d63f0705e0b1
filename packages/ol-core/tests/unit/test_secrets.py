from pathlib import Path

import pytest
from ol_core.environment import Environment, SecretRef, development
from ol_core.failures import PermanentFailure, UpstreamMissing
from ol_core.secrets import LocalSecrets, secrets_resource

REF = SecretRef(path="openedx/mitx", key="client_secret")


@pytest.fixture
def secrets(tmp_path: Path) -> LocalSecrets:
    file = tmp_path / "secrets.toml"
    file.write_text('["openedx/mitx"]\nclient_secret = "canary-4711"\n')
    return LocalSecrets(file=str(file))


def test_a_secret_is_read_from_its_table(secrets: LocalSecrets) -> None:
    assert secrets.get(REF) == "canary-4711"


@pytest.mark.parametrize("ref", [SecretRef(path="other", key="a"), SecretRef(path="openedx/mitx", key="client_id")])
def test_a_missing_secret_is_named(secrets: LocalSecrets, ref: SecretRef) -> None:
    with pytest.raises(UpstreamMissing, match=f"{ref.path}#{ref.key}") as caught:
        secrets.get(ref)

    assert "canary" not in str(caught.value)


def test_a_missing_file_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(UpstreamMissing, match=r'\["openedx/mitx"\] and client_secret = '):
        LocalSecrets(file=str(tmp_path / "none.toml")).get(REF)


@pytest.mark.parametrize("name", ["ci", "qa", "production", "prod"])
def test_a_local_file_serves_no_process_outside_dev(
    secrets: LocalSecrets, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DAGSTER_ENV", name)

    with pytest.raises(PermanentFailure, match=f"environment '{name}' keeps secrets in a local file; only `dev` may"):
        secrets.get(REF)


def test_a_file_that_others_may_read_is_warned_of_once(secrets: LocalSecrets, caplog: pytest.LogCaptureFixture) -> None:
    Path(secrets.file).chmod(0o644)
    secrets.get(REF)
    secrets.get(REF)

    assert [record.message.partition("; ")[2] for record in caplog.records] == [f"run `chmod 600 {secrets.file}`"]


def test_an_environment_of_another_name_may_not_keep_secrets_in_a_file(tmp_path: Path) -> None:
    stated = development(data_dir=tmp_path, campus_url="http://127.0.0.1:1").model_dump(mode="json")
    production = Environment.model_validate({**stated, "name": "production"})

    with pytest.raises(PermanentFailure, match="only `dev` may"):
        secrets_resource(production)
