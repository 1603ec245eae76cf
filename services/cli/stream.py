"""`reelworks stream`: HLS of an asset, or of an object that is in storage."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import Any
from urllib.parse import urlsplit

import click
from rich.progress import Progress

from schemas.api import Accepted
from services.cli.client import Gateway, gateway_option
from services.cli.output import json_option
from services.cli.submit import begin_and_tell, object_named


@click.command()
@click.argument("what", metavar="ASSET|s3://BUCKET/KEY")
@click.option("--flat", metavar="FOLDER/NAME.hls/", default="", help="Write output.m3u8 and MPEG-TS segments there, for old servers.")
@click.option(
    "--height", "heights", type=int, multiple=True, help="With --flat: a master of these heights instead of the best one. May be repeated."
)
@click.option("--encrypt", is_flag=True, help="Encrypt the segments (AES-128); the gateway hands the key to those who may watch.")
@click.option("--wait", is_flag=True, help="Show the progress and wait for the end; exit code 1 when the job fails.")
@click.option("--timeout", type=float, help="Seconds to wait at most; exit code 4 after that, and the job goes on.")
@gateway_option
@json_option
def stream(
    what: str, flat: str, heights: tuple[int, ...], encrypt: bool, wait: bool, timeout: float | None, gateway: str, as_json: bool
) -> None:
    """Make HLS: of an ASSET that was transcoded, by its id, or of an object in storage (s3://BUCKET/KEY).

    H.264 with AAC is packaged as it is; anything else is transcoded first. Uploads get their HLS without being asked for it.
    """
    request: dict[str, Any] = object_named(what) if urlsplit(what).scheme.lower() == "s3" else {"asset_id": what}
    if flat:
        request |= {"layout": "flat-ts", "target": flat}
    if heights or encrypt:
        request["recipe"] = ({"heights": list(heights)} if heights else {}) | ({"encryption": "aes-128"} if encrypt else {})

    def begin(client: Gateway, _: Progress | None) -> Awaitable[Accepted]:
        return client.submit("StreamRequested", request, idempotency_key=str(uuid.uuid4()))

    raise SystemExit(asyncio.run(begin_and_tell(begin, gateway, wait=wait, timeout=timeout, as_json=as_json)))
