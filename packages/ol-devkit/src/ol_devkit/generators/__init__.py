"""Generated courses: any number, any size, the same on every machine for the same seed."""

from ol_devkit.generators.canvas_view import CanvasIdentity, CanvasView
from ol_devkit.generators.cartridge import (
    CartridgeCourse,
    CartridgeExport,
    CartridgeTruth,
    canvas_identity,
    generate_cartridge,
)
from ol_devkit.generators.olx import OlxCourse, OlxExport, OlxTruth, generate_olx_course
from ol_devkit.generators.olx_identity import OlxIdentity, olx_identity

__all__ = [
    "CanvasIdentity",
    "CanvasView",
    "CartridgeCourse",
    "CartridgeExport",
    "CartridgeTruth",
    "OlxCourse",
    "OlxExport",
    "OlxIdentity",
    "OlxTruth",
    "canvas_identity",
    "generate_cartridge",
    "generate_olx_course",
    "olx_identity",
]
