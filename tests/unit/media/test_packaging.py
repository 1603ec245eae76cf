"""Streams become segments in a store; what is stored is read back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.runtime.media import cmaf, packaging
from services.runtime.media.encryption import random_key
from services.runtime.media.packaging import Packaged, SegmentWriter, StoredSegment
from services.runtime.media.presentation import SegmentEntry
from services.runtime.settings import Settings
from services.runtime.storage.base import ObjectStore
from services.runtime.storage.factory import open_storage
from tests import clips
from tests.unit.media.streams import stream_of


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    storage = open_storage(Settings(storage_url=(tmp_path / "bucket").as_uri(), data_dir=str(tmp_path / "data")))
    yield storage.bucket()
    await storage.close()


@pytest.fixture(scope="module")
def fragmented() -> bytes:
    """Six fragments of a second each, and one of a single frame."""
    return clips.make(
        "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25:duration=6.04", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
        "-g", "25", "-keyint_min", "25", "-sc_threshold", "0", "-use_editlist", "0", "-video_track_timescale", "25000",
        "-movflags", "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets",
    ).read_bytes()  # fmt: skip


async def names(store: ObjectStore) -> list[str]:
    return [item.key async for item in store.list()]


async def times(store: ObjectStore, made: Packaged, *, first: int = 0) -> list[int]:
    return [cmaf.decode_time(await store.read(f"f/video-90/{first + n:05d}.m4s")) for n in range(len(made.segments))]


async def test_each_fragment_is_a_segment_and_all_are_as_they_are_told(store: ObjectStore, fragmented: bytes) -> None:
    told: list[StoredSegment] = []

    async def tell(segment: StoredSegment) -> None:
        assert (await store.head(segment.key)).size == segment.entry.size
        told.append(segment)

    made = await SegmentWriter(store, "f", "video-90", on_segment=tell).take(stream_of(fragmented))
    assert made.init is not None
    assert (made.init.timescale, made.init.video) == (25_000, True)
    assert (made.frames, made.ticks, made.seconds, len(made.init_hash)) == (151, 151_000, 6.04, 16)
    assert [s.ticks for s in made.segments] == [*[25_000] * 6, 1000]
    assert [(s.number, s.key, s.entry) for s in told] == [(n, f"f/video-90/{n:05d}.m4s", e) for n, e in enumerate(made.segments)]
    assert [s.seconds for s in told] == [*[1.0] * 6, 0.04]
    assert sum(s.size for s in made.segments) == made.size
    assert await names(store) == [*(s.key for s in told), "f/video-90/init.mp4"]
    assert await times(store, made) == [n * 25_000 for n in range(7)]


async def test_fragments_are_joined_up_to_a_length(store: ObjectStore, fragmented: bytes) -> None:
    made = await SegmentWriter(store, "f", "video-90", longest_seconds=4.5).take(stream_of(fragmented))
    assert [s.ticks for s in made.segments] == [100_000, 51_000]
    assert await times(store, made) == [0, 100_000]
    # It decodes as the same film: no fragment is lost, none is at another time.
    whole = b"".join([await store.read(f"f/video-90/{n}") for n in ("init.mp4", "00000.m4s", "00001.m4s")])
    parts = [p async for p in cmaf.fragments(stream_of(whole))]
    assert [cmaf.decode_time(p) for p in parts[1:]] == [n * 25_000 for n in range(7)]
    assert [cmaf.read_samples(p).count for p in parts[1:]] == [*[25] * 6, 1]
    assert made.segments[0].intra == cmaf.intra_size(parts[1])


async def test_a_fragment_that_is_longer_than_the_limit_is_a_segment(store: ObjectStore, fragmented: bytes) -> None:
    made = await SegmentWriter(store, "f", "video-90", longest_seconds=0.5).take(stream_of(fragmented))
    assert [s.ticks for s in made.segments] == [*[25_000] * 6, 1000]


async def test_a_later_part_has_its_numbers_and_times_and_leaves_the_init_segment_to_the_first(
    store: ObjectStore, fragmented: bytes
) -> None:
    made = await SegmentWriter(store, "f", "video-90", first_segment=7, first_tick=1_000_000).take(stream_of(fragmented))
    assert await names(store) == [f"f/video-90/{n:05d}.m4s" for n in range(7, 14)]
    assert await times(store, made, first=7) == [1_000_000 + n * 25_000 for n in range(7)]


async def test_fragments_may_keep_the_times_of_the_stream(store: ObjectStore, fragmented: bytes) -> None:
    init, *parts = [p async for p in cmaf.fragments(stream_of(fragmented))]
    late = init + b"".join(cmaf.place(p, number=1, decode_time=500 + n * 30_000) for n, p in enumerate(parts))
    made = await SegmentWriter(store, "f", "video-90", first_tick=None).take(stream_of(late))
    assert await times(store, made) == [500 + n * 30_000 for n in range(7)]


async def test_segments_may_be_encrypted_and_the_init_segment_never_is(store: ObjectStore, fragmented: bytes) -> None:
    key = random_key()
    clear = await SegmentWriter(store, "clear", "video-90", longest_seconds=4.5).take(stream_of(fragmented))
    made = await SegmentWriter(store, "f", "video-90", longest_seconds=4.5, encrypted=key).take(stream_of(fragmented))
    await packaging.store_key(store, "f", key)
    assert await store.read("f/aes.key") == key.key
    assert await store.read("f/video-90/init.mp4") == await store.read("clear/video-90/init.mp4")
    for number in range(2):
        body = await store.read(f"f/video-90/{number:05d}.m4s")
        assert key.decrypt(body) == await store.read(f"clear/video-90/{number:05d}.m4s")
        assert made.segments[number] == SegmentEntry(clear.segments[number].ticks, len(body), 0)


async def test_nothing_that_comes_is_nothing_stored(store: ObjectStore) -> None:
    made = await SegmentWriter(store, "f", "video-90").take(stream_of(b""))
    assert (made.init, made.segments, made.seconds) == (None, [], 0.0)
    assert await names(store) == []


async def test_a_check_that_raises_ends_it_before_anything_is_stored(store: ObjectStore, fragmented: bytes) -> None:
    def check() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        await SegmentWriter(store, "f", "video-90", check=check).take(stream_of(fragmented))
    assert await names(store) == []
