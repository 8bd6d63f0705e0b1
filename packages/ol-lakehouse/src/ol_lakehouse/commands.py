"""The verbs of `ol dbt`."""

import click


@click.group()
def dbt() -> None:
    """The dbt project of the warehouse."""


@dbt.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where the baked manifest is not the project's.")
def parse(*, check: bool) -> None:
    """Bake the manifest that the code location loads, from the project's SQL and YAML."""
    from ol_lakehouse.project import MANIFEST_NAME, PARSE_COMMAND, bake_manifest, project_directory

    project = project_directory()
    baked = bake_manifest(project)
    file = project / MANIFEST_NAME
    if file.is_file() and file.read_text(encoding="utf-8") == baked:
        click.echo(f"{file} is current")
        return
    if check:
        raise click.ClickException(f"{file} is not what the project's SQL and YAML say; run `{PARSE_COMMAND}`")
    file.write_text(baked, encoding="utf-8")
    click.echo(f"wrote {file}")
