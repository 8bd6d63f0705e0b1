"""Open edX course runs as Dagster assets: course exports, what is in them and raw tables."""
