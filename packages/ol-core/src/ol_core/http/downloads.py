"""Files that are streamed to disk, taken up where an attempt broke off, and verified."""

import base64
import binascii
import errno
import hashlib
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import BinaryIO

import httpx

from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.http.answers import Unanswered, failure, http_date
from ol_core.http.bodies import BoundedAnswers
from ol_core.http.deadlines import deadline, within
from ol_core.http.policy import HttpPolicy, Runtime
from ol_core.http.redaction import redact_url
from ol_core.http.sending import SENDING_ERRORS, broken, retrying, sent_instead, timeouts, whole

_ERROR_BYTES = 1 << 16
_WHOLE = frozenset({200, 203})
_STRONG_ETAG = re.compile(r'"[^"]*"')
_STRONG_DATE_SECONDS = 60.0
"""RFC 7232, 2.2.2: a file that was changed so long before it was sent did not change again in the same second."""
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_DIGEST = re.compile(r"([\w-]+)=:?([A-Za-z0-9+/]+={0,2})")
_HASHES = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}
_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was downloaded whole.

    Attributes:
        sha256: Of its bytes, in hexadecimal.
        size_bytes: Its size.
        content_type: As the server states it; None where it states none.
    """

    sha256: str
    size_bytes: int
    content_type: str | None


class Downloads:
    """Fetches files; it knows no credential, so none can follow a redirect."""

    def __init__(
        self, transport: httpx.BaseTransport, base_url: httpx.URL, policy: HttpPolicy, runtime: Runtime
    ) -> None:
        self._policy, self._runtime = policy, runtime
        self._client = httpx.Client(
            base_url=base_url.copy_with(userinfo=b""),
            # identity: a stored `Content-Encoding: gzip` stays a .gz, and ranges count its bytes
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "ol-data-platform"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=True,
            transport=BoundedAnswers(transport, max_bytes=_ERROR_BYTES, streams_success=True),
        )

    def fetch(self, url: str, destination: Path, *, sha256: str | None) -> Download:
        """See `HttpClient.download`."""
        part = destination.with_name(destination.name + ".part")
        try:
            with within(self._policy.download_seconds, self._runtime.clock), part.open("wb") as file:
                shown = redact_url(whole(self._client.base_url, url))
                held = _Held(file, shown, self._policy.max_download_bytes, sha256)
                fetch = retrying(self._policy, self._runtime, repeatable=True, attempts_used=lambda _: held.fruitless())
                download = fetch(self._attempt, url, held)
            part.replace(destination)
        except OSError as error:
            kind = TransientFailure if error.errno in _FULL_DISK else PermanentFailure
            raise kind(f"{destination} cannot be written: {error.strerror}") from error
        finally:
            with suppress(OSError):  # of a place that has none
                part.unlink()
        return download

    def _attempt(self, url: str, held: "_Held") -> Download:
        if held.size and self._copy(url, held) != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return held.verified()
        held.forget()
        self._copy(url, held)
        return held.verified()

    def _copy(self, url: str, held: "_Held") -> int:
        request: httpx.Request | None = None
        try:
            request = self._client.build_request(
                "GET", url, headers=held.range_headers(), timeout=timeouts(self._policy)
            )
            with closing(self._client.send(request, stream=True)) as response:
                if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and held.size:
                    return response.status_code
                if not response.is_success:
                    raise failure(response)
                held.begin(response)
                for chunk in response.iter_raw():
                    held.add(chunk)
                return response.status_code
        except SENDING_ERRORS as error:
            elsewhere = request and sent_instead(error, request)
            failed = broken("GET", elsewhere.url if elsewhere else whole(self._client.base_url, url), error)
        raise failed


class _Held:
    """What arrived of a file, and what must hold of the rest, so that two files are never mixed."""

    def __init__(self, file: BinaryIO, shown_url: str, max_bytes: int | None, sha256: str | None) -> None:
        self._file, self._what, self._max_bytes = file, f"GET {shown_url}", max_bytes
        self._wanted = {"sha256": bytes.fromhex(sha256)} if sha256 else {}
        self._refused: set[bytes] = set()
        self._most, self._fruitless, self.size = 0, 0, 0
        self.forget()

    def forget(self) -> None:
        """Start with an empty file."""
        if self.size:
            self._file.seek(0)
            self._file.truncate()
        self.size, self._total = 0, -1
        self._validator, self._content_type = "", None
        self._stated = dict(self._wanted)
        self._hashes = {"sha256": hashlib.sha256()}

    def range_headers(self) -> dict[str, str]:
        """Return what asks for the rest, if the file is still the same."""
        return {"Range": f"bytes={self.size}-", "If-Range": self._validator} if self.size and self._validator else {}

    def begin(self, response: httpx.Response) -> None:
        """Take note of what an answer is: the whole file, or the rest that was asked for."""
        asked_for_rest = "range" in response.request.headers
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            stated = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            first, total = (int(stated[1]), stated[3]) if stated else (-1, "")
            same = self._validator in {response.headers.get("etag"), response.headers.get("last-modified")}
            if asked_for_rest and same and first == self.size and total in {"*", str(self._total)}:
                return
            self.forget()
            raise Unanswered(f"{self._what} answered with another part than was asked for; it is fetched whole")
        if response.status_code not in _WHOLE:
            raise TransientFailure(f"{self._what} answered {response.status_code}, which comes with no file")
        self.forget()
        length = response.headers.get("content-length", "")
        self._total = int(length) if length.isdecimal() else -1
        self._validator, self._content_type = _strong_validator(response), response.headers.get("content-type")
        self._stated = {**_stated_digests(response), **self._wanted}
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *self._stated}}
        self._check_size(self._total)

    def add(self, chunk: bytes) -> None:
        """Write what came."""
        if deadline().seconds_left() <= 0:
            raise TransientFailure(f"{self._what} took over {deadline().seconds:.0f} s")
        self._check_size(self.size + len(chunk))
        self.size += self._file.write(chunk)
        for one in self._hashes.values():
            one.update(chunk)

    def _check_size(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise PermanentFailure(f"{self._what} is longer than the {self._max_bytes} bytes that are allowed")

    def fruitless(self) -> int:
        """Count an attempt that failed; return how many in a row left nothing more to go on from."""
        kept = self.size if self._validator else 0
        self._fruitless = 0 if kept > self._most else self._fruitless + 1
        self._most = max(self._most, kept)
        return self._fruitless

    def verified(self) -> Download:
        """Return what the file is.

        Raises:
            Unanswered: it is shorter than the server said, or not the one that it or the caller said.
            PermanentFailure: it is the same wrong one again.
        """
        if self._total not in {-1, self.size}:
            raise Unanswered(f"{self._what} gave {self.size} of {self._total} bytes")
        for name, wanted in self._stated.items():
            found = self._hashes[name].digest()
            if found != wanted:
                again, size = found in self._refused, self.size
                self._refused.add(found)
                self.forget()
                text = f"{self._what} gave {size} bytes of {name} {found.hex()}; {wanted.hex()} was stated"
                raise PermanentFailure(f"{text}, twice") if again else Unanswered(text)
        return Download(self._hashes["sha256"].hexdigest(), self.size, self._content_type)


def _strong_validator(response: httpx.Response) -> str:
    """Return what tells this file from all others under its address, or ""."""
    etag, modified = response.headers.get("etag", ""), response.headers.get("last-modified", "")
    if etag:
        return etag if _STRONG_ETAG.fullmatch(etag) else ""
    changed, now = http_date(modified), http_date(response.headers.get("date", ""))
    return modified if changed and now and (now - changed).total_seconds() >= _STRONG_DATE_SECONDS else ""


def _stated_digests(response: httpx.Response) -> dict[str, bytes]:
    """Return the digests of the whole file that a server states; RFC 9530, its forerunners, and S3."""
    return {name: digest for name, digest in _digests(response) if len(digest) == hashlib.new(name).digest_size}


def _digests(response: httpx.Response) -> Iterator[tuple[str, bytes]]:
    headers = response.headers
    stated = _DIGEST.findall(",".join(headers.get(name, "") for name in ("repr-digest", "content-digest", "digest")))
    stated += [("md5", headers.get("content-md5", "")), ("sha-256", headers.get("x-amz-checksum-sha256", ""))]
    for name, text in stated:
        try:
            digest = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):  # S3 states one of parts as `...-3`
            continue
        if name.lower() in _HASHES:
            yield _HASHES[name.lower()], digest
