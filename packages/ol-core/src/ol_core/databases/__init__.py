"""PostgreSQL and MySQL as sources of raw tables: pooled, over TLS, read only, streamed as Arrow record batches.

An asset hands a stream to the raw tables as it is; neither holds more than a batch of rows:

    import dagster as dg
    import pyarrow as pa
    from ol_core.databases import PostgresResource

    @dg.asset(key_prefix="ol_warehouse_raw_data", io_manager_key="raw_table_io_manager")
    def raw__campus__app__grades(campus: PostgresResource) -> pa.RecordBatchReader:
        newest = "SELECT * FROM grades WHERE modified >= %(since)s"
        return campus.stream(newest, {"since": "2024-01-01"}, batch_rows=50_000)

Which Arrow type a column gets is written in `ol_core.databases.postgres_types` and `ol_core.databases.mysql_types`.
"""

from ol_core.databases.resources import DatabaseResource, MySQLResource, PostgresResource

__all__ = ["DatabaseResource", "MySQLResource", "PostgresResource"]
