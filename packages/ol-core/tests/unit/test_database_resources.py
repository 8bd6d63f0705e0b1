"""Resources of databases before any server is asked."""

from typing import Any

import pytest
from ol_core.databases import MySQLResource, PostgresResource
from ol_core.databases.columns import Column, arrow_type, decimal_type, record_batch, schema_of
from ol_core.failures import PermanentFailure
from ol_core.secrets import LocalSecrets


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"user": ""}, "state either user and password"),
        ({"vault_role": "reader"}, "state either user and password"),
        ({"ca_file": ""}, "tls=verify-full: state ca_file"),
        ({"tls": "require"}, "tls=require: state ca_file with verify-full and verify-ca, and with these alone"),
        ({"tls": "prefer"}, "verify-full"),
        ({"statement_timeout_seconds": 0.0004}, "statement_timeout_seconds"),
        ({"statement_timeout_seconds": float("inf")}, "statement_timeout_seconds"),
    ],
)
def test_what_contradicts_itself_is_refused_at_once(changed: dict[str, object], message: str) -> None:
    stated: dict[str, Any] = {"host": "h", "database": "d", "user": "p#u", "password": "p#p", "ca_file": "/ca.pem"}
    with pytest.raises(ValueError, match=message):
        PostgresResource(secrets=LocalSecrets(file="none"), **{**stated, **changed})


def test_nothing_is_asked_before_the_first_query() -> None:
    stated: dict[str, Any] = {"host": "no-such-host.invalid", "database": "d", "vault_role": "r", "tls": "disable"}

    for kind in (PostgresResource, MySQLResource):
        resource = kind(secrets=LocalSecrets(file="none"), **stated)
        assert resource.client is resource.client
        resource.close()


def test_passwords_are_references_in_all_that_is_stored() -> None:
    stated = {"host": "h", "database": "d", "user": "p#user", "password": "p#password", "tls": "disable"}
    resource = PostgresResource(secrets=LocalSecrets(file="none"), **stated)  # type: ignore[arg-type]

    assert "password='p#password'" in repr(resource)
    with pytest.raises(ValueError, match="password is where the secret is, as path#key") as caught:
        PostgresResource(secrets=LocalSecrets(file="none"), **{**stated, "password": "hunter2"})  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "scale", "expected"),
    [(38, 38, "decimal128(38, 38)"), (39, 0, "string"), (3, 4, "string"), (3, -1, "string"), (None, None, "string")],
)
def test_decimals_keep_every_digit_or_are_text(precision: int | None, scale: int | None, expected: str) -> None:
    assert str(decimal_type(precision, scale)) == expected


def test_a_batch_has_the_schema_of_its_columns_also_without_rows() -> None:
    columns = [Column("a", (arrow_type("string"), arrow_type("int32"))), Column("b", (arrow_type("bool"),))]

    assert record_batch(columns, [("1", None), (None, True)]).to_pylist() == [
        {"a": 1, "b": None},
        {"a": None, "b": True},
    ]
    assert record_batch(columns, []).schema == schema_of(columns)
    with pytest.raises(PermanentFailure, match="column a holds a value that no int32 holds"):
        record_batch(columns, [("2147483648", None)])
    with pytest.raises(PermanentFailure, match="no rows to stream"):
        schema_of([])
