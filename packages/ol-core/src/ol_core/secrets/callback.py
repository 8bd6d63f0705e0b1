"""Where the browser comes back to after a person logged in."""

import html
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from ol_core.failures import PermanentFailure


@dataclass(frozen=True, slots=True)
class Browser:
    """The person's browser.

    Attributes:
        show: Is given the address that the person opens.
        port: Loopback port that the browser is sent back to; Vault's role must allow `redirect_uri`.
        timeout_seconds: How long to wait for the person.
    """

    show: Callable[[str], None]
    port: int = 8250
    timeout_seconds: float = 300.0

    @property
    def redirect_uri(self) -> str:
        """Where the browser comes back to."""
        return f"http://localhost:{self.port}/oidc/callback"


class _Callback(HTTPServer):
    answer: dict[str, str] | None = None

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser may leave before it has its answer."""


class _Handler(BaseHTTPRequestHandler):
    server: _Callback
    timeout = 5.0  # a browser may open a connection that it never uses

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        given = {key: values[0] for key, values in parse_qs(address.query).items()}
        known = address.path == "/oidc/callback" and ("code" in given or "error" in given)
        if known:
            self.server.answer = given
        said = html.escape(given.get("error", "You are logged in; close this page.")) if known else "Not found."
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        """Say nothing: the address holds the code."""


def wait_for_code(address: str, browser: Browser) -> tuple[str, str, str]:
    """Wait for the browser, and return code, state and nonce.

    Raises:
        PermanentFailure: the port is taken, the provider refused, the answer is for another login, or nobody came.
    """
    sent = {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}
    try:
        server = _Callback(("127.0.0.1", browser.port), _Handler)
    except OSError as error:
        raise PermanentFailure(
            f"port {browser.port}, where the browser comes back to, is taken: {error.strerror}; "
            "choose another with --port"
        ) from error
    deadline = time.monotonic() + browser.timeout_seconds
    with server:
        browser.show(address)
        while server.answer is None:
            server.timeout = deadline - time.monotonic()
            if server.timeout <= 0:
                raise PermanentFailure(
                    f"nobody logged in within {browser.timeout_seconds:.0f} s; run `ol secrets login` again"
                )
            server.handle_request()
    answer = server.answer
    if "error" in answer:
        raise PermanentFailure(f"the provider refused: {answer['error']} {answer.get('error_description', '')}".strip())
    if answer.get("state") != sent.get("state"):
        raise PermanentFailure("the browser came back from another login; run `ol secrets login` again")
    return answer["code"], answer["state"], sent.get("nonce", "")
