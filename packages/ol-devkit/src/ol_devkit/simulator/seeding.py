"""Partitions that hold a version already, without a run for each of them.

Dagster writes one event at a time, in 12 ms of CPU time on SQLite. So it writes one of each kind, for a partition and
a version of no meaning, and the rows that this made are copied for all others, with their own names and versions.
Where a subject's events differ in more than that, it writes all of them. `test_simulator` reads them back through
Dagster.
"""

import json
from collections.abc import Mapping
from itertools import islice

import dagster as dg
from sqlalchemy import Connection, create_engine, text

from ol_devkit.simulator.storage import Storage
from ol_devkit.simulator.subject import Subject

_PARTITION = "simulated-partition"
_VERSION = "simulated-version"
_COMPARED = 100
_ROW = "id, run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"


def seed(storage: Storage, subject: Subject, versions: Mapping[str, str]) -> None:
    """Record that partitions exist and hold these versions of the source."""
    storage.instance.add_dynamic_partitions(subject.partitions, list(versions))
    for event in subject.listed():
        storage.instance.report_runless_asset_event(event)
    wanted = {partition: subject.wanted(partition, version) for partition, version in versions.items()}
    if storage.events is None or not _are_copies(subject, wanted):
        for partition, version in wanted.items():
            for event in subject.seeds(partition, version):
                storage.instance.report_runless_asset_event(event)
        return
    engine = create_engine(storage.events)
    for event in subject.seeds(_PARTITION, _VERSION):
        storage.instance.report_runless_asset_event(event)
        with engine.begin() as connection:
            _multiply(connection, wanted)
    engine.dispose()


def _are_copies(subject: Subject, wanted: Mapping[str, str]) -> bool:
    """Whether events differ in the partition's name and version only, as those of some tell."""
    copied = [dg.serialize_value(event) for event in subject.seeds(_PARTITION, _VERSION)]
    return all(
        [dg.serialize_value(event) for event in subject.seeds(partition, wanted[partition])]
        == [_meant(event, partition, wanted) for event in copied]
        for partition in islice(wanted, _COMPARED)
    )


def _multiply(connection: Connection, wanted: Mapping[str, str]) -> None:
    """Replace the newest event of the partition of no meaning by one for each partition."""
    found = text(f"select {_ROW} from event_logs where partition = :partition order by id desc limit 1")  # noqa: S608 - names of columns
    row = dict(connection.execute(found, {"partition": _PARTITION}).mappings().one())
    tags = connection.execute(text("select key, value from asset_event_tags where event_id = :id"), row).all()
    for table, key in (("event_logs", "id"), ("asset_event_tags", "event_id")):
        connection.execute(text(f"delete from {table} where {key} = :id"), row)  # noqa: S608 - names of tables
    first = 1 + int(connection.execute(text("select coalesce(max(id), 0) from event_logs")).scalar_one())
    names = [name.strip() for name in _ROW.split(",")]
    insert = text(f"insert into event_logs ({_ROW}) values ({', '.join(f':{name}' for name in names)})")  # noqa: S608 - as above
    tag = text(
        "insert into asset_event_tags (event_id, asset_key, key, value, event_timestamp) "
        "values (:id, :asset_key, :key, :value, :timestamp)"
    )
    rows = [{**row, "id": first + place, "partition": partition} for place, partition in enumerate(wanted)]
    connection.execute(insert, [{**one, "event": _meant(row["event"], one["partition"], wanted)} for one in rows])
    if tags:
        meant = [
            {**one, "key": key, "value": _replaced(value, one["partition"], wanted[one["partition"]])}
            for one in rows
            for key, value in tags
        ]
        connection.execute(tag, meant)
    if connection.dialect.name == "postgresql":
        connection.execute(text("select setval(pg_get_serial_sequence('event_logs', 'id'), max(id)) from event_logs"))


def _meant(event: str, partition: str, wanted: Mapping[str, str]) -> str:
    name, version = (json.dumps(one)[1:-1] for one in (partition, wanted[partition]))
    return _replaced(event, name, version)


def _replaced(text: str, partition: str, version: str) -> str:
    return text.replace(_PARTITION, partition).replace(_VERSION, version)
