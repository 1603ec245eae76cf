"""What a callback says."""

import base64
import hashlib
import hmac
import json

import pytest

from schemas.events import CallbackRequested, ErrorInfo, Outcome, Output
from services.notifier import message

OUTPUTS = (
    Output(role="rendition", bucket="b", key="media/private/ünï.mp4"),
    Output(role="thumbnail", bucket="b", key="media/private/ünï.jpg"),
)
GOOD = Outcome(job_id="j1", kind="transcode", subject="a1", state="succeeded", outputs=OUTPUTS, finished_ms=1)
BAD = Outcome(job_id="j1", kind="transcode", subject="a1", state="failed", error=ErrorInfo(code="not-a-video", message="no"))


def request(form: str) -> CallbackRequested:
    return CallbackRequested(url="https://x.example/cb", format=form, input_object="media/private/ünï.mov")


def test_the_old_wire_of_a_success_has_exactly_four_fields():
    assert json.loads(message.body(request("videos"), GOOD)) == {
        "status": "success",
        "inputObject": "media/private/ünï.mov",
        "outputObject": "media/private/ünï.mp4",
        "thumbnail": "media/private/ünï.jpg",
    }


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_the_old_wire_of_a_failure_has_exactly_two_fields(state: str):
    outcome = Outcome(job_id="j1", kind="transcode", subject="a1", state=state)
    assert json.loads(message.body(request("videos"), outcome)) == {"status": "failure", "inputObject": "media/private/ünï.mov"}


def test_an_event_is_the_outcome():
    told = json.loads(message.body(request("event"), BAD))
    assert (told["job_id"], told["state"], told["error"]["code"]) == ("j1", "failed", "not-a-video")


def test_the_body_is_the_same_at_every_attempt():
    assert message.body(request("event"), GOOD) == message.body(request("event"), GOOD)


def test_the_signature_is_that_of_the_standard():
    # The test vector of the Standard Webhooks specification and its libraries.
    assert (
        message.signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_a_secret_that_is_any_text_is_used_as_it_stands():
    expected = base64.b64encode(hmac.new(b"any text", b"id.5.{}", hashlib.sha256).digest()).decode()
    assert message.signature("any text", "id", 5, b"{}") == f"v1,{expected}"
