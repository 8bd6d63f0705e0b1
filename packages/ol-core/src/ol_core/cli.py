"""The `ol` command. Packages add their own verbs through the entry-point group `ol_data_platform.commands`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from ol_core import code_locations
from ol_core.failures import OlError
from ol_core.terminal import table

COMMANDS_GROUP = "ol_data_platform.commands"


class _InstalledCommands(click.Group):
    """A group that imports a package's verb only when that verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=COMMANDS_GROUP).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own, plugins = super().get_command(ctx, cmd_name), entry_points(group=COMMANDS_GROUP, name=cmd_name)
        packages = [*(["ol-core"] if own is not None else []), *sorted(map(_package, plugins))]
        if len(packages) > 1:
            raise click.ClickException(f"`ol {cmd_name}` is brought by {' and by '.join(packages)}; uninstall one")
        if not plugins:
            return own
        (plugin,), (package,) = plugins, packages
        try:
            command = plugin.load()
        except Exception as error:
            raise click.ClickException(
                f"`ol {cmd_name}` of {package} cannot be loaded: {type(error).__name__}: {error}; reinstall {package}"
            ) from error
        if not isinstance(command, click.Command):
            raise click.ClickException(
                f"`ol {cmd_name}` of {package}: {plugin.value} is a {type(command).__name__}, not a click command; "
                f"reinstall {package}"
            )
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except OlError as error:
            raise click.ClickException(str(error)) from error


def _package(plugin: EntryPoint) -> str:
    return plugin.dist.name if plugin.dist else plugin.value


@click.group(cls=_InstalledCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ol-core")
def main() -> None:
    """The learning-data platform, from a terminal."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def locations(*, as_json: bool) -> None:
    """List the installed code locations; imports none of them."""
    found = code_locations.installed()
    rows = [
        {"name": one.name, "distribution": one.distribution, "version": one.version, "entry": one.entry}
        for one in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("no code location is installed; install a package such as ol-canvas", err=True)
        return
    click.echo(table(list(rows[0]), [list(row.values()) for row in rows]))


@main.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def check(names: tuple[str, ...], *, as_json: bool) -> None:
    """Load and validate code locations, each in a process of its own with no network.

    NAMES restricts the check; all installed locations otherwise. Fails where one cannot be loaded and where nothing
    was checked.
    """
    results = [_check_alone(location) for location in code_locations.installed(names)]
    if as_json:
        click.echo(json.dumps(results, indent=2))
    for result in [] if as_json else results:
        counts = ", ".join(f"{result['counts'][kind]} {kind}" for kind in result["counts"])
        click.echo(f"{result['name']}: {'ok, ' + counts if result['ok'] else 'FAILED'}")
        if not result["ok"]:
            click.echo(str(result["error"]), err=True)
    checked = sum(result["ok"] for result in results)
    click.echo(f"{checked} of {len(results)} code locations are loadable", err=True)
    if not results or checked < len(results):
        sys.exit(1)


def _check_alone(location: code_locations.CodeLocation) -> dict[str, Any]:
    command = [sys.executable, "-m", "ol_core.check", location.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    result: dict[str, Any] = {"name": location.name, "ok": False, "counts": {}, "error": None}
    try:
        result |= json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        result["error"] = done.stderr.strip() or f"the process ended with code {done.returncode} and said nothing"
    return result


@main.command()
@click.argument("names", nargs=-1)
def workspace(names: tuple[str, ...]) -> None:
    """Print a workspace.yaml for Dagster with one process per code location."""
    click.echo(workspace_yaml(code_locations.installed(names)), nl=False)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def environment(*, as_json: bool) -> None:
    """Print the environment in force; secrets appear only as references."""
    from ol_core.environment import Settings, load_environment

    stated, settings = load_environment(), Settings()
    if as_json:
        click.echo(json.dumps(stated.model_dump(mode="json"), indent=2))
        return
    click.echo(f"# {settings.environment_file or f'the defaults of dev, below {settings.data_dir}'}")
    rows = list(_flat("", stated))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        click.echo(f"{key.ljust(width)}  {value}")


def _flat(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of every value below `value`; a reference to a secret is one value."""
    from pydantic import BaseModel

    from ol_core.environment import SecretRef

    if isinstance(value, BaseModel) and not isinstance(value, SecretRef):
        for key, one in value:
            yield from _flat(f"{prefix}.{key}".lstrip("."), one)
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        for one in value:
            yield from _flat(f"{prefix}.{one.name}", one)
    else:
        yield prefix, json.dumps(value) if isinstance(value, bool | tuple) else str(value)


def workspace_yaml(found: list[code_locations.CodeLocation]) -> str:
    """Return the text of a workspace.yaml that loads each location in a process of its own."""
    import yaml

    modules = [
        {
            "python_module": {
                "module_name": location.module,
                "attribute": location.attribute,
                "location_name": location.name,
                "executable_path": sys.executable,
            }
        }
        for location in found
    ]
    return yaml.safe_dump({"load_from": modules}, sort_keys=False)


if __name__ == "__main__":
    main(prog_name="ol")
