"""`python -m ol_core.check NAME`: load and validate one code location in this process, with no network."""

import json
import sys
import warnings

import click

from ol_core import code_locations
from ol_core.failures import PermanentFailure

_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}


def refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook that turns any use of the network into an error naming the address."""
    if event in _NETWORK:
        raise PermanentFailure(f"uses the network while loading ({event} {arguments[-2:]}); loading must do no I/O")


def validate(name: str) -> dict[str, int]:
    """Load a code location, validate it as Dagster would and count what it holds.

    Raises:
        PermanentFailure: it cannot be loaded, is not valid, or holds no asset.
    """
    import dagster as dg

    (location,) = code_locations.installed([name])
    definitions = code_locations.load([location])[name]
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    counts = {
        "assets": len(graph.materializable_asset_keys),
        "checks": len(graph.asset_check_keys),
        "jobs": len(list(definitions.jobs or [])),
        "sensors": len(list(definitions.sensors or [])),
        "resources": len(definitions.resources or {}),
    }
    if counts["assets"] == 0:
        raise PermanentFailure(f"{name} holds no asset, so nothing was checked; is its configuration empty?")
    return counts


@click.command()
@click.argument("name")
def main(name: str) -> None:
    """Print one JSON object: ok, counts, error."""
    sys.addaudithook(refuse_network)
    warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")
    result: dict[str, object] = {"ok": True, "counts": {}, "error": None}
    try:
        result["counts"] = validate(name)
    except Exception as error:  # noqa: BLE001 - whatever makes a location unloadable is the result
        result |= {"ok": False, "error": str(error)}
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
