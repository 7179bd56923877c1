"""A driver that a library ends: real processes that abort, are killed, or end in order."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import os, signal, sys
from pathlib import Path
from search.driver.outcry import kept
print("before", file=sys.stderr)
with kept(Path(sys.argv[1]), "ended; to go on: python 'a b'"):
    os.write(2, b"C++ frame\\n" * 30)
    print("of Python", file=sys.stderr)
    {then}
print("after", file=sys.stderr)
os.write(2, b"of C++\\n")
"""


def ended(log: Path, then: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DRIVER.format(then=then), str(log)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60)


@pytest.mark.parametrize("by", [signal.SIGABRT, signal.SIGKILL])
def test_a_driver_that_is_ended_says_one_line_and_c_plus_plus_none(tmp_path: Path, by: signal.Signals) -> None:
    done = ended(tmp_path / "log", f"os.kill(os.getpid(), {int(by)})")
    assert done.returncode == -by and done.stderr == "before\nof Python\nended; to go on: python 'a b'\n"
    assert (tmp_path / "log").read_text() == "C++ frame\n" * 30


@pytest.mark.parametrize("then", ["pass", "sys.exit(3)"])
def test_a_driver_that_ends_in_order_has_said_all_itself(tmp_path: Path, then: str) -> None:
    done = ended(tmp_path / "log", then)
    assert done.stderr == "before\nof Python\n" + ("after\nof C++\n" if then == "pass" else "")
