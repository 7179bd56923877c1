"""Commands that are printed for a user to run."""

import io
import shlex
import sys
from pathlib import Path

import pytest

from haan import cli
from haan.cli import in_checkout, python, show_table, tell
from tests.paths import ROOT


@pytest.mark.parametrize("path", ["a b/c.yaml", "it's", "$HOME/x", "a;b", "-x/c.yaml", "~/c.yaml", "ä", "*"])
def test_a_shell_reads_back_what_was_meant(path: str) -> None:
    words = shlex.split(python("-m", "haan", "train", Path(path)))
    assert words[1:] == ["-m", "haan", "train", f"./{path}" if path[0] in "-~" else path]


def test_the_interpreter_is_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "my bin" / "python"
    own.parent.mkdir()
    own.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(own.parent))
    assert shlex.split(python("x")) == [sys.executable, "x"], "another python would be found"
    monkeypatch.setattr(sys, "executable", str(own.with_name("python3")))
    assert python("x") == "python x"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shlex.split(python("x")) == [str(own.with_name("python3")), "x"], "none would be found"


def test_a_script_is_named_as_it_is_reached_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (ROOT, ROOT / "search", tmp_path):
        monkeypatch.chdir(folder)
        assert in_checkout("search/run.py").samefile(ROOT / "search" / "run.py")
    monkeypatch.chdir(ROOT)
    assert str(in_checkout("search/run.py")) == "search/run.py"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_sentence_fits_its_terminal_and_stays_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Its settings: " + ", ".join(f"loss.part{i} 0.{i} (base 0.0)" for i in range(9))
    monkeypatch.setenv("COLUMNS", "40")
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        tell(text)
        lines = stream.getvalue().splitlines()
        assert " ".join(line.strip() for line in lines) == text
        assert (max(map(len, lines)) <= 40) == (len(lines) > 1) == stream.isatty()


def test_a_table_on_a_terminal_keeps_its_columns_however_narrow_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["method", "mAP@0.5", "avg.mAP"], ["HAAN [bold] without its concepts", "7.00", "12.50"]]
    for name in ("FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "on_terminal", lambda: True)  # a stream that says so itself is given colours
    for width, height in (("80", 1), ("30", 5)):
        monkeypatch.setenv("COLUMNS", width)
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stdout", stream)
        show_table(rows)
        head, rule, *lines = [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]
        assert max(map(len, (head, rule, *lines))) <= int(width) and len(lines) == height
        assert head.split() == rows[0] and set(rule) <= {"─", " "}
        assert " ".join(" ".join(line.replace("7.00", "").replace("12.50", "").split()) for line in lines) == rows[1][0]


def test_a_table_in_a_pipe_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([["method", "avg.mAP"], ["HAAN", "12.50"]])
    assert capsys.readouterr().out == "method  avg.mAP\nHAAN      12.50\n"
