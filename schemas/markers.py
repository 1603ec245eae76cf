"""Generated parts of documents that people write: everything between two comments. Pure."""

from __future__ import annotations


class MarkerMissing(ValueError):
    """The document has no place for the part."""


def between(text: str, name: str, body: str) -> str:
    """The document with `body` between `<!-- name: … -->` and `<!-- end of name -->`. Raises MarkerMissing."""
    begin, end = f"<!-- {name}:", f"<!-- end of {name} -->"
    head, found, rest = text.partition(begin)
    comment, closed, rest = rest.partition("-->\n")
    _, ended, tail = rest.partition(end)
    if not (found and closed and ended):
        raise MarkerMissing(f"the lines '{begin} … -->' and '{end}' are needed around the generated {name}")
    return f"{head}{begin}{comment}-->\n{body.rstrip()}\n{end}{tail}"
