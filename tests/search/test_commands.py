"""The scripts as one command, `haan-search`, and `haan`: as they are installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search.__main__ import COMMANDS
from tests.paths import ROOT


def said(*words: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["run", "report"])
def test_a_command_is_the_script_of_its_name(tmp_path: Path, command: str) -> None:
    ours, script = said("-m", "search", command, "--help", folder=tmp_path), ROOT / "search" / f"{command}.py"
    assert ours.returncode == 0 and f"Usage: haan-search {command} [OPTIONS]" in ours.stdout
    own = said(str(script), "--help", folder=tmp_path).stdout
    assert ours.stdout.splitlines()[2:] == own.splitlines()[2:]
    wrong = said("-m", "search", command, "absent", folder=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1) and "absent" in wrong.stderr


def test_a_terminal_that_lacks_a_letter_gets_another_for_it(tmp_path: Path) -> None:
    """One run whose name has letters that ASCII lacks, in a table whose spreads have another."""
    shutil.copytree(ROOT / "tests" / "frozen" / "finished", tmp_path / "Küche-✓")
    ended = said("-m", "search", "runs", ".", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr
    assert "K\\xfcche-\\u2713  done" in ended.stdout and " +- " in ended.stdout
    wrong = said("-m", "search", "report", "Käse", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert wrong.returncode == 2 and wrong.stderr.startswith("K\\xe4se/study.journal: ")


def test_without_a_command_and_with_another_one_those_that_there_are_are_named(tmp_path: Path) -> None:
    for words in ((), ("--help",)):
        ended = said("-m", "search", *words, folder=tmp_path)
        assert ended.returncode == 0 and all(f"  {name:8}{what}" in ended.stdout for name, what in COMMANDS.items())
    ended = said("-m", "search", "rnu", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "COMMAND: must be one of run, table, replay, export, report, runs, got 'rnu'\n"


def test_every_script_of_a_user_is_a_command() -> None:
    scripts = {path.stem for path in (ROOT / "search").glob("*.py") if "\nEXAMPLE = " in path.read_text()}
    assert scripts | {"runs"} == set(COMMANDS)
