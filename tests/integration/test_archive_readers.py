"""Archives as they are written here, opened by the programs that people have."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from services.runtime.archives.checksums import crc32
from services.runtime.archives.records import MAX_NAME_BYTES, Entry, central_directory, local_header
from tests.archives import READERS, File, Reader, check, crc_of_zeros, read_java, run, unpacked, write

TEXT = b"A line that is said again. " * 4000
DATE = 1_700_000_001
HOLE = 2**32 + 1

NAMES = [
    "plain.txt",
    "Ferien/Ägypten (1).mp4",
    "emoji/👩‍👩‍👧‍👦 🎬.mp4",
    "combining/e\u0301te\u0301.mp4",
    "rtl/שלום עולם.mp4",
    "rtl/\u202egnp.exe",
    "日本語/映画.mp4",
    "odd/a:b*c?\"d'<e>|f$(g)`h`.mp4",
    "odd/-rf",
    "odd/ space at both ends ",
    "odd/%2e%2e.txt",
    "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p.txt",
]
PATH_OF_60_KB = ("x" * 199 + "/") * 327
LONG = File(PATH_OF_60_KB + "y" * (MAX_NAME_BYTES - len(PATH_OF_60_KB)), b"deep")
BESIDE = File("beside.txt", b"beside")

CANNOT_SAY_LONG_NAMES = ("unzip", "zipinfo")
"""They cut a name at 4,095 bytes and warn; content is read nevertheless. All others can."""


def by(*readers: Reader) -> pytest.MarkDecorator:
    """The test, with each of them that is installed."""
    missing = {r.name: pytest.mark.skipif(r.missing, reason=f"{r.program} is not installed") for r in readers}
    return pytest.mark.parametrize("reader", [pytest.param(r, id=r.name, marks=missing[r.name]) for r in readers])


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def write_to(path: Path, files: list[File]) -> Path:
    with path.open("wb") as out:
        write(out, files)
    return path


@by(*READERS)
def test_stored_deflated_and_empty(reader: Reader, tmp_path: Path) -> None:
    files = [
        File("folder/stored.bin", bytes(range(256)) * 500),
        File("folder/deflated.txt", TEXT, method="deflate"),
        File("nothing"),
        File("odd second.txt", b"x", modified_ms=1_650_000_001_999),
    ]
    check(reader, write_to(tmp_path / "a.zip", files), files, tmp_path)


@by(*READERS)
def test_names(reader: Reader, tmp_path: Path) -> None:
    files = [File(name, name.encode()) for name in NAMES]
    check(reader, write_to(tmp_path / "a.zip", files), files, tmp_path)


@by(*(r for r in READERS if r.name not in CANNOT_SAY_LONG_NAMES))
def test_a_path_of_60_kb(reader: Reader, tmp_path: Path) -> None:
    assert len(LONG.name) == MAX_NAME_BYTES
    check(reader, write_to(tmp_path / "a.zip", [LONG, BESIDE]), [LONG, BESIDE], tmp_path)


@needs("unzip")
def test_unzip_cuts_a_path_of_60_kb_and_reads_what_it_holds(tmp_path: Path) -> None:
    archive = write_to(tmp_path / "a.zip", [LONG, BESIDE])
    done = subprocess.run(["unzip", "-p", str(archive)], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, b"deepbeside")
    assert b"filename too long--truncating" in done.stderr
    assert b"At least one warning-error was detected" in subprocess.run(["unzip", "-t", archive], capture_output=True, check=False).stdout


@by(*READERS)
def test_70_000_entries(reader: Reader, tmp_path: Path) -> None:
    files = [File(f"{n // 1000:02}/{n:05}.txt", b"%d" % n) for n in range(70_000)]
    check(reader, write_to(tmp_path / "a.zip", files), files, tmp_path)


@pytest.mark.parametrize("time_zone", ["UTC", "America/St_Johns"])
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(["unzip", "-q", "ARCHIVE"], id="unzip", marks=needs("unzip")),
        pytest.param(["7z", "x", "-y", "ARCHIVE"], id="7z", marks=needs("7z")),
        pytest.param(["bsdtar", "-xf", "ARCHIVE"], id="bsdtar", marks=needs("bsdtar")),
    ],
)
def test_contents_names_and_dates_come_back(program: list[str], time_zone: str, tmp_path: Path) -> None:
    files = [
        *(File(name, name.encode() * 100, DATE * 1000 + 999, "deflate" if n % 2 else "store") for n, name in enumerate(NAMES)),
        File("odd second", b"1", 1_650_000_001_000),
        # In the hour that Newfoundland has twice, and in the one that it does not have.
        File("hour that comes twice", b"2", 1_699_160_400_000),
        File("hour that is left out", b"3", 1_710_043_200_000),
        File("before 1980", b"4", 170_000_001_000),
    ]
    archive = write_to(tmp_path / "a.zip", files)
    folder = tmp_path / "out"
    folder.mkdir()
    run([str(archive) if word == "ARCHIVE" else word for word in program], time_zone=time_zone, cwd=folder)
    shown = next(r.shown for r in READERS if r.name == program[0])
    assert unpacked(folder) == {shown(file.name): (file.content, file.modified_ms // 1000) for file in files}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry of more than 4 GiB, which is a hole in the file, and one behind it."""
    path = tmp_path_factory.mktemp("large") / "large.zip"
    hole = Entry(name="hole.bin", size=HOLE, compressed=HOLE, crc32=crc_of_zeros(HOLE), method="store", modified_ms=DATE * 1000)
    behind = Entry(name="behind.txt", size=6, compressed=6, crc32=crc32(b"behind"), method="store", modified_ms=DATE * 1000)
    with path.open("wb") as out:
        out.write(local_header(hole))
        at = out.seek(HOLE, 1)
        out.write(local_header(behind) + b"behind")
        out.write(central_directory([(hole, 0), (behind, at)], out.tell()))
    return path


def test_python_beyond_4_gib(large: Path) -> None:
    with zipfile.ZipFile(large) as opened:
        assert [info.file_size for info in opened.infolist()] == [HOLE, 6]
        assert opened.infolist()[1].header_offset > HOLE
        assert opened.read("behind.txt") == b"behind"


@needs("unzip")
def test_zipinfo_and_unzip_beyond_4_gib(large: Path) -> None:
    assert f" {HOLE} bx {HOLE} stor " in run(["zipinfo", "-l", str(large)]).decode()
    # Only what lies behind: unzip checks no more than 150 MB a second.
    assert b"No errors detected" in run(["unzip", "-t", str(large), "behind.txt"])


@needs("7z")
def test_7z_checks_every_byte_beyond_4_gib(large: Path) -> None:
    assert f"Size:       {HOLE + 6}\n" in run(["7z", "t", str(large)]).decode()


@needs("bsdtar")
def test_bsdtar_beyond_4_gib(large: Path) -> None:
    assert run(["bsdtar", "-tf", str(large)]).decode().split() == ["hole.bin", "behind.txt"]
    assert run(["bsdtar", "-xOf", str(large), "behind.txt"]) == b"behind"


@needs("javac")
def test_java_checks_every_byte_beyond_4_gib(large: Path, tmp_path: Path) -> None:
    assert [found.name for found in read_java(large, tmp_path)] == ["hole.bin", "behind.txt"]
