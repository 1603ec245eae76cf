"""`reelworks zip`: an archive of objects that are in storage."""

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
from services.cli.exits import Refused
from services.cli.output import json_option
from services.cli.submit import begin_and_tell, object_named


@click.command("zip")
@click.argument("what", nargs=-1, required=True, metavar="PREFIX/|KEY …")
@click.option("--target", required=True, metavar="KEY.zip", help="Where the archive is to appear: KEY or s3://BUCKET/KEY.")
@click.option(
    "--method",
    type=click.Choice(["auto", "store", "deflate"]),
    default="auto",
    help="auto: video and the like are stored, the rest deflated.",
)
@click.option("--replace", is_flag=True, help="Also when there is an object of the target's name.")
@click.option("--wait", is_flag=True, help="Show the progress and wait for the end; exit code 1 when the job fails.")
@click.option("--timeout", type=float, help="Seconds to wait at most; exit code 4 after that, and the job goes on.")
@gateway_option
@json_option
def make_archive(
    what: tuple[str, ...], target: str, method: str, replace: bool, wait: bool, timeout: float | None, gateway: str, as_json: bool
) -> None:
    """Make a ZIP archive of all objects below a PREFIX/ (it ends with a slash), or of the objects that are named by their KEYs.

    KEYs and PREFIX/ lie in the default bucket; s3://BUCKET/KEY and s3://BUCKET/PREFIX/ in another one. The archive appears
    when it is complete.
    """
    request = asked_for(what) | {"target": _place(target), "method": method, "if_exists": "replace" if replace else "refuse"}

    def begin(client: Gateway, _: Progress | None) -> Awaitable[Accepted]:
        return client.submit("ZipRequested", request, idempotency_key=str(uuid.uuid4()))

    raise SystemExit(asyncio.run(begin_and_tell(begin, gateway, wait=wait, timeout=timeout, as_json=as_json)))


def asked_for(what: tuple[str, ...]) -> dict[str, Any]:
    """The part of the request that says what goes into the archive. Raises Refused for several prefixes, or both kinds."""
    places = [_place(each) for each in what]
    if not any(place["key"].endswith("/") for place in places):
        return {"entries": places}
    if len(places) > 1:
        raise Refused("an archive is made of one PREFIX/ or of KEYs; a PREFIX/ among several was given")
    return {"prefix": places[0]["key"], **({"bucket": places[0]["bucket"]} if "bucket" in places[0] else {})}


def _place(name: str) -> dict[str, str]:
    return object_named(name) if urlsplit(name).scheme.lower() == "s3" else {"key": name}
