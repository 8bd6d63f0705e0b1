"""Reads the archives that Open edX exports: courses (OLX) and content libraries, as tar.gz, from untrusted sources.

`read_archive` makes one streaming pass and hands rows to a sink, `write_parquet_tables` writes them to Parquet files,
`digest_archive` says whether the content is what it was. The tables and their columns are in
`ol_openedx.archive.tables`; nothing here imports Dagster, and pyarrow is imported where it is used.
"""

from ol_openedx.archive.emission import ArchiveSummary
from ol_openedx.archive.limits import ArchiveError, ArchiveLimits
from ol_openedx.archive.reader import ArchiveDigest, digest_archive, read_archive, write_parquet_tables
from ol_openedx.archive.rows import RowSink
from ol_openedx.archive.tables import TABLE_KINDS, table_schema

__all__ = [
    "TABLE_KINDS",
    "ArchiveDigest",
    "ArchiveError",
    "ArchiveLimits",
    "ArchiveSummary",
    "RowSink",
    "digest_archive",
    "read_archive",
    "table_schema",
    "write_parquet_tables",
]
