"""Records that no service may stumble over, made by chance from a seed: the same seed, the same records.

`poison` are for `media.requests`, and each must be refused: it is made wrong in a way that leaves no other answer, which is why a bit
is flipped until the standard library's JSON parser gives up, too. `foreign` are what a hand that is not ours may write on any topic;
some of them can be read, and nothing may come of it but words.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from schemas import topics
from schemas.envelope import STRUCTURED, Headers
from schemas.events import BY_NAME, TYPE_PREFIX
from services.runtime.kafka.producer import Record

Json = dict[str, Any]
MARK = "x-poison"
"""Header of every one of them: seed and number. No two records are the same."""
SOURCE = "tests/poison"

UPLOAD: Json = {
    "key": "incoming/gate-3.mp4", "bucket": "media", "asset_id": "gate-3", "title": "Gate 3 – Früh", "owner": "cameras", "size": 4711,
    "deadline_seconds": 3600, "recipe": {"heights": [720, 360], "thumbnail_at": "10%", "watermark": {"key": "logo.png", "opacity": 0.5}},
    "then": [{"type": "CallbackRequested", "data": {"url": "https://example.org/hook"}}],
}  # fmt: skip
ZIP: Json = {
    "target": {"key": "archives/all.zip"}, "entries": [{"key": "a.txt", "name": "A/a.txt"}, {"key": "b.txt"}], "method": "auto",
    "if_exists": "replace", "owner": "cameras", "otherwise": [{"type": "CallbackRequested", "data": {"url": "https://example.org/hook"}}],
}  # fmt: skip
STREAM: Json = {"key": "films/one.mp4", "layout": "flat-ts", "target": "Films/One.hls/", "recipe": {"heights": [720]}, "title": "One"}
CALLBACK: Json = {
    "url": "https://example.org/hook",
    "format": "event",
    "cause": {"job_id": "j", "kind": "zip", "subject": "s", "state": "failed"},
}
REQUESTS: dict[str, Json] = {
    "UploadReceived": UPLOAD, "ZipRequested": ZIP, "StreamRequested": STREAM, "CallbackRequested": CALLBACK,
    "CancelRequested": {"job_id": "no-such-job", "reason": "why not"}, "RetryRequested": {"job_id": "no-such-job"},
}  # fmt: skip
"""One that would be accepted, of each type."""
FIELDS: dict[str, tuple[str, ...]] = {
    "UploadReceived": ("key", "bucket", "asset_id", "title", "owner", "deadline_seconds", "then", "job_id"),
    "ZipRequested": ("target", "entries", "prefix", "bucket", "method", "if_exists", "title", "manifest", "otherwise"),
    "StreamRequested": ("asset_id", "key", "layout", "target", "title", "deadline_seconds"),
    "CallbackRequested": ("url", "format", "input_object", "cause", "owner"),
    "CancelRequested": ("job_id", "reason"),
    "RetryRequested": ("job_id",),
}
"""Fields of which none takes any of WRONG."""
WRONG: tuple[Any, ...] = (True, 1.5, -1, 10**30, 2**63, {"a": {"b": []}}, [[1]], [None], {"": ""})
HOSTILE_IDS = (
    "",
    ".",
    "..",
    "../../etc/passwd",
    "a/b",
    "a\\b",
    "a b",
    "-a",
    "x" * 129,
    "a\n",
    "a\x00b",
    "@offset",
    "jöb",
    "a\u202eb",
    "\ufeffa",
)
HOSTILE_KEYS = (
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a//b",
    "a/./b",
    "C:\\x",
    "a\x00b",
    "a\nb",
    "\u202egpj.exe",
    "x" * 1024,
    "assets/",
    "jobs/x/plan.json",
)
REQUIRED = {
    "UploadReceived": "key",
    "ZipRequested": "target",
    "CallbackRequested": "url",
    "CancelRequested": "job_id",
    "RetryRequested": "job_id",
}
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    1e300,
    -0.0,
    "",
    "\x00",
    "a\nb",
    "..",
    "../../etc/passwd",
    "@offset",
    "x" * 5000,
    "\u202egpj",
    "9" * 400,
    "<script>alert(1)</script>",
    "{{7*7}}",
    "%s%n",
    "'; DROP TABLE jobs; --",
    [],
    {},
    [[]],
    {"": None},
    ["x"] * 500,
    {"type": "Nope", "data": {}},
)
"""What is put in the place of anything."""

_Make = Callable[["_Dice"], tuple[bytes | None, Headers]]


class _Dice(random.Random):
    """Chance, and what most of the recipes begin with."""

    def request(self) -> tuple[str, Json]:
        """A type and a request of it that would be accepted."""
        name = self.choice(sorted(REQUESTS))
        return name, json.loads(json.dumps(REQUESTS[name]))

    def sent(self, name: str, body: Json | list[Any] | bytes) -> tuple[bytes, Headers]:
        """The request in one of the two modes of CloudEvents."""
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=self.random() < 0.5).encode("utf-8", "surrogatepass")
        identity = f"{self.getrandbits(64):x}"
        if self.random() < 0.5:
            return raw, binary(name, identity)
        event = {"specversion": "1.0", "type": TYPE_PREFIX + name, "source": SOURCE, "id": identity}
        return json.dumps(event)[:-1].encode() + b', "data": ' + raw + b"}", [("content-type", STRUCTURED.encode() + b"; charset=utf-8")]


def binary(name: str, identity: str) -> Headers:
    """The headers of binary mode."""
    return [
        ("ce_specversion", b"1.0"), ("ce_type", (TYPE_PREFIX + name).encode()), ("ce_source", SOURCE.encode()),
        ("ce_id", identity.encode()), ("content-type", b"application/json"),
    ]  # fmt: skip


def poison(seed: int, *, large: bool = True) -> Iterator[Record]:
    """Records of `media.requests` that must be refused, without end. `large`: some of them have 0.5 to 16 MiB."""
    dice = _Dice(f"poison/{seed}")
    number = 0
    while True:
        # Each way in turn, so that a few dozen records have all of them; the large ones seldom.
        ways = [*_WAYS, *(_LARGE if large and not number else ())]
        for make in dice.sample(ways, len(ways)):
            value, headers = make(dice)
            key = dice.choice((None, b"", b"\xff\x00", f"poison-{seed}-{number}".encode(), b"@offset", b"../..", b"k" * 4096))
            yield Record(topic=topics.REQUESTS, key=key, value=value, headers=[*headers, (MARK, f"{seed}/{number}".encode())])
            number += 1


# ── Each makes a value and headers that must be refused ────────────────────────────────────────────────────────────


def _cut(dice: _Dice) -> tuple[bytes | None, Headers]:
    value, headers = dice.sent(*dice.request())
    return value[: dice.randrange(len(value))], headers


def _flipped(dice: _Dice) -> tuple[bytes | None, Headers]:
    value, headers = dice.sent(*dice.request())
    broken = bytearray(value)
    while _is_json(bytes(broken)):
        place = dice.randrange(len(broken))
        broken[place] ^= 1 << dice.randrange(8)
    return bytes(broken), headers


def _wrong_type(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    body[dice.choice(FIELDS[name])] = dice.choice(WRONG)
    return dice.sent(name, body)


def _missing_field(dice: _Dice) -> tuple[bytes | None, Headers]:
    name = dice.choice(sorted(REQUIRED))
    body = dict(REQUESTS[name])
    del body[REQUIRED[name]]
    return dice.sent(name, body)


def _no_object(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    raw = dice.choice(
        (b"[]", b"null", b"true", b'"UploadReceived"', b"17", b"-0.0", json.dumps([body]).encode(), json.dumps(json.dumps(body)).encode())
    )
    return dice.sent(name, raw)


def _huge_number(dice: _Dice) -> tuple[bytes | None, Headers]:
    digits = dice.choice((19, 20, 40, 400, 5000))
    raw = json.dumps(UPLOAD | {"deadline_seconds": 0}).replace(
        '"deadline_seconds": 0', f'"deadline_seconds": {dice.choice(("", "-"))}{"9" * digits}'
    )
    if dice.random() < 0.3:
        raw = raw.replace('"size": 4711', '"size": 1e999')
    return dice.sent("UploadReceived", raw.encode())


def _nested(dice: _Dice) -> tuple[bytes | None, Headers]:
    depth = dice.choice((130, 300, 980, 1000, 1100, 5000, 100_000))
    deep = dice.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    name, body = dice.request()
    place = dice.choice(("unknown", "cause", "then"))
    raw = json.dumps(body | {"X": 0} if place == "unknown" else UPLOAD | _within(place)).encode()
    return dice.sent(name if place == "unknown" else "UploadReceived", raw.replace(b'"X": 0', b'"X": ' + deep))


def _within(place: str) -> Json:
    if place == "then":
        return {"then": [{"type": "CallbackRequested", "data": {"url": "https://example.org/", "X": 0}}]}
    return {"cause": {"job_id": "j", "kind": "zip", "subject": "s", "state": "failed", "data": {"X": 0}}}


def _no_utf8(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    raw = json.dumps(body).encode()
    wrong = dice.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"\xe2\x82"))
    first = next(field for field in body if isinstance(body[field], str)) if name != "ZipRequested" else "method"
    place = raw.index(f'"{first}": "'.encode()) + len(first) + 5
    return dice.sent(name, raw[:place] + wrong + raw[place:])


def _half_surrogate(dice: _Dice) -> tuple[bytes | None, Headers]:
    half = dice.choice((r"\ud800", r"\udfff\ud800", r"\ud83d\u0041", r"\u12", r"\x41", r"\u00"))
    return dice.sent("UploadReceived", json.dumps(UPLOAD | {"title": "@@"}).replace("@@", half).encode())


def _raw_control(dice: _Dice) -> tuple[bytes | None, Headers]:
    control = bytes([dice.randrange(32)])
    return dice.sent("UploadReceived", json.dumps(UPLOAD | {"title": "@@"}).encode().replace(b"@@", control))


def _missing_attribute(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    headers = binary(name, "1")
    place = dice.choice([n for n, (header, _) in enumerate(headers) if header in ("ce_type", "ce_source", "ce_id")])
    header = headers.pop(place)[0]
    spare = dice.choice((None, "", b"", "other"))
    if spare is not None:
        headers.append((header + spare, b"x")) if spare == "other" else headers.append((header, dice.choice((b"", None))))
    return json.dumps(body).encode(), headers


def _two_attributes(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    headers = binary(name, "1")
    header = dice.choice(("ce_type", "ce_source", "ce_id", "CE_ID", "Ce_Type"))
    headers.insert(dice.randrange(len(headers) + 1), (header, b"reelworks.RetryRequested/other"))
    return json.dumps(body).encode(), headers


def _attribute_is_no_text(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    headers = [(header, value) for header, value in binary(name, "1") if header != "ce_id"]
    return json.dumps(body).encode(), [*headers, ("ce_id", dice.choice((b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80")))]


def _other_mode(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    event = {"specversion": "1.0", "type": TYPE_PREFIX + name, "source": SOURCE, "id": "1", "data": body}
    choice = dice.randrange(4)
    if choice == 0:  # binary, and says that it is structured
        return json.dumps(body).encode(), [(h, STRUCTURED.encode() if h == "content-type" else v) for h, v in binary(name, "1")]
    if choice == 1:  # structured, and does not say so
        return json.dumps(event).encode(), [
            ("content-type", dice.choice((b"application/json", b"text/plain", b"", b"application/cloudevents+avro")))
        ]
    if choice == 2:  # a batch
        return json.dumps([event]).encode(), [("content-type", STRUCTURED.encode())]
    event[dice.choice(("type", "id", "source"))] = dice.choice((None, 7, [], {}, ""))
    return json.dumps(event).encode(), [("content-type", STRUCTURED.encode())]


def _no_value(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, _ = dice.request()
    return dice.choice((None, b"")), dice.choice(([], binary(name, "1"), [("content-type", STRUCTURED.encode())]))


def _hostile_id(dice: _Dice) -> tuple[bytes | None, Headers]:
    name = dice.choice(sorted({"UploadReceived", "CancelRequested", "RetryRequested", "ZipRequested"}))
    return dice.sent(name, REQUESTS[name] | {"job_id": dice.choice(HOSTILE_IDS)})


def _hostile_asset(dice: _Dice) -> tuple[bytes | None, Headers]:
    return dice.sent(
        *dice.choice(
            (
                ("UploadReceived", UPLOAD | {"asset_id": dice.choice(HOSTILE_IDS)}),
                ("StreamRequested", STREAM | {"asset_id": dice.choice(HOSTILE_IDS)}),
            )
        )
    )


def _hostile_key(dice: _Dice) -> tuple[bytes | None, Headers]:
    return dice.sent("UploadReceived", UPLOAD | {"key": dice.choice(("", "x" * 1025, "ü" * 1025))})


def _beyond_limits(dice: _Dice) -> tuple[bytes | None, Headers]:
    more = dice.choice(
        (
            {"deadline_seconds": 0},
            {"deadline_seconds": 31 * 86400},
            {"owner": "o" * 129},
            {"title": "t" * 301},
            {"size": -1},
            {"recipe": {"heights": [15]}},
            {"recipe": {"heights": [10**9]}},
            {"recipe": {"thumbnail_at": "10%\n"}},
            {"recipe": {"thumbnail_at": "1e9s"}},
            {"recipe": {"layout": "elsewhere"}},
            {"recipe": {"watermark": {"key": "w.png", "opacity": 2}}},
            {"recipe": {"encryption": "rot-13"}},
        )
    )
    return dice.sent("UploadReceived", UPLOAD | more)


def _unknown_type(dice: _Dice) -> tuple[bytes | None, Headers]:
    _, body = dice.request()
    unknown = (
        "Nope",
        "uploadreceived",
        "UploadReceived ",
        "reelworks.UploadReceived",
        "ÜploadReceived",
        "U" * 5000,
        "__class__",
        "%s",
        "IndexRequested",
    )
    return dice.sent(dice.choice(unknown), body | {"asset_id": "a"})


def _wrong_topic(dice: _Dice) -> tuple[bytes | None, Headers]:
    return dice.sent(dice.choice(sorted(BY_NAME.keys() - REQUESTS.keys() - {"IndexRequested"})), dice.choice(list(REQUESTS.values())))


def _wrong_follow_up(dice: _Dice) -> tuple[bytes | None, Headers]:
    follow = dice.choice(
        (
            {"type": "Nope", "data": {}},
            {"type": "CancelRequested", "data": {"job_id": "a"}},
            {"type": "IndexRequested", "data": {"asset_id": "a"}},
            {"type": "CallbackRequested", "data": {}},
            {"type": "CallbackRequested", "data": {"url": 1}},
            {"type": "ZipRequested", "data": {"target": {}}},
            {"type": "UploadReceived", "data": {"key": ""}},
            {"type": "UploadReceived", "data": {"key": "a", "job_id": "../.."}},
            {"type": "TaskReleased", "data": {}},
            {"type": 1, "data": {}},
            {"data": {}},
            {"type": "UploadReceived"},
            [],
            None,
        )
    )
    return dice.sent("UploadReceived", UPLOAD | {dice.choice(("then", "otherwise")): [UPLOAD["then"][0], follow]})


def _last_wins(dice: _Dice) -> tuple[bytes | None, Headers]:
    raw = json.dumps(UPLOAD)[:-1] + ', "key": 17}'
    return dice.sent("UploadReceived", raw.encode())


def _garbage(dice: _Dice) -> tuple[bytes | None, Headers]:
    name, body = dice.request()
    raw = dice.choice(
        (
            dice.randbytes(dice.randrange(1, 400)),
            gzip.compress(json.dumps(body).encode(), mtime=0),
            b"\xef\xbb\xbf" + json.dumps(body).encode(),
            json.dumps(body).encode("utf-16"),
            json.dumps(body).encode("utf-32"),
            b"<request><key>a</key></request>",
            b"\x00\x00\x00\x00\x01\x0akey",
            msgspec.msgpack.encode(body),
            b"key=a&title=b",
            json.dumps(body).encode() * 2,
            b"\x00",
            b"NaN",
            json.dumps(body).replace('"', "'").encode(),
        )
    )
    return (raw, binary(name, "1")) if dice.random() < 0.7 else (raw, [])


def _large_headers(dice: _Dice) -> tuple[bytes | None, Headers]:
    value, _ = dice.sent("UploadReceived", UPLOAD)
    more: Headers = dice.choice(([("x", b"y" * 70_000)], [("ce_id", b"i" * 70_000)], [("x" * 200, b"")] * 400))
    kept = [h for h in binary("UploadReceived", "1") if h[0] != more[0][0]]
    return json.dumps(UPLOAD).encode() if value else value, [*kept, *more]


def _written_out(dice: _Dice) -> tuple[bytes | None, Headers]:
    numbers = b"[" + b",".join([b"1e15"] * 80_000) + b"]"  # 400 kB, and 1.5 MB as others write it
    raw = json.dumps(CALLBACK | {"cause": CALLBACK["cause"] | {"data": {"X": 0}}}).encode()
    return dice.sent("CallbackRequested", raw.replace(b'"X": 0', b'"X": ' + numbers))


def _too_large(dice: _Dice) -> tuple[bytes | None, Headers]:
    raw = json.dumps(UPLOAD | {"x": "y" * (topics.REQUEST_LIMIT_BYTES + dice.randrange(1, 10**6))}).encode()
    return dice.sent("UploadReceived", raw)


def _largest(dice: _Dice) -> tuple[bytes | None, Headers]:
    return dice.randbytes(topics.MAX_RECORD_BYTES - 8192), binary("UploadReceived", "1")  # what no compression makes smaller


_WAYS: tuple[_Make, ...] = (
    _cut, _flipped, _wrong_type, _missing_field, _no_object, _huge_number, _nested, _no_utf8, _half_surrogate, _raw_control,
    _missing_attribute, _two_attributes, _attribute_is_no_text, _other_mode, _no_value, _hostile_id, _hostile_asset, _hostile_key,
    _beyond_limits, _unknown_type, _wrong_topic, _wrong_follow_up, _last_wins, _garbage,
)  # fmt: skip
_LARGE: tuple[_Make, ...] = (_large_headers, _written_out, _too_large, _largest)


# ── On any topic ───────────────────────────────────────────────────────────────────────────────────────────────────


def foreign(seed: int, *, only: str = "", jobs: tuple[str, ...] = ("no-such-job",), large: bool = True) -> Iterator[Record]:
    """Records of every topic but `media.requests`, or `only` of one, as a hand that is not ours might write them, without end.

    `jobs`: ids of jobs that some of them speak of. Nothing that a job stands on is touched: what a worker would say of a task, word for
    word, could be anybody's word.
    """
    dice = _Dice(f"foreign/{seed}")
    places = [place for place in _PLACES if only in ("", place[1])]
    number = 0
    while True:
        for name, topic in dice.sample(places, len(places)):
            body = json.loads(json.dumps(EVENTS[name]))
            if "job_id" in body:
                body["job_id"] = dice.choice((*jobs, body["job_id"], *HOSTILE_IDS[:4]))
            value, headers = _damaged(dice, name, body)
            if large and number % 500 == 400:
                value = dice.randbytes(900_000)
            key = dice.choice((None, b"", b"\xff\x00", f"foreign-{seed}-{number}".encode(), b"@offset", b"@heal", b"../..", b"a:transcode"))
            if key is None and topic in _COMPACTED:
                key = b""  # the broker takes none without
            yield Record(topic=topic, key=key, value=value, headers=[*headers, (MARK, f"{seed}/{number}".encode())])
            number += 1


def _damaged(dice: _Dice, name: str, body: Json) -> tuple[bytes | None, Headers]:
    way = dice.randrange(12)
    if way == 0:
        return None, binary(name, "1")
    if way == 1:
        raw = json.dumps(body).encode()
        return raw[: dice.randrange(len(raw))], binary(name, "1")
    if way == 2:
        raw = bytearray(json.dumps(body).encode())
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        return bytes(raw), binary(name, "1")
    if way == 3:
        deep = dice.choice((190, 900, 1100, 50_000))
        return json.dumps(body)[:-1].encode() + b', "data": {"a": ' + b"[" * deep + b"]" * deep + b"}}", binary(name, "1")
    if way == 4:
        return dice.choice((b"", b"null", b"[]", dice.randbytes(100), b"\xff" * 50)), dice.choice(([], binary(name, "1")))
    if way == 5:
        return json.dumps(body).encode(), binary(dice.choice(sorted(BY_NAME)), "1")
    if way == 6:
        return dice.sent(name, body)  # nothing is wrong with it, but for the hand
    for _ in range(dice.choice((1, 1, 1, 3))):
        _put(dice, body)
    return dice.sent(name, body)


def _put(dice: _Dice, body: Any) -> None:
    """Something hostile in the place of something."""
    places: list[Any] = list(body) if isinstance(body, dict) else list(range(len(body)))
    place = dice.choice(places)
    if isinstance(body[place], dict | list) and body[place] and dice.random() < 0.6:
        _put(dice, body[place])
    elif place != "job_id" or dice.random() < 0.2:
        body[place] = copy.deepcopy(dice.choice(HOSTILE))


_TASK: Json = {"job_id": "no-such-job", "stage": 0, "number": 0, "attempt": 1, "worker": "nobody"}
_OUTPUT: Json = {"role": "rendition", "bucket": "media", "key": "assets/a/r/720.mp4", "size": 5, "width": 1280, "height": 720}
_DONE: Json = {"job_id": "no-such-job", "subject": "a", "outputs": [_OUTPUT], "finished_ms": 1_700_000_000_000}
EVENTS: dict[str, Json] = {
    "JobRequested": {"job_id": "foreign", "kind": "transcode", "service": "transcoder", "subject": "a", "request_type": "UploadReceived",
                     "request": UPLOAD, "owner": "o", "source": "s", "title": "t", "deadline_seconds": 60},
    "CancelRequested": {"job_id": "no-such-job", "reason": "why not"},
    "RetryRequested": {"job_id": "no-such-job"},
    "TaskStarted": _TASK,
    "TaskFinished": _TASK | {"plan_hash": "h", "stages": [{"name": "work", "service": "transcoder", "tasks": 3}], "outputs": [_OUTPUT],
                             "data": {"a": 1}, "needs": {"type": "UploadReceived", "data": {"key": "a"}}},
    "TaskFailed": _TASK | {"error": {"code": "c", "message": "m", "hint": "h", "failure_class": "transient"}},
    "TaskReturned": _TASK,
    "TaskReleased": {"job_id": "no-such-job", "kind": "transcode", "role": "plan", "stage": 0, "number": 0, "attempt": 1, "subject": "a",
                     "request_type": "UploadReceived", "request": UPLOAD},
    "JobCancelled": {"job_id": "no-such-job", "attempts_below": 10},
    "WorkerSeen": {"worker": "nobody", "service": "transcoder", "slots": 2, "partitions": [0, 1], "version": "1", "bye": True,
                   "running": [{"job_id": "no-such-job", "stage": 1, "number": 0, "attempt": 1, "progress": 0.5, "note": "n"}]},
    "AssetChanged": {"asset_id": "a", "title": "t", "created_ms": 1, "updated_ms": 2, "owner": "o", "filename": "f", "bucket": "media",
                     "key": "k", "size": 3, "content_type": "video/mp4", "visibility": "public", "deleted": False},
    "TranscodeCompleted": _DONE | {"kind": "transcode", "asset_id": "a", "bucket": "media", "key": "k", "title": "t",
                                   "duration_seconds": 1.5, "width": 1, "height": 2, "frame_rate": 25.0, "frames": 9, "recipe": "r"},
    "StreamReady": _DONE | {"kind": "stream", "asset_id": "a", "bucket": "media", "master": "assets/a/r/master.m3u8", "recipe": "r",
                            "progressive": True, "duration_seconds": 1.5},
    "ZipCompleted": _DONE | {"kind": "zip", "target": {"key": "z"}, "size": 1, "entries": 2, "crc_sources": {"own": 1}},
    "CallbackDelivered": _DONE | {"kind": "callback", "url": "https://example.org", "http_status": 200, "tries": 1},
    "JobFailed": {"job_id": "no-such-job", "subject": "a", "kind": "zip", "state": "failed", "error": {"code": "c", "message": "m"}},
    "SegmentsReady": {"asset_id": "a", "job_id": "no-such-job", "bucket": "media", "recipe": "r", "rendition": "video-720",
                      "init_key": "assets/a/r/video-720/init.mp4", "codecs": "avc1.64001f", "renditions": ["video-720"], "total": 3,
                      "segments": [{"number": 0, "key": "assets/a/r/video-720/00000.m4s", "duration_seconds": 4.0, "size": 10}]},
    "PlaylistChanged": {"asset_id": "a", "bucket": "media", "key": "assets/a/r/master.m3u8", "etag": "e", "segments": 1},
}  # fmt: skip
"""One that can be read, of each type."""
_PLACES: tuple[tuple[str, str], ...] = (
    *(
        (name, topic.name)
        for topic in topics.TOPICS
        for name in topic.carries
        if name in EVENTS and topic.name not in (topics.REQUESTS, topics.JOBS)
    ),
    ("JobFailed", topics.JOB_EVENTS),
    ("TaskReleased", topics.JOB_EVENTS),
    ("UploadReceived", topics.JOB_EVENTS),
    ("WorkerSeen", topics.CONTROL),
)
EVENTS["UploadReceived"] = UPLOAD
_COMPACTED = frozenset(topic.name for topic in topics.TOPICS if "compact" in topic.cleanup)


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True
