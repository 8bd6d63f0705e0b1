"""What a person decides about partitions and pools, on the instance of `DAGSTER_HOME`."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from ol_core.environment import load_environment
from ol_core.failures import PermanentFailure
from ol_core.terminal import table

if TYPE_CHECKING:
    import dagster as dg

    from ol_core.orchestration.desired_state import Outcome
    from ol_core.orchestration.retirement import Shrink

_SHOWN = 20
_ENDINGS = {
    "t": "failed",
    "p": "failed",
    "m": "failed",
    "q": "quarantined",
    "s": "held",
    "h": "held",
    "r": "to be tried again",
}


@click.command()
@click.argument("asset")
@click.argument("partitions", nargs=-1)
@click.option("--failed", is_flag=True, help="All partitions that failed.")
@click.option("--quarantined", is_flag=True, help="All partitions of which something is in quarantine.")
@click.option("--never-built", is_flag=True, help="Partitions of which ASSET has nothing, as its inventory names them.")
@click.option("--stale", is_flag=True, help="Partitions that hold an older version, as its inventory names them.")
@click.option("--all", "everything", is_flag=True, help="All of these.")
@click.option("--dry-run", is_flag=True, help="Only say what would be tried again.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def recover(
    asset: str,
    partitions: tuple[str, ...],
    *,
    failed: bool,
    quarantined: bool,
    never_built: bool,
    stale: bool,
    everything: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Retry partitions of ASSET: their failed attempts no longer count.

    Name the PARTITIONS, or say which by an option. The next tick of the asset's sensor requests them, also where it
    would have come to them later.
    """
    options = {"failed": failed, "quarantined": quarantined, "never built": never_built, "stale": stale}
    states = {state for state, is_meant in options.items() if is_meant or everything}
    if bool(partitions) == bool(states):
        names = ", ".join(f"--{state.replace(' ', '-')}" for state in options)
        raise click.UsageError(f"name the partitions, or say which by {names} or --all")
    with _instance() as instance:
        inventoried, asset_key = _attempts_of(instance, asset)
        candidates = _candidates(instance, inventoried, asset_key)
        chosen = _chosen(asset_key, candidates, partitions, states)
        rows = _rows(instance, asset_key, chosen)
        if not dry_run:
            _forgive(instance, asset_key, chosen)
    name = asset_key.to_user_string()
    if as_json:
        click.echo(json.dumps({"asset": name, "dry_run": dry_run, "partitions": rows}, indent=2))
        return
    for row in rows:
        click.echo(f"{row['partition'] or name}: {row['state']}, {row['attempts']} failed attempts. {row['reason']}")
    would = "would be" if dry_run else "are"
    click.echo(f"{len(rows)} of {name} {would} tried again")
    if rows and not dry_run:
        click.echo("The next tick of its sensor requests them, within about a minute where Dagster's daemon runs.")


@click.group()
def retire() -> None:
    """Partitions that disappeared from a source in implausible numbers."""


