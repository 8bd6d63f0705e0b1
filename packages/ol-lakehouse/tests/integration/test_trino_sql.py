"""Every model and test, compiled for Trino without a server, is SQL that Trino and DuckDB read alike."""

import os
import re
import subprocess
import sys

import pytest
import sqlglot
from ol_lakehouse.project import project_directory
from sqlglot import exp

# What both engines have under one name and meaning, or what dbt's own macros choose for Trino.
FUNCTIONS = {
    *("AND", "OR", "IF", "CASE", "CAST", "COALESCE", "COUNT", "SUM", "ROUND", "CHR", "SPLIT_PART"),
    *("ENCODE", "MD5_DIGEST", "LOWER_HEX"),  # dbt.hash: lower(to_hex(md5(to_utf8(x))))
    *("ARRAY_AGG", "ARRAY_TO_STRING"),  # dbt.listagg: array_join(array_agg(x order by y), ';')
}
DBT = "from dbt.cli.main import cli; cli()"
TYPES = {"VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP(6)"}
FORBIDDEN = {
    r"::": "a cast of PostgreSQL's",
    r"\bilike\b": "not in Trino",
    r"\bqualify\b": "not in Trino",
    r"\bgroup by all\b": "not in Trino",
    r"\basof\b": "not in Trino",
    r"\bpivot\b": "not in Trino",
    r"\$\d": "a back reference of Java's regular expressions",
    r"current_(timestamp|date)": "a row would differ from run to run",
    r"\bdate_diff\b|\bdatediff\b": "counts boundaries on DuckDB and elapsed units on Trino",
    r"->": "lambdas are written differently",
}
# https://trino.io/docs/current/language/reserved.html
RESERVED = """
alter and as between by case cast constraint create cross cube current_catalog current_date current_path current_role
current_schema current_time current_timestamp current_user deallocate delete describe distinct drop else end escape
except execute exists extract false for from full group grouping having in inner insert intersect into is join
json_array json_exists json_object json_query json_table json_value left like listagg localtime localtimestamp natural
normalize not null on or order outer prepare recursive right rollup select skip table then trim true uescape union
unnest using values when where with
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Compiled SQL by file name."""
    target = tmp_path_factory.mktemp("target")
    project = str(project_directory())
    settings = {"HOST": "trino.invalid", "USER": "nobody", "CATALOG": "lake"}
    finished = subprocess.run(
        [sys.executable, "-c", DBT, "compile", "--target", "trino", "--no-introspect", "--no-populate-cache"],
        env={
            **os.environ,
            **{f"OL_TRINO_{name}": value for name, value in settings.items()},
            "DBT_ENV_SECRET_TRINO_PASSWORD": "not-a-password",
            "DBT_PROJECT_DIR": project,
            "DBT_PROFILES_DIR": project,
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return {file.stem: file.read_text() for file in (target / "compiled").rglob("*.sql")}


def test_models_and_tests_are_all_compiled(compiled: dict[str, str]) -> None:
    models = {file.stem for file in project_directory().glob("models/**/*.sql")}
    assert models <= compiled.keys()
    assert len(compiled) > len(models) + 30
    assert '"lake"."staging"."stg__openedx__course_blocks"' in compiled["dim_course_content"]
    assert "lower(to_hex(md5(to_utf8(" in compiled["dim_course_content"]


def test_everything_parses_as_trino_and_uses_what_both_engines_share(compiled: dict[str, str]) -> None:
    problems: list[str] = []
    for name, sql in compiled.items():
        (statement,) = sqlglot.parse(sql, dialect="trino")
        assert isinstance(statement, exp.Query), name
        problems += [f"{name}: {problem}" for problem in sorted(forbidden(statement, sql))]
    assert problems == []


def test_text_literals_that_are_columns_have_the_type_of_their_contract(compiled: dict[str, str]) -> None:
    """A bare literal is varchar(4) or so on Trino, and the contract says varchar."""
    for name, sql in compiled.items():
        if not name.startswith(("stg__", "dim_", "marts__")):
            continue
        for select in sqlglot.parse_one(sql, dialect="trino").find_all(exp.Select):
            bare = [
                column.sql() for column in select.expressions if isinstance(column.unalias(), exp.Literal | exp.Null)
            ]
            assert bare == [], name


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("select string_agg(a, ',') as b from t", "function"),
        ("select strftime(a, '%Y') as b from t", "function"),
        ("select a::varchar as b from t", "::"),
        ("select cast(a as json) as b from t", "type"),
        ("select a as table from t", "reserved"),
        ("select a, count(*) as n from t group by all", "group by all"),
    ],
)
def test_the_check_finds_what_it_is_for(sql: str, problem: str) -> None:
    statement = sqlglot.parse_one(sql, dialect="duckdb")
    assert any(problem in found for found in forbidden(statement, sql))


def forbidden(statement: exp.Expr, sql: str) -> set[str]:
    without_literals = re.sub(r"'[^']*'", "''", sql)
    found = {
        f"{pattern} ({reason})"
        for pattern, reason in FORBIDDEN.items()
        if re.search(pattern, without_literals, re.IGNORECASE)
    }
    for function in statement.find_all(exp.Func):
        name = function.name.upper() if isinstance(function, exp.Anonymous) else function.sql_name()
        if name not in FUNCTIONS:
            found.add(f"function {name}")
    found |= {
        f"type {kind.sql('trino')}" for kind in statement.find_all(exp.DataType) if kind.sql("trino") not in TYPES
    }
    names = {name.name.lower() for name in statement.find_all(exp.Identifier) if not name.quoted}
    return found | {f"reserved word {name}" for name in names & set(RESERVED.split())}
