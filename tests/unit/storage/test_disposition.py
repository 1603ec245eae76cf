"""Content-Disposition."""

from __future__ import annotations

import pytest

from services.runtime.storage.disposition import attachment


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("film.mp4", "attachment; filename=\"film.mp4\"; filename*=UTF-8''film.mp4"),
        ("Größe.mp4", "attachment; filename=\"Gr__e.mp4\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.mp4"),
        (
            'a"; x=\r\nSet-Cookie: b',
            "attachment; filename=\"a_; x=__Set-Cookie: b\"; filename*=UTF-8''a%22%3B%20x%3D%0D%0ASet-Cookie%3A%20b",
        ),
        ("../../etc/passwd", "attachment; filename=\"passwd\"; filename*=UTF-8''passwd"),
        ("dir/", "attachment; filename=\"download\"; filename*=UTF-8''download"),
    ],
)
def test_no_character_leaves_its_place(filename: str, expected: str) -> None:
    assert attachment(filename) == expected