@retire.command()
@click.argument("assets", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def show(assets: tuple[str, ...], *, as_json: bool) -> None:
    """List what awaits acknowledgement, for ASSETS or for all."""
    with _instance() as instance:
        shrinks = _shrinks(instance, assets)
    if as_json:
        rows = [
            {
                "asset": one.asset_key.to_user_string(),
                "shrink": one.shrink_id,
                "known": one.known,
                "gone": list(one.gone),
            }
            for one in shrinks
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for one in shrinks:
        click.echo(one.reason)
        for partition in one.gone:
            click.echo(f"  {partition}")
    if not shrinks:
        click.echo("nothing awaits acknowledgement")


@retire.command()
@click.argument("asset")
@click.argument("shrink")
@click.option("--yes", is_flag=True, help="Do not ask.")
def acknowledge(asset: str, shrink: str, *, yes: bool) -> None:
    """Retire the partitions that SHRINK names; `ol retire show` lists both arguments."""
    from ol_core.orchestration.retirement import acknowledge as retire_all

    with _instance() as instance:
        asset_key = _known(instance, asset)
        standing = next((one for one in _shrinks(instance, [asset]) if one.shrink_id == shrink), None)
        if standing is not None and not yes:
            for partition in standing.gone[:_SHOWN]:
                click.echo(f"  {partition}")
            if len(standing.gone) > _SHOWN:
                click.echo(f"  and {len(standing.gone) - _SHOWN} more; see them all: ol retire show {asset}")
            click.confirm(f"Retire these {len(standing.gone)} of {standing.known} partitions of {asset}?", abort=True)
        done = retire_all(instance, asset_key, shrink)
    click.echo(f"{len(done.gone)} partitions of {asset} are retired; their files, rows and events stay.")
    click.echo("The next discovery removes them where no run holds them, or takes back what the source has again.")


@click.command()
@click.option("--apply", "mode", flag_value="apply", help="Set what is declared.")
@click.option("--check", "mode", flag_value="check", help="Fail where the instance has other limits.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def pools(*, mode: str | None, as_json: bool) -> None:
    """Compare the concurrency pools that the installed packages declare with those of Dagster's instance.

    The instance is that of DAGSTER_HOME, the environment the one in force.
    """
    from ol_core.orchestration.pools import apply_pools, pool_states

    environment = load_environment()
    with _instance() as instance:
        set_now = apply_pools(instance, environment) if mode == "apply" else []
        states = pool_states(instance, environment)
    if as_json:
        click.echo(json.dumps([{**asdict(state), "drifted": state.drifted} for state in states], indent=2))
    else:
        cells = [(state.pool, state.package or None, state.declared, state.limit) for state in states]
        rows = [["-" if cell is None else str(cell) for cell in row] for row in cells]
        click.echo(table(["pool", "package", "declared", "limit"], rows, right={2, 3}))
    drifted = sum(state.drifted for state in states)
    click.echo(f"{len(set_now)} set, {drifted} of {len(states)} pools differ from what is declared", err=True)
    if mode is not None and (drifted or not states):
        sys.exit(1)


@contextmanager
def _instance() -> "Iterator[dg.DagsterInstance]":
    import dagster as dg

    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise PermanentFailure(
            "DAGSTER_HOME is not set; set it to the folder of the deployment's dagster.yaml, or to DIR/dagster for what"
            " `ol dev --data-dir DIR` and `ol demo --data-dir DIR` run"
        )
    try:
        instance = dg.DagsterInstance.get()
    except dg.DagsterError as error:
        reason = str(error).partition("\n")[0].strip()
        raise PermanentFailure(
            f"DAGSTER_HOME={home} cannot be used: {reason} Name the folder that holds dagster.yaml."
        ) from error
    with instance:
        yield instance


def _key(instance: "dg.DagsterInstance", name: str) -> "dg.AssetKey":
    """Return the key that a name stands for; a part of a key may have a slash."""
    import dagster as dg

    known = (key for key in instance.all_asset_keys() if key.to_user_string() == name)
    return next(known, dg.AssetKey.from_user_string(name))


def _known(instance: "dg.DagsterInstance", name: str) -> "dg.AssetKey":
    asset_key = _key(instance, name)
    if not instance.has_asset_key(asset_key):
        raise _unknown(name, (key.to_user_string() for key in instance.all_asset_keys()))
    return asset_key


def _attempts_of(instance: "dg.DagsterInstance", name: str) -> "tuple[dg.AssetKey, dg.AssetKey]":
    """Return an asset, of which there may be no more than its inventory, and the one under which its attempts stand."""
    from ol_core.dagster_storage import latest_check
    from ol_core.orchestration.inventory import ATTEMPTS_METADATA, INVENTORY_CHECK

    asset_key = _key(instance, name)
    inventory = latest_check(instance, asset_key, INVENTORY_CHECK)
    if inventory is not None:
        return asset_key, _key(instance, str(inventory.metadata[ATTEMPTS_METADATA].value))
    asset_key = _known(instance, name)
    if not _outcomes(instance, asset_key):
        counted = (key for key in instance.all_asset_keys() if latest_check(instance, key, INVENTORY_CHECK))
        raise _unknown(name, (key.to_user_string() for key in counted), "no attempts at it are recorded")
    return asset_key, asset_key


def _outcomes(instance: "dg.DagsterInstance", asset_key: "dg.AssetKey") -> "Mapping[str, Outcome]":
    from ol_core.orchestration.desired_state import outcomes

    return outcomes(instance, asset_key) or outcomes(instance, asset_key, [""])


def _unknown(name: str, valid: Iterable[str], what: str = "it is not known") -> PermanentFailure:
    lines = "".join(f"\n  {one}" for one in sorted(valid)) or "\n  none yet: nothing was materialized or tried here"
    return PermanentFailure(f"{name}: {what} on this instance; valid assets:{lines}")


def _candidates(
    instance: "dg.DagsterInstance", inventoried: "dg.AssetKey", asset_key: "dg.AssetKey"
) -> "dict[str, tuple[str, Outcome]]":
    """Return the state and outcome of what was tried, or stands in an asset's inventory, and is not retired."""
    from ol_core.dagster_storage import latest_check
    from ol_core.orchestration.desired_state import Outcome
    from ol_core.orchestration.inventory import BEHIND_METADATA, INVENTORY_CHECK

    known = _outcomes(instance, asset_key)
    found = {one: (_ENDINGS[outcome.ending], outcome) for one, outcome in known.items()}
    inventory = latest_check(instance, inventoried, INVENTORY_CHECK)
    listed: Any = (
        inventory.metadata[BEHIND_METADATA].value if inventory and BEHIND_METADATA in inventory.metadata else {}
    )
    made = instance.get_materialized_partitions(inventoried) if listed else set()
    for partition, version in listed.items():
        outcome = known.get(partition) or Outcome(version, 0, "r", 0)
        if partition not in made and not outcome.failed:
            found[partition] = ("never built", outcome)
        elif partition not in known or (outcome.holds and version not in ("", outcome.version)):
            found[partition] = ("stale", outcome)
    return {one: (state, outcome) for one, (state, outcome) in found.items() if not outcome.retired}


def _chosen(
    asset_key: "dg.AssetKey",
    candidates: "Mapping[str, tuple[str, Outcome]]",
    partitions: Sequence[str],
    states: set[str],
) -> "dict[str, tuple[str, Outcome]]":
    if states:
        return {one: candidate for one, candidate in candidates.items() if candidate[0] in states}
    for one in partitions:
        if one not in candidates:
            close = get_close_matches(one, candidates, n=5, cutoff=0.3)
            name, valid = asset_key.to_user_string(), f"; did you mean {', '.join(close)}?" if close else ""
            raise PermanentFailure(f"{one} is retired, or was never tried nor missed, in {name}{valid}")
    return {one: candidates[one] for one in partitions}


def _rows(
    instance: "dg.DagsterInstance", asset_key: "dg.AssetKey", chosen: "Mapping[str, tuple[str, Outcome]]"
) -> list[dict[str, Any]]:
    from ol_core.orchestration.desired_state import failure_reasons

    reasons = failure_reasons(instance, asset_key, [one for one in chosen if one]) if any(chosen) else {}
    return [
        {
            "partition": partition,
            "state": state,
            "attempts": outcome.attempts,
            "reason": reasons.get(partition, ""),
        }
        for partition, (state, outcome) in sorted(chosen.items())
    ]


def _forgive(
    instance: "dg.DagsterInstance", asset_key: "dg.AssetKey", chosen: "Mapping[str, tuple[str, Outcome]]"
) -> None:
    from ol_core.orchestration.desired_state import attempts_reset, outcomes

    before = outcomes(instance, asset_key, list(chosen))
    for partition, (_, outcome) in chosen.items():
        event = attempts_reset(asset_key, partition, outcome.version, before=before.get(partition))
        instance.report_runless_asset_event(event)


def _shrinks(instance: "dg.DagsterInstance", assets: Sequence[str]) -> "list[Shrink]":
    from ol_core.orchestration.retirement import standing_shrinks

    keys = [_known(instance, asset) for asset in assets] or sorted(instance.all_asset_keys())
    return standing_shrinks(instance, keys)
