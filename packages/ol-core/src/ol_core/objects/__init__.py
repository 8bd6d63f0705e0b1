"""File objects: immutable, checksummed files under keys that say what they are.

A key is `{asset key}/{partition}/{version}{suffix}`. An object is written once, whole or not at all: a second write of
the same key is a no-op, because the version is that of the content.
"""

from ol_core.objects.files import FileObject, ObjectFile, object_key
from ol_core.objects.io_manager import (
    FileObjectIOManager,
    S3FileObjectIOManager,
    materialization,
    object_store,
)
from ol_core.objects.s3 import S3, s3_resource

__all__ = [
    "S3",
    "FileObject",
    "FileObjectIOManager",
    "ObjectFile",
    "S3FileObjectIOManager",
    "materialization",
    "object_key",
    "object_store",
    "s3_resource",
]
