"""The page of figures: each benchmark has a section of its own."""

from __future__ import annotations

from benchmarks.__main__ import HEAD, keep, table


def test_a_benchmark_that_is_run_again_changes_its_own_section_only() -> None:
    polls, loop, again = (table([{"what": what, "value": "1 s", "command": "c", "note": "n"}]) for what in ("poll", "loop", "loop again"))
    kept = keep(keep(HEAD, "loop", loop), "polls", polls)
    assert kept.startswith(HEAD)
    assert kept.index(polls) < kept.index(loop), "in the order of the benchmarks"
    changed = keep(kept, "loop", again)
    assert (polls in changed, loop in changed, again in changed) == (True, False, True)
    assert keep(changed, "loop", again) == changed
