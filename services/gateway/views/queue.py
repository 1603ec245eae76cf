"""Why a job waits, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


class Capacity(msgspec.Struct, frozen=True):
    """What the workers of a service have told of themselves."""

    workers: int = 0
    slots: int = 0
    busy: int = 0


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def ordinal(number: int) -> str:
    """`first` … `tenth`, then `11th`, `1,204th`."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def words(service: str, position: int, capacity: Capacity) -> str:
    """What a job at this place of the line (from 1) waits for."""
    line = f"{ordinal(position)} in line"
    if not capacity.workers:
        return f"no {service} is running; {line}"
    if capacity.busy < capacity.slots:
        if position <= capacity.slots - capacity.busy:
            return f"a {service} slot is free; about to start"
        return f"{capacity.busy} of {capacity.slots} {service} slots are busy; {line}"
    subject = "slot is" if capacity.slots == 1 else "slots are"
    return f"{capacity.busy} of {capacity.slots} {service} {subject} busy; {line}"


def explain(waiting: Iterable[tuple[str, str]], fleet: Mapping[str, Capacity]) -> dict[str, str]:
    """Words for each waiting job, given (service, job id) in the order of the line."""
    said: dict[str, str] = {}
    places: dict[str, int] = {}
    for service, job_id in waiting:
        places[service] = place = places.get(service, 0) + 1
        said[job_id] = words(service, place, fleet.get(service, Capacity()))
    return said
