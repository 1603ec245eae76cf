"""What a callback says, and its signature. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

from schemas.events import CallbackRequested, Outcome, Output


def body(request: CallbackRequested, cause: Outcome) -> bytes:
    """The JSON to send; the same bytes at every attempt."""
    return msgspec.json.encode(videos(request, cause) if request.format == "videos" else cause)


def videos(request: CallbackRequested, cause: Outcome) -> dict[str, str]:
    """The wire of an older transcoder.

    A failure has two fields only: its receivers do not look at `status`, and would take empty names for outputs.
    """
    named = request.input_object
    if cause.state != "succeeded":
        return {"status": "failure", "inputObject": named}
    return {
        "status": "success",
        "inputObject": named,
        "outputObject": _key(cause.outputs, "rendition"),
        "thumbnail": _key(cause.outputs, "thumbnail") or _key(cause.outputs, "poster"),
    }


def _key(outputs: tuple[Output, ...], role: str) -> str:
    """The best (first) output of a role."""
    return next((output.key for output in outputs if output.role == role), "")


def signature(secret: str, message_id: str, timestamp: int, sent: bytes) -> str:
    """`webhook-signature` of Standard Webhooks 1.0: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = f"{message_id}.{timestamp}.".encode() + sent
    return "v1," + base64.b64encode(hmac.digest(_key_bytes(secret), signed, hashlib.sha256)).decode()


def _key_bytes(secret: str) -> bytes:
    """`whsec_` announces base64; anything else is taken as it stands."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
