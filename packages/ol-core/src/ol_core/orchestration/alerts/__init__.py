"""Failures are told, not left to be found: one message for each (location, step, kind of failure) and window.

One sensor per location counts the failed attempts of its steps by one query, however many they are, and tells those of
each window that has closed. Before a message leaves it is written down as an observation of `alerts/<location>`, so
that none is told twice, whatever becomes of the process; one that was not taken is told again, with the same id.
"""

from ol_core.orchestration.alerts.definitions import ALERTS, alert_definitions
from ol_core.orchestration.alerts.messages import Alert
from ol_core.orchestration.alerts.sinks import AlertSink, LogSink, WebhookSink, alert_sink
from ol_core.orchestration.alerts.tick import DELIVERY_TAG, LAG_CHECK, AlertPlan, alert_tick

__all__ = [
    "ALERTS",
    "DELIVERY_TAG",
    "LAG_CHECK",
    "Alert",
    "AlertPlan",
    "AlertSink",
    "LogSink",
    "WebhookSink",
    "alert_definitions",
    "alert_sink",
    "alert_tick",
]
