"""Common cartridges (`.imscc`): what Canvas exports, read in one pass and never unpacked to disk.

`read_cartridge` returns a `Cartridge`: one row per item of content, one per file, one for whatever could not be used,
and a digest that a re-export without a change leaves as it is. Cartridges of other systems (Common Cartridge 1.1 to
1.3) are read as well; their modules come from the manifest's organizations.
"""

from ol_canvas.cartridge.digest import content_version
from ol_canvas.cartridge.reader import read_cartridge
from ol_canvas.cartridge.records import (
    Cartridge,
    CartridgeError,
    CartridgeFile,
    CartridgeItem,
    CartridgeLimits,
    QuarantineEntry,
)
from ol_canvas.cartridge.tables import TABLE_KINDS, table_schema

__all__ = [
    "TABLE_KINDS",
    "Cartridge",
    "CartridgeError",
    "CartridgeFile",
    "CartridgeItem",
    "CartridgeLimits",
    "QuarantineEntry",
    "content_version",
    "read_cartridge",
    "table_schema",
]
