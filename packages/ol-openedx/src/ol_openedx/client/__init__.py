"""A client of Open edX: course runs, their versions and their exports. It imports httpx; locations import it late."""

from ol_openedx.client.openedx import OpenEdxClient
from ol_openedx.client.records import CourseExport, CourseRun

__all__ = ["CourseExport", "CourseRun", "OpenEdxClient"]
