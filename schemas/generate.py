"""Writes what is made from the structs and the topics; `--check` says whether it is up to date and compatible.

python -m schemas.generate           write
python -m schemas.generate --check   exit 1 when a file differs, or when the contract breaks the last release
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from schemas import asyncapi, events, json_schema, markers, openapi, topic_table, topics
from schemas.compatibility import Contract, TopicShape, compare
from schemas.releases import GitFailed, contract_of, is_shallow, last_release

ROOT: Final = Path(__file__).resolve().parent
COMMAND: Final = "make generate"
FIX: Final = f"run `{COMMAND}` and commit what it changes"


def files(version: str, readme: str) -> dict[str, str]:
    """Every generated file: path below `schemas/`, text. `readme` is the README as it is, for the parts that people write. Pure."""
    made = {f"generated/json/{name}.json": _json(schema) for name, schema in json_schema.documents().items()}
    made["generated/topics.json"] = _json({topic.name: msgspec.to_builtins(topic) for topic in topics.TOPICS})
    made["asyncapi.yaml"] = _yaml(asyncapi.document(version))
    made["openapi.yaml"] = _yaml(openapi.document())
    made["README.md"] = markers.between(readme, "topics", topic_table.table())
    return made


def contract() -> Contract:
    """What the sources say now."""
    return Contract(
        topics={t.name: TopicShape(partitions=t.partitions, key=t.key, cleanup=t.cleanup, carries=t.carries) for t in topics.TOPICS},
        schemas=json_schema.documents(),
        requests=tuple(t.__name__ for t in events.REQUESTS),
    )


def differences(wanted: Mapping[str, str], folder: Path) -> list[str]:
    """Files that are missing, differ, or are not made any more."""
    found: list[str] = []
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file():
            found.append(f"schemas/{name} is missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"schemas/{name} is not what the sources make now")
    found += [f"schemas/{name} is not made from anything any more" for name in _stale(wanted, folder)]
    return found


def write(wanted: Mapping[str, str], folder: Path) -> list[str]:
    """Make the folder hold exactly these generated files. Answers those that changed."""
    changed: list[str] = []
    for name, text in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    for name in _stale(wanted, folder):
        (folder / name).unlink()
        changed.append(f"{name} (removed)")
    return changed


def incompatible(repository: Path) -> tuple[str, list[str]]:
    """Words about what was compared with, and the changes that break it. Raises GitFailed."""
    tag = last_release(repository)
    if tag is None and is_shallow(repository):
        return "NOT compared with the last release: the clone is shallow and may hide it (git fetch --unshallow --tags)", []
    if tag is None:
        return "there is no release (no tag v*), so there is nothing to be compatible with yet", []
    before = contract_of(repository, tag)
    if before is None:
        return f"the release {tag} has no generated contract to compare with", []
    return f"compared with the release {tag}", compare(before, contract())


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.generate", description="Writes the generated files of the contract.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs or the last release would break")
    check: bool = parser.parse_args(arguments).check
    wanted = files(_version(), (ROOT / "README.md").read_text(encoding="utf-8"))
    if not check:
        changed = write(wanted, ROOT)
        print("\n".join(f"wrote schemas/{name}" for name in changed) or "schemas: everything was up to date")
        return 0
    drift = differences(wanted, ROOT)
    for line in drift:
        print(f"{line}: {FIX}", file=sys.stderr)
    try:
        words, broken = incompatible(ROOT.parent)
    except GitFailed as wrong:
        print(f"the last release could not be looked at: {wrong}", file=sys.stderr)
        return 1
    for line in broken:
        print(f"incompatible: {line}", file=sys.stderr)
    if broken:
        print(f"{len(broken)} incompatible changes, {words}: add a field, a type or a topic beside the old one instead", file=sys.stderr)
    print(f"schemas: {len(wanted)} generated files, {len(drift)} to be mended; {words}")
    return 1 if drift or broken else 0


def _version() -> str:
    """Of the contract: major and minor, so that a patch release changes no generated file."""
    import importlib.metadata

    return ".".join(importlib.metadata.version("reelworks").split(".")[:2])


def _stale(wanted: Mapping[str, str], folder: Path) -> list[str]:
    there = sorted((folder / "generated").rglob("*.json")) if (folder / "generated").is_dir() else []
    return [name for path in there if (name := path.relative_to(folder).as_posix()) not in wanted]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return f"# Made by `{COMMAND}` from schemas/*.py. Not to be edited.\n{text}"


class _Dumper(yaml.SafeDumper):
    """Without anchors, which many readers of API descriptions do not follow, and with paragraphs as they were written."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _paragraph(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _paragraph)


if __name__ == "__main__":
    raise SystemExit(main())
