"""The pages' files and their content policy."""

from __future__ import annotations

import gzip
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from services.gateway.problems import Problem
from services.gateway.routes.pages import Files, Pages, player_styles, policy
from services.runtime.settings import Settings


def directives(settings: Settings, *styles: str) -> dict[str, list[str]]:
    parts = (part.split() for part in policy(settings, styles).split("; "))
    return {name: sources for name, *sources in parts}


async def get(files: Files, path: str, **headers: str) -> web.Response:
    request = make_mocked_request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    request.match_info["name"] = path.removeprefix("/static/")
    return await files.get(request)


def test_the_policy_allows_no_inline_script_no_eval_and_no_worker() -> None:
    found = directives(Settings(), *player_styles())
    assert found["default-src"] == ["'none'"]
    assert found["script-src"] == ["'self'"]
    assert "worker-src" not in found
    assert "unsafe" not in policy(Settings(), player_styles())


def test_the_styles_of_the_controls_are_allowed_by_their_hashes() -> None:
    self, *hashes = directives(Settings(), *player_styles())["style-src"]
    assert self == "'self'"
    assert len(hashes) > 20
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", each) for each in hashes)


def test_segments_may_come_from_the_store_that_a_redirect_names() -> None:
    found = directives(Settings(storage_url="s3://films", s3_endpoint="http://inner:9000", s3_public_endpoint="https://store.example.org"))
    for name in ("connect-src", "img-src", "media-src"):
        assert "https://store.example.org" in found[name]
        assert "http://inner:9000" not in found[name]
    assert "blob:" in found["media-src"]  # hls.js hands its MediaSource to the video so
    assert "blob:" not in found["connect-src"] + found["img-src"]


async def test_files_have_names_that_follow_from_their_content_and_may_be_kept_for_ever() -> None:
    files = Files()
    for name in ("style.css", "player.js", "vendor/hls.min.js", "vendor/media-chrome.LICENSE.txt"):
        path = files.path(name)
        assert re.fullmatch(rf"/static/{re.escape(name.rpartition('.')[0])}\.[0-9a-f]{{12}}\.\w+", path)
        answer = await get(files, path)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Type"].endswith("; charset=utf-8")


async def test_large_files_are_sent_zipped_to_those_who_accept_it() -> None:
    files = Files()
    path = files.path("vendor/hls.min.js")
    plain, zipped = await get(files, path), await get(files, path, Accept_Encoding="gzip, deflate, br")
    assert "Content-Encoding" not in plain.headers
    assert (zipped.headers["Content-Encoding"], zipped.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert isinstance(plain.body, bytes)
    assert isinstance(zipped.body, bytes)
    assert gzip.decompress(zipped.body) == plain.body
    assert len(zipped.body) < len(plain.body) / 2


@pytest.mark.parametrize("name", ["vendor/manifest.json", "vendor/hls.min.js", "../routes/pages.py", "style.css"])
async def test_nothing_is_served_under_another_name(name: str) -> None:
    with pytest.raises(Problem) as problem:
        await get(Files(), f"/static/{name}")
    assert problem.value.status == 404


def test_pages_are_not_kept_and_carry_the_policy() -> None:
    answer = Pages(Settings(), Files()).answer("problem.html", status=404, heading="No <b>film</b>", words="")
    assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-store")
    assert answer.headers["Content-Security-Policy"] == policy(Settings(), player_styles())
    assert isinstance(answer.body, bytes)
    assert b"No &lt;b&gt;film&lt;/b&gt;" in answer.body
