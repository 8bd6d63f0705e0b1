"""The simulated campus: Canvas, Open edX deployments and MIT Learn on one loopback port.

>>> from ol_devkit.campus import CampusContent, serve
>>> with serve(CampusContent.generated(seed=1, openedx_courses=3, canvas_courses=2)) as campus:
...     canvas = f"{campus.url}/canvas"
...     token = campus.secrets["canvas"]["access_token"]
"""

from ol_devkit.campus.answers import Script, Scripted, canvas_throttled, openedx_throttled
from ol_devkit.campus.behaviour import Behaviour
from ol_devkit.campus.content import CampusContent
from ol_devkit.campus.learn import WebhookDelivery
from ol_devkit.campus.server import Campus, RequestRecord, serve

__all__ = [
    "Behaviour",
    "Campus",
    "CampusContent",
    "RequestRecord",
    "Script",
    "Scripted",
    "WebhookDelivery",
    "canvas_throttled",
    "openedx_throttled",
    "serve",
]
