"""`ol secrets`: log in as a person, and see which secrets this environment has."""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal

import click

from ol_core.environment import Environment, SecretRef, load_environment
from ol_core.failures import OlError, PermanentFailure, UpstreamMissing
from ol_core.terminal import table

if TYPE_CHECKING:
    from ol_core.secrets.resource import Secrets

SECRETS_GROUP = "ol_data_platform.secrets"
"""Entry-point group: functions that give an environment's references to secrets, one a package."""

State = Literal["found", "missing", "forbidden", "failed"]


@click.group()
def secrets() -> None:
    """Secrets of the environment in force; no value is ever printed."""


@secrets.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def check(*, as_json: bool) -> None:
    """Read every secret that the installed packages declare, and say which are there.

    Fails where one is not found, and where none is declared.
    """
    from ol_core.secrets.resource import secrets_resource

    environment = load_environment()
    resource = secrets_resource(environment)
    rows = [
        {"secret": str(ref), "package": package, **_looked_up(resource, ref)}
        for package, ref in declared_references(environment)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        _print_table(rows)
    found = sum(row["state"] == "found" for row in rows)
    click.echo(f"{found} of {len(rows)} secrets of {environment.name} are found", err=True)
    if not rows or found < len(rows):
        sys.exit(1)


@secrets.command()
@click.option(
    "--port",
    default=8250,
    type=click.IntRange(1, 65535),
    show_default=True,
    help="Loopback port that the browser comes back to.",
)
@click.option("--timeout-seconds", default=300.0, show_default=True, help="How long to wait for you.")
def login(port: int, timeout_seconds: float) -> None:
    """Log in to Vault in the browser; the token is kept for you alone."""
    from ol_core.secrets.callback import Browser
    from ol_core.secrets.vault import VaultClient

    backend = load_environment().secrets
    if backend.kind != "vault":
        raise PermanentFailure(f"this environment keeps its secrets in {backend.file}; there is nothing to log in to")

    def show(address: str) -> None:
        click.echo(f"Open this address to log in:\n{address}")
        click.launch(address)

    file = VaultClient(backend).log_in_person(Browser(show, port, timeout_seconds))
    click.echo(f"Logged in to {backend.url}; the token is in {file}")


def declared_references(environment: Environment) -> Iterator[tuple[str, SecretRef]]:
    """Yield (package, reference) for what the installed packages declare, sorted, each reference once.

    Raises:
        PermanentFailure: a package's declaration cannot be loaded.
    """
    seen: set[SecretRef] = set()
    for point in sorted(entry_points(group=SECRETS_GROUP), key=lambda point: point.name):
        try:
            references = list(point.load()(environment))
        except Exception as error:
            raise PermanentFailure(
                f"the secrets of {point.name} ({point.value}) cannot be listed: {type(error).__name__}: {error}; "
                f"reinstall {point.name}"
            ) from error
        for ref in sorted(references, key=str):
            if ref not in seen:
                seen.add(ref)
                yield point.name, ref


def _looked_up(resource: "Secrets", ref: SecretRef) -> dict[str, str]:
    from ol_core.secrets.vault import AccessRefused

    state: State = "found"
    reason = ""
    try:
        resource.get(ref)
    except AccessRefused as error:
        state, reason = "forbidden", str(error)
    except UpstreamMissing as error:
        state, reason = "missing", str(error)
    except OlError as error:
        state, reason = "failed", str(error)
    return {"state": state, "reason": reason}


def _print_table(rows: list[dict[str, str]]) -> None:
    columns = ("secret", "package", "state")
    if rows:
        click.echo(table(columns, [[row[column] for column in columns] for row in rows]))
    for reason in dict.fromkeys(row["reason"] for row in rows if row["reason"]):
        click.echo(reason, err=True)
