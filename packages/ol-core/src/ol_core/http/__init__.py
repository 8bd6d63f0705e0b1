"""One transport for every client of an outside system: timeouts, retries, pacing, pages, downloads, failures.

Whatever goes wrong leaves here as one of the failures of `ol_core.failures`, with method, redacted address, status and
a short excerpt of the answer. Importing this package imports httpx and tenacity: locations import their clients late.
"""

from ol_core.http.answers import NaiveUtc, failure, read_json, validated
from ol_core.http.auth import BearerAuth, ClientCredentialsAuth
from ol_core.http.client import HttpClient
from ol_core.http.downloads import Download
from ol_core.http.pages import Records, drf_pages, link_pages
from ol_core.http.policy import HttpPolicy, Runtime
from ol_core.http.redaction import redact, redact_url

__all__ = [
    "BearerAuth",
    "ClientCredentialsAuth",
    "Download",
    "HttpClient",
    "HttpPolicy",
    "NaiveUtc",
    "Records",
    "Runtime",
    "drf_pages",
    "failure",
    "link_pages",
    "read_json",
    "redact",
    "redact_url",
    "validated",
]
