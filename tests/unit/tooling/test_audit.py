"""Which packages are asked about, and what fails."""

from __future__ import annotations

from tests.tooling.audit import LOCKS, ROOT, Package, Report, Vulnerability, faults, pinned

LOCK = """\
aiohttp==3.14.5 \\
    --hash=sha256:00aa
    # via reelworks
uvloop==0.23.0 ; sys_platform != 'win32' \\
    --hash=sha256:11bb
# a remark about x==1
"""


def test_every_package_of_the_lock_files_is_asked_about() -> None:
    assert pinned(LOCK) == ["aiohttp==3.14.5", "uvloop==0.23.0"]
    for name in LOCKS:
        text = (ROOT / name).read_text()
        assert len(pinned(text)) == sum(line.endswith("\\") and not line.startswith(" ") for line in text.splitlines())


def test_a_vulnerability_fails_unless_it_is_accepted_with_a_reason() -> None:
    report = Report([Package("a", "1", [Vulnerability("CVE-1", ["2"]), Vulnerability("CVE-2")]), Package("b", "1")])
    assert faults(report, {}) == ["a 1: CVE-1, mended in 2", "a 1: CVE-2, mended in no version yet"]
    assert faults(report, {"CVE-1": "not used so"}) == ["a 1: CVE-2, mended in no version yet"]
