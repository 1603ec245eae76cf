"""Archives as tests see them: a straightforward writer, and the programs that people open archives with."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from services.runtime.archives.checksums import combine
from services.runtime.archives.records import Entry, Method, central_directory, local_header
from tests import trees

SECONDS = 120
"""So long a reader may take: the slowest needs a tenth of it."""

JAVA = """
import java.io.FileInputStream;
import java.io.PrintStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

public class List {
    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        byte[] buffer = new byte[1 << 16];
        try (ZipInputStream zip = new ZipInputStream(new FileInputStream(arguments[0]))) {
            for (ZipEntry entry; (entry = zip.getNextEntry()) != null; ) {
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                for (int count; (count = zip.read(buffer)) > 0; ) digest.update(buffer, 0, count);
                String content = String.format("%064x", new BigInteger(1, digest.digest()));
                out.println(content + " " + entry.getLastModifiedTime().toMillis() / 1000 + " " + entry.getName());
            }
        }
        out.flush();
    }
}
"""


@dataclass(frozen=True)
class File:
    """What goes into an archive."""

    name: str
    content: bytes = b""
    modified_ms: int = 1_700_000_001_000
    method: Method = "store"


@dataclass(frozen=True)
class Seen:
    """What a reader tells of an entry, as far as it does."""

    name: str
    sha256: str | None = None
    seconds: int | None = None
    """Since 1970, UTC."""


def write(out: BinaryIO, files: Iterable[File]) -> None:
    """An archive, one entry after the other."""
    placed: list[tuple[Entry, int]] = []
    for file in files:
        data = file.content
        if file.method == "deflate":
            packing = zlib.compressobj(wbits=-15)
            data = packing.compress(data) + packing.flush()
        entry = Entry(
            name=file.name, size=len(file.content), compressed=len(data), crc32=zlib.crc32(file.content), method=file.method,
            modified_ms=file.modified_ms,
        )  # fmt: skip
        placed.append((entry, out.tell()))
        out.write(local_header(entry))
        out.write(data)
    out.write(central_directory(placed, out.tell()))


@dataclass(frozen=True)
class Reader:
    """A program that opens archives."""

    name: str
    program: str
    """Empty: always there."""
    read: Callable[[Path, Path], Sequence[Seen]]
    """Of an archive, with a folder to work in; what it sees, in the archive's order. Raises AssertionError when it finds a fault."""
    shown: Callable[[str], str] = str
    """A name as the reader says it."""

    @property
    def missing(self) -> bool:
        return bool(self.program) and shutil.which(self.program) is None


def read_unzip(archive: Path, scratch: Path) -> list[Seen]:
    """`unzip -t`: every CRC."""
    said = run(["unzip", "-t", str(archive)])
    assert said.endswith(b".\n")
    assert b"No errors detected in compressed data" in said
    return [Seen(name) for name in run(["unzip", "-Z1", str(archive)]).decode().split("\n")[:-1]]


def read_zipinfo(archive: Path, scratch: Path) -> list[Seen]:
    """`zipinfo`: everything that the directory says, at length."""
    said = run(["zipinfo", "-v", str(archive)])
    assert b"error" not in said.replace(b"no error", b"")
    return [Seen(name) for name in run(["zipinfo", "-1", str(archive)]).decode().split("\n")[:-1]]


def read_7z(archive: Path, scratch: Path) -> list[Seen]:
    """`7z t`, which compares local headers with the directory and warns of what is odd."""
    said = run(["7z", "t", str(archive)])
    assert b"Everything is Ok" in said
    assert b"WARNING" not in said.upper()
    listed = run(["7z", "l", "-slt", str(archive)]).decode().partition("----------\n")[2]
    return [Seen(line.removeprefix("Path = ")) for line in listed.splitlines() if line.startswith("Path = ")]


def read_bsdtar(archive: Path, scratch: Path) -> list[Seen]:
    """`bsdtar -tf` and `-xOf`."""
    names = run(["bsdtar", "-tf", str(archive)]).decode().split("\n")[:-1]
    content = run(["bsdtar", "-xOf", str(archive)])
    # It writes all of them one after the other; the lengths are Python's.
    answer: list[Seen] = []
    with zipfile.ZipFile(archive) as lengths:
        for name, info in zip(names, lengths.infolist(), strict=True):
            answer.append(Seen(name, sha256(content[: info.file_size])))
            content = content[info.file_size :]
    assert not content
    return answer


def read_python(archive: Path, scratch: Path) -> list[Seen]:
    """`zipfile`."""
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return [Seen(info.filename, sha256(opened.read(info))) for info in opened.infolist()]


def read_java(archive: Path, scratch: Path) -> list[Seen]:
    """`java.util.zip.ZipInputStream`, which reads from the front and knows no directory."""
    program = scratch / "List.java"
    program.write_text(JAVA)
    said = run(["java", "-Xmx256m", str(program), str(archive)]).decode()
    rows = [line.split(" ", 2) for line in said.split("\n")[:-1]]
    return [Seen(name, content, int(seconds)) for content, seconds, name in rows]


READERS = (
    Reader("unzip", "unzip", read_unzip),
    Reader("zipinfo", "zipinfo", read_zipinfo),
    Reader("7z", "7z", read_7z),
    # libarchive composes names as it reads them.
    Reader("bsdtar", "bsdtar", read_bsdtar, partial(unicodedata.normalize, "NFC")),
    Reader("python", "", read_python),
    # The compiler comes with what can run a source file.
    Reader("java", "javac", read_java),
)


def check(reader: Reader, archive: Path, files: Sequence[File], scratch: Path) -> None:
    """The reader sees these files, in this order."""
    seen = reader.read(archive, scratch)
    assert len(seen) == len(files)
    for file, found in zip(files, seen, strict=True):
        assert found.name == reader.shown(file.name)
        assert found.sha256 in (None, sha256(file.content))
        assert found.seconds in (None, file.modified_ms // 1000)


def unpacked(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and date, in seconds, of every file below a folder."""
    return {str(path.relative_to(folder)): (path.read_bytes(), int(path.stat().st_mtime)) for path in trees.files(folder)}


def run(command: Sequence[str], *, time_zone: str = "UTC", cwd: Path | None = None) -> bytes:
    """What a program says; it has to end well."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": time_zone}
    done = subprocess.run(command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
    return done.stdout


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def crc_of_zeros(count: int) -> int:
    """CRC-32 of so many zero bytes, by doubling."""
    value, block, length = 0, zlib.crc32(b"\0"), 1
    while count:
        if count & 1:
            value = combine(value, block, length)
        block, length, count = combine(block, block, length), 2 * length, count >> 1
    return value
