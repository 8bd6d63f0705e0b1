"""Webhooks against a scripted receiver."""

import hashlib
import hmac
import json
import subprocess
import sys

import httpx
import pytest
from ol_core.failures import PermanentFailure, TransientFailure
from ol_core.webhooks import ContentEvent, WebhookClient, delivery_id, sign
from ol_devkit.servers.scripted import Say, in_turn, scripted_server
from pydantic import ValidationError

EVENT = ContentEvent(source="canvas", content_path="canvas/course_content/7/é.imscc", course_id="7")
SECRET = "s3cr3t"


class Receiver(httpx.MockTransport):
    def __init__(self, *statuses: int) -> None:
        self.requests: list[httpx.Request] = []
        self._statuses = list(statuses)
        super().__init__(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0], json={})


def client_of(receiver: Receiver) -> WebhookClient:
    return WebhookClient("https://learn.example/learn", SECRET, transport=receiver, sleep=lambda _: None)


def test_the_body_is_canonical_and_signed() -> None:
    receiver = Receiver(200)
    delivery = client_of(receiver).deliver(EVENT)
    (request,) = receiver.requests
    assert (request.method, str(request.url)) == ("POST", "https://learn.example/learn/api/v1/webhooks/content_files/")
    assert request.content.decode() == (
        '{"content_path":"canvas/course_content/7/é.imscc","course_id":"7",'
        f'"delivery_id":"{delivery.delivery_id}","source":"canvas"}}'
    )
    expected = hmac.new(SECRET.encode(), request.content, hashlib.sha256).hexdigest()
    assert request.headers["X-MITLearn-Signature"] == expected == sign(request.content, SECRET)
    assert request.headers["X-Delivery-Id"] == request.headers["Idempotency-Key"] == delivery.delivery_id
    assert request.headers["Content-Type"] == "application/json"
    assert (delivery.state, delivery.status) == ("delivered", 200)


def test_a_readable_id_is_sent_where_there_is_one() -> None:
    receiver = Receiver(200)
    client_of(receiver).deliver(EVENT.model_copy(update={"course_readable_id": "MITx+1"}))
    assert json.loads(receiver.requests[0].content)["course_readable_id"] == "MITx+1"


def test_the_same_announcement_is_the_same_delivery() -> None:
    receiver = Receiver(200)
    client = client_of(receiver)
    client.deliver(EVENT)
    client.deliver(EVENT)
    assert receiver.requests[0].content == receiver.requests[1].content
    renamed = EVENT.model_copy(update={"course_readable_id": "another name"})
    assert delivery_id(EVENT) == delivery_id(renamed) == "3c609a9dd38eccf4f70aa9b786febbe4"
    others = [EVENT.model_copy(update={field: "x"}) for field in ("source", "course_id", "content_path")]
    assert len({delivery_id(one) for one in (EVENT, *others)}) == 4
    shifted = [ContentEvent(source="a", course_id=b, content_path=c) for b, c in (("bc", "d"), ("b", "cd"))]
    assert delivery_id(shifted[0]) != delivery_id(shifted[1])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422])
def test_a_refusal_is_parked_and_not_repeated(status: int) -> None:
    receiver = Receiver(status)
    delivery = client_of(receiver).deliver(EVENT)
    assert (delivery.state, delivery.status) == ("rejected", status)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_receiver_that_recovers_gets_the_same_bytes_again(status: int) -> None:
    receiver = Receiver(status, status, 200)
    assert client_of(receiver).deliver(EVENT).state == "delivered"
    assert len({request.content for request in receiver.requests}) == 1
    assert len(receiver.requests) == 3


@pytest.mark.parametrize("fault", [Say(raw=b""), Say(raw=b"HTTP/1.1 2"), Say(cut_after=0, body=b"{}"), Say(503)])
def test_an_answer_that_is_lost_on_its_way_costs_nothing(fault: Say) -> None:
    with scripted_server(in_turn(fault, fault, Say(body=b"{}"))) as receiver:
        with WebhookClient(receiver.url, SECRET, sleep=lambda _: None) as client:
            assert client.deliver(EVENT).state == "delivered"
        assert len({(one.body, one.headers["idempotency-key"]) for one in receiver.asked}) == 1
        assert len(receiver.asked) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_receiver_that_stays_broken_is_transient(status: int) -> None:
    with pytest.raises(TransientFailure) as caught:
        client_of(Receiver(status)).deliver(EVENT)
    assert SECRET not in str(caught.value)


def test_a_redirect_is_a_wrong_address() -> None:
    with pytest.raises(PermanentFailure, match="301"):
        client_of(Receiver(301)).deliver(EVENT)


@pytest.mark.parametrize("field", ["source", "course_id", "content_path"])
def test_an_event_without_its_parts_is_refused(field: str) -> None:
    with pytest.raises(ValidationError):
        ContentEvent.model_validate({**EVENT.model_dump(), field: ""})


def test_importing_it_does_not_import_httpx() -> None:
    check = "import sys, ol_core.webhooks; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
