"""The warehouse as Dagster assets: the dbt project over the raw tables, on DuckDB or Trino."""
