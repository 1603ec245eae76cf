"""Names inside an archive. Pure.

A name is refused where a reader would unpack it beside the folder it was told, or not at all; it is never altered in silence.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from services.runtime.archives.records import MAX_NAME_BYTES

ACCEPTED: Final = (
    f"a name is 1 to {MAX_NAME_BYTES} bytes of UTF-8, relative, with '/' between its folders, without empty segments, '.' and '..'; "
    "backslashes, control characters and drive letters ('C:') are not accepted"
)

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_ENDING: Final = re.compile(r"(?<=[^/.])\.[^./\s]+\Z")


def fault(name: str) -> str:
    """What is wrong with a name, in words; "" when it can be used. What is accepted is in `ACCEPTED` (APPNOTE 4.4.17.1)."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which is no text"
    if not 1 <= length <= MAX_NAME_BYTES:
        return f"it is {length} bytes long" if length else "it is empty"
    if name.startswith("/"):
        return "it begins with a slash"
    if name.endswith("/"):
        return "it ends with a slash, which makes it a folder"
    if _DRIVE.match(name):
        return f"it begins with a drive letter, {name[:2]!r}"
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            return f"it has the segment {segment!r}"
    if "\\" in name:
        return "it holds a backslash"
    # Looking at each character takes ten times as long as all else here.
    if not name.isprintable() and any(unicodedata.category(c) == "Cc" for c in name):
        return "it holds a control character"
    return ""


def unique(names: Iterable[str]) -> list[str]:
    """The names in their order, those that others stand in the way of renamed: `name (2).ext`, `name (3).ext`.

    Stands in the way: a name before it that differs at most in case or in Unicode normalisation, because Windows and macOS unpack
    both to one file; and a name that has this one as a folder (`a` and `a/b`). A new name is never one that was given. All names must
    be without `fault`; a new one may be too long, which `fault` says of it.
    """
    given = list(names)
    folds = [_fold(name) for name in given]
    # Sorted with NUL between folders, what lies in a folder follows right upon it: no ancestor need be spelt out.
    ordered = sorted({fold.replace("/", "\0") for fold in folds})
    reserved, taken, last = set(folds), set[str](), dict[str, int]()
    answer: list[str] = []
    for name, fold in zip(given, folds, strict=True):
        if fold not in taken and not _is_folder(fold, ordered):
            taken.add(fold)
            answer.append(name)
            continue
        number = last.get(fold, 1)
        while True:
            number += 1
            renamed = _numbered(name, number)
            if (new := _fold(renamed)) not in taken and new not in reserved and not _is_folder(new, ordered):
                break
        last[fold] = number
        taken.add(new)
        answer.append(renamed)
    return answer


def _fold(name: str) -> str:
    """What two names have in common that are the same file where case is not told apart: a canonical caseless match
    (The Unicode Standard, 3.13, D145)."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _is_folder(fold: str, ordered: list[str]) -> bool:
    below = fold.replace("/", "\0") + "\0"
    at = bisect_left(ordered, below)
    return at < len(ordered) and ordered[at].startswith(below)


def _numbered(name: str, number: int) -> str:
    ending = _ENDING.search(name)
    at = ending.start() if ending else len(name)
    return f"{name[:at]} ({number}){name[at:]}"
