"""The contract of a former release, from git."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from schemas.compatibility import Contract, TopicShape

JSON_FOLDER = "schemas/generated/json"
TOPICS_FILE = "schemas/generated/topics.json"


class GitFailed(RuntimeError):
    """git is there and says no; the message is its own."""


def last_release(repository: Path) -> str | None:
    """The nearest tag `v*` behind the present commit; None when there is none, no commit yet, or no git at all."""
    if not _git(repository, "rev-parse", "--verify", "--quiet", "HEAD").stdout.strip():
        return None
    found = _git(repository, "describe", "--tags", "--abbrev=0", "--match", "v*")
    return found.stdout.strip() if found.returncode == 0 else None


def is_shallow(repository: Path) -> bool:
    """Whether the history is cut off, so that a release may be hidden behind its end."""
    return _git(repository, "rev-parse", "--is-shallow-repository").stdout.strip() == "true"


def contract_of(repository: Path, tag: str) -> Contract | None:
    """The contract that was generated for a tag; None when it had none yet. Raises GitFailed."""
    topics_text = _git(repository, "show", f"{tag}:{TOPICS_FILE}")
    if topics_text.returncode != 0:
        return None
    topics = msgspec.json.decode(topics_text.stdout, type=dict[str, TopicShape])
    listed = _git(repository, "ls-tree", "-r", "--name-only", tag, f"{JSON_FOLDER}/")
    schemas: dict[str, dict[str, Any]] = {}
    for path in listed.stdout.split():
        shown = _git(repository, "show", f"{tag}:{path}")
        if shown.returncode != 0:
            raise GitFailed(shown.stderr.strip())
        schemas[Path(path).stem] = json.loads(shown.stdout)
    return Contract(topics=topics, schemas=schemas, requests=topics["media.requests"].carries)


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, "", "git is not installed")
    except subprocess.TimeoutExpired:
        raise GitFailed("git did not answer within a minute") from None
