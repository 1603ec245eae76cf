"""Scripts of others, copied out of npm packages into the tree, so that nobody who runs Reelworks or its tests needs node.

python -m services.gateway.vendor           fetch what package-lock.json pins (needs npm), copy, write manifest.json
python -m services.gateway.vendor --check   exit 1 when a file is not the one that manifest.json lists; offline, without node

To take a newer version: write it into package.json, run `npm install --package-lock-only` in this folder, then the first command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[2]
SHIPPED: Final = "services/gateway/static/vendor"
FOR_TESTS: Final = "tests/vendor"
MANIFEST: Final = f"{SHIPPED}/manifest.json"
LOCK: Final = "services/gateway/vendor/package-lock.json"
# A registry that answers slowly; npm itself gives up on a request much earlier.
NPM_SECONDS: Final = 300


class Copied(NamedTuple):
    """A file of an npm package, and where it goes from the root of the tree."""

    package: str
    path: str
    to: str


FILES: Final = (
    Copied("hls.js", "dist/hls.min.js", f"{SHIPPED}/hls.min.js"),
    Copied("hls.js", "LICENSE", f"{SHIPPED}/hls.LICENSE.txt"),
    # `all` is `index` and the menus; there is no bundle of fewer elements.
    Copied("media-chrome", "dist/iife/all.js", f"{SHIPPED}/media-chrome.min.js"),
    Copied("media-chrome", "LICENSE", f"{SHIPPED}/media-chrome.LICENSE.txt"),
    Copied("axe-core", "axe.min.js", f"{FOR_TESTS}/axe.min.js"),
    Copied("axe-core", "LICENSE", f"{FOR_TESTS}/axe.LICENSE.txt"),
)


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the manifest describes it."""

    file: str
    package: str
    version: str
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the tree. `styles`: CSP hashes of the styles that media-chrome writes into its elements."""

    files: tuple[Listed, ...]
    styles: tuple[str, ...]


class Unusable(Exception):
    """The files could not be made; says why."""


def problems(root: Path = ROOT) -> list[str]:
    """What is wrong with the files below `root`, one sentence each; an empty list when they are what the manifest lists."""
    try:
        manifest = msgspec.json.decode((root / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as wrong:
        return [f"{MANIFEST} cannot be read: {wrong}"]
    versions = _locked(root)
    found: list[str] = []
    for listed in manifest.files:
        path = root / listed.file
        if not path.is_file():
            found.append(f"{listed.file} is missing")
        elif _sha256(path) != listed.sha256:
            found.append(f"{listed.file} is not the one of {listed.package} {listed.version} that the manifest lists")
        if versions.get(listed.package) != listed.version:
            found.append(f"{LOCK} pins {listed.package} {versions.get(listed.package)}, the manifest has {listed.version}")
    names = {listed.file for listed in manifest.files} | {MANIFEST}
    there = (path for folder in (SHIPPED, FOR_TESTS) for path in sorted((root / folder).iterdir()))
    found += [f"{name} is not in the manifest" for path in there if (name := path.relative_to(root).as_posix()) not in names]
    return found


def fetch(root: Path = ROOT) -> Manifest:
    """Copy the files and write the manifest. Raises Unusable."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise Unusable("this needs npm and node on PATH; nothing else of Reelworks does")
    with tempfile.TemporaryDirectory(prefix="reelworks-vendor-") as name:
        folder = Path(name)
        for file in ("package.json", "package-lock.json", ".npmrc", "styles.mjs"):
            shutil.copy(HERE / file, folder)
        _run([npm, "ci", "--ignore-scripts"], folder)
        for copied in FILES:
            target = root / copied.to
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "node_modules" / copied.package / copied.path, target)
        styles = msgspec.json.decode(_run([node, "styles.mjs"], folder), type=tuple[str, ...])
    versions = _locked(root)
    files = tuple(Listed(file=c.to, package=c.package, version=versions[c.package], sha256=_sha256(root / c.to)) for c in FILES)
    manifest = Manifest(files=files, styles=styles)
    (root / MANIFEST).write_text(json.dumps(msgspec.to_builtins(manifest), indent=2) + "\n", encoding="utf-8")
    return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway.vendor", description="Copies scripts of others into the tree.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not the one that the manifest lists")
    if parser.parse_args(arguments).check:
        found = problems()
        for problem in found:
            print(f"{problem}: run `make vendor` and commit what it changes", file=sys.stderr)
        return 1 if found else 0
    try:
        manifest = fetch()
    except Unusable as wrong:
        print(wrong, file=sys.stderr)
        return 1
    for listed in manifest.files:
        print(f"{listed.file}: {listed.package} {listed.version}")
    return 0


def _locked(root: Path) -> dict[str, str]:
    packages = json.loads((root / LOCK).read_text(encoding="utf-8"))["packages"]
    return {path.removeprefix("node_modules/"): entry["version"] for path, entry in packages.items() if path}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
    if done.returncode:
        raise Unusable(f"`{' '.join(command)}` failed:\n{done.stderr or done.stdout}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
