"""The generated parts of `docs/operations.md`, settings and exit codes, and `deploy/kafka-acls.yaml`, from what the program itself uses.

python -m services.cli.docs           write
python -m services.cli.docs --check   exit 1 when a document says something else
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from schemas import acls
from schemas.markers import between
from services.cli.exits import MEANINGS
from services.runtime import settings as settings_module
from services.runtime.settings import SECRETS, Settings, variable

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "operations.md"
RIGHTS: Final = ROOT / "deploy" / "kafka-acls.yaml"
HINTS: Final[dict[str, Any]] = get_type_hints(Settings, include_extras=True)


def settings_table() -> str:
    """Markdown: one table for each heading among the fields of `Settings`."""
    lines: list[str] = []
    groups = _groups()
    for field in msgspec.structs.fields(Settings):
        if heading := groups.get(field.name):
            lines += ["", f"**{heading}**", "", "| variable | default | accepted | what |", "|---|---|---|---|"]
        kind, meta = _split(HINTS[field.name])
        secret = " Secret: never shown or logged." if field.name in SECRETS else ""
        what = f"{meta.description or ''}{secret}"
        lines.append(f"| `{variable(field.name)}` | {_default(field.default)} | {_accepted(kind, meta)} | {_cell(what)} |")
    return "\n".join(lines).strip()


def exit_table() -> str:
    """Markdown."""
    return "\n".join(["| code | meaning |", "|---:|---|", *(f"| {code.value} | {_cell(meaning)} |" for code, meaning in MEANINGS.items())])


def render(text: str) -> str:
    """The document with its generated parts as they are now. Raises schemas.markers.MarkerMissing."""
    return between(between(text, "settings", settings_table()), "exit codes", exit_table())


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m services.cli.docs", description="Writes the generated parts of docs/operations.md, and deploy/kafka-acls.yaml."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a document says something else")
    check: bool = parser.parse_args(arguments).check
    drift = 0
    rendered = render(DOCUMENT.read_text(encoding="utf-8"))
    for name, path, wanted in (("docs/operations.md", DOCUMENT, rendered), ("deploy/kafka-acls.yaml", RIGHTS, acls.document())):
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            print(f"{name}: up to date")
        elif check:
            print(f"{name} says something else than the program: run `make generate` and commit what it changes", file=sys.stderr)
            drift = 1
        else:
            path.write_text(wanted, encoding="utf-8")
            print(f"wrote {name}")
    return drift


def _groups() -> dict[str, str]:
    """First field of each group, to the comment that is its heading."""
    found: dict[str, str] = {}
    heading = ""
    for line in inspect.getsource(settings_module.Settings).splitlines():
        if comment := re.fullmatch(r" {4}# (\w[\w ]*)", line):
            heading = comment[1]
        elif heading and (field := re.match(r" {4}(\w+): ", line)):
            found[field[1]] = heading
            heading = ""
    return found


def _split(hint: Any) -> tuple[Any, Meta]:
    metas = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Meta)]
    return (get_args(hint)[0] if metas else hint), (metas[0] if metas else Meta())


def _default(value: Any) -> str:
    if value in ("", ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _accepted(kind: Any, meta: Meta) -> str:
    if kind is bool:
        return "`true`, `false`"
    if get_origin(kind) is tuple:
        return "list, with commas"
    if kind in (int, float):
        limits = [
            f"{sign} {value}" for sign, value in (("≥", meta.ge), (">", meta.gt), ("≤", meta.le), ("<", meta.lt)) if value is not None
        ]
        return _cell(f"{'whole number' if kind is int else 'number'} {', '.join(limits)}".strip())
    if values := get_args(kind):
        return ", ".join(f"`{v}`" for v in values)
    return "text"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
