import hashlib
import hmac
import json
from collections.abc import Iterator

import httpx
import pytest
from ol_devkit.campus import Campus

UPDATE = "/learn/api/v1/webhooks/content_files/"


@pytest.fixture
def learn(campus: Campus) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=campus.url) as client:
        yield client


def signed(campus: Campus, body: bytes) -> dict[str, str]:
    secret = campus.secrets["learn"]["webhook_secret"].encode()
    return {"X-MITLearn-Signature": hmac.new(secret, body, hashlib.sha256).hexdigest()}


def test_a_signed_webhook_is_accepted_and_kept(learn: httpx.Client, campus: Campus) -> None:
    event = {"source": "canvas", "course_id": 4001, "content_path": "canvas/x", "course_readable_id": None, "extra": 1}
    body = json.dumps(event).encode()
    for path, kind in ((UPDATE, "update"), (f"{UPDATE}delete/", "delete")):
        answer = learn.post(path, content=body, headers=signed(campus, body))
        assert (answer.status_code, answer.json()["status"]) == (200, "success")
        delivery = campus.deliveries[-1]
        assert (delivery.kind, delivery.verified, delivery.payload) == (kind, True, event)


def test_the_signature_covers_the_raw_body(learn: httpx.Client, campus: Campus) -> None:
    body = b'{"source": "canvas"}\n'
    for headers in ({}, signed(campus, b'{"source":"canvas"}\n'), signed(campus, body.strip())):
        assert learn.post(UPDATE, content=body, headers=headers).status_code == 403
        assert (campus.deliveries[-1].verified, campus.deliveries[-1].status) == (False, 403)


@pytest.mark.parametrize(
    "body",
    [b"no json", b"[]", b"{}", b'{"source": "moodle"}', b'{"source": null}', b'{"source": "canvas", "course_id": []}'],
)
def test_bad_data_is_a_400(learn: httpx.Client, campus: Campus, body: bytes) -> None:
    assert learn.post(UPDATE, content=body, headers=signed(campus, body)).status_code == 400
    assert (campus.deliveries[-1].verified, campus.deliveries[-1].body) == (True, body)


def test_only_post_is_allowed(learn: httpx.Client, campus: Campus) -> None:
    held = len(campus.deliveries)
    answer = learn.get(UPDATE)
    assert (answer.status_code, answer.json()) == (405, {"detail": 'Method "GET" not allowed.'})
    assert len(campus.deliveries) == held
