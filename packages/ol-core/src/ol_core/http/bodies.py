"""Bodies: read whole and unpacked up to a size, so that nothing above ever reads without an end."""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing

import httpx

from ol_core.failures import PermanentFailure
from ol_core.http.deadlines import deadline
from ol_core.http.redaction import redact_url

_UNPACKED_BYTES = 1 << 16
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip"})
_CHARSETS = frozenset({"iso-8859-1", "iso-8859-15", "us-ascii", "windows-1252"})
"""Beside UTF-8, those that `.text` cannot fail in; it would in `utf-16` without a mark, or in `hex`."""


class BoundedAnswers(httpx.BaseTransport):
    """Reads answers whole, decompressed and up to a size, so that nothing above it ever reads without an end.

    An error's body is cut off there; a success that is longer is a failure. Of codings only gzip is known: it is the
    only one that is asked for, and one buffer at a time is unpacked of it, however much it makes of a byte.

    Args:
        inner: Sends the requests.
        max_bytes: Longest body.
        streams_success: Whether to leave the bodies of statuses from 200 to 299 to the caller, as they come.
    """

    def __init__(self, inner: httpx.BaseTransport, *, max_bytes: int, streams_success: bool = False) -> None:
        self._inner, self._max_bytes, self._streams_success = inner, max_bytes, streams_success

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        answer = self._inner.handle_request(request)
        if self._streams_success and answer.is_success:
            return answer
        with closing(answer):
            body = self._read(request, answer)
        framing = {b"content-encoding", b"content-length", b"transfer-encoding"}
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in framing]
        extensions = {name: one for name, one in answer.extensions.items() if name != "network_stream"}
        whole = httpx.Response(answer.status_code, headers=headers, content=body, extensions=extensions)
        if (whole.charset_encoding or "").lower() not in _CHARSETS:
            whole.encoding = "utf-8"
        return whole

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()

    def _read(self, request: httpx.Request, answer: httpx.Response) -> bytes:
        what = f"{request.method} {redact_url(request.url)} answered {answer.status_code}"
        coding, body = answer.headers.get("content-encoding", "").strip().lower(), bytearray()
        if coding not in _CODINGS:
            if answer.is_success:
                raise PermanentFailure(f"{what} in a coding that was not asked for; valid are gzip and none")
            return b""
        stream = answer.stream
        assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - the client is not asynchronous
        chunks = self._limited(stream)
        try:
            for chunk in self._limited(_unpacked(chunks)) if "gzip" in coding else chunks:
                body += chunk
        except _TooLong:
            if answer.is_success:
                limit = f"more than {self._max_bytes} bytes; ask for less at a time or raise max_answer_bytes"
                raise PermanentFailure(f"{what} with {limit}") from None
        except httpx.DecodingError:
            if answer.is_success:
                raise
        return bytes(body)

    def _limited(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            if deadline().seconds_left() <= 0:
                raise httpx.ReadTimeout("the deadline is over")
            yield chunk
            size += len(chunk)
            if size > self._max_bytes:
                raise _TooLong


class _TooLong(Exception):
    pass


def _unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    inflater, begun = zlib.decompressobj(wbits=31), False
    try:
        for chunk in chunks:
            begun, packed = True, chunk
            while data := inflater.decompress(packed, _UNPACKED_BYTES):
                yield data
                packed = inflater.unconsumed_tail
    except zlib.error:
        raise httpx.DecodingError("its gzip is damaged") from None
    if begun and not inflater.eof:
        raise httpx.DecodingError("its gzip is cut")
