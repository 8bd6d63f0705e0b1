"""A client of Canvas: courses, their metadata and their exports. It imports httpx; locations import it late."""

from ol_canvas.client.canvas import CanvasClient
from ol_canvas.client.records import (
    CanvasAssignment,
    CanvasCourse,
    CanvasExport,
    CanvasFile,
    CanvasModule,
    CanvasModuleItem,
    CanvasPage,
    CourseMetadata,
)

__all__ = [
    "CanvasAssignment",
    "CanvasClient",
    "CanvasCourse",
    "CanvasExport",
    "CanvasFile",
    "CanvasModule",
    "CanvasModuleItem",
    "CanvasPage",
    "CourseMetadata",
]
