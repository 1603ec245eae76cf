"""The table of topics in `schemas/README.md`. Pure."""

from __future__ import annotations

from schemas.topics import DAY_MS, TOPICS, Topic


def table() -> str:
    """Markdown."""
    lines = ["| topic | key | partitions | kept | what |", "|---|---|---:|---|---|"]
    for topic in TOPICS:
        carries = ", ".join(f"`{name}`" for name in topic.carries)
        about = topic.about + (f" {carries}" if carries else "")
        lines.append(f"| `{topic.name}` | {topic.key} | {topic.partitions} | {_kept(topic)} | {about} |")
    return "\n".join(lines)


def _kept(topic: Topic) -> str:
    life = "" if topic.retention_ms < 0 else _span(topic.retention_ms)
    if "compact" not in topic.cleanup:
        return life or "for ever"
    return "latest of each key" + (f", {life}" if life else "")


def _span(ms: int) -> str:
    return f"{ms // DAY_MS} d" if ms >= DAY_MS else f"{ms // 3_600_000} h"
