"""Three minutes of trouble, of which nothing may be left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.run import run

pytestmark = pytest.mark.kafka
SEED, MINUTES = 7, 3.0


async def test_nothing_is_lost_no_outcome_comes_twice_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    result = await run(SEED, MINUTES, tmp_path)
    assert not result.findings, f"{report.words(result)}\nlogs, diary and timelines: {tmp_path}"
    assert result.jobs >= 200
    assert len(result.troubles) >= 12
