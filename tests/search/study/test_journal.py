"""A journal cut anywhere in its last record opens again, nothing whole is lost, and only one driver writes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from haan.errors import InputError
from search.study.journal import Journal, load, only_driver, repair
from tests.paths import ROOT

HOLD = """
import sys, time
from pathlib import Path
from search.study.journal import only_driver
with only_driver(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def real(journal: Path) -> bytes:
    """A study of two finished trials and one under way, as Optuna writes it."""
    study = optuna.create_study(storage=Journal(journal), study_name="demo", direction="maximize")
    for _ in range(3):
        trial = study.ask()
        trial.suggest_float("optim.lr", 1e-5, 1e-3, log=True)
        trial.report(1.5, 1)
        trial.set_user_attr("node", "a\u2028\x85\r b")  # no end of a line, though some readers take them for one
        if trial.number < 2:
            study.tell(trial, 1.5)
    return journal.read_bytes()


def plain(journal: Path) -> optuna.Study:
    """The study as plain Optuna opens it."""
    store = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=None, storage=store)


def known(study: optuna.Study) -> list[tuple[int, str, object]]:
    return [(trial.number, trial.state.name, trial.values) for trial in study.get_trials()]


def assert_takes_more(journal: Path) -> None:
    """It loads in plain Optuna, takes another trial, and loads again with all of it."""
    study = plain(journal)
    before = known(study)
    study.tell(study.ask(), 2.5)
    assert known(plain(journal)) == [*before, (len(before), "COMPLETE", [2.5])]


def numbered(journal: Path) -> list[str]:
    return sorted(path.name for path in journal.parent.glob("*.torn-*"))


def test_a_cut_at_every_byte_of_the_last_record_loses_that_record_alone(tmp_path: Path) -> None:
    whole = real(tmp_path / "whole.journal")
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    assert len(whole) - last > 40
    for cut in range(last + 1, len(whole) - 1):
        journal = tmp_path / f"{cut}" / "study.journal"
        journal.parent.mkdir()
        journal.write_bytes(whole[:cut])
        said = repair(journal)
        assert said is not None and said.startswith(f"{journal}: its last line was incomplete and is trimmed")
        assert journal.read_bytes() == whole[:last]
        assert (journal.parent / "study.journal.torn-1").read_bytes() == whole[:cut]
        if cut % 7 == 0:
            assert_takes_more(journal)


def test_a_cut_between_two_records_or_before_the_last_line_end_loses_nothing(tmp_path: Path) -> None:
    whole = real(tmp_path / "study.journal")
    journal = tmp_path / "cut.journal"
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    journal.write_bytes(whole[:last])
    assert repair(journal) is None and journal.read_bytes() == whole[:last]
    journal.write_bytes(whole[:-1])
    assert repair(journal) == f"{journal}: its last line lacked its end"
    assert journal.read_bytes() == whole
    assert numbered(journal) == []
    assert_takes_more(journal)


def test_an_append_of_several_records_cut_at_every_byte_keeps_those_that_are_whole(tmp_path: Path) -> None:
    head = real(tmp_path / "study.journal")
    backend = JournalFileBackend(str(tmp_path / "study.journal"))
    record = json.loads(head.splitlines()[0])
    backend.append_logs([{**record, "study_name": f"other-{i}"} for i in range(3)])
    whole = (tmp_path / "study.journal").read_bytes()
    for cut in range(len(head), len(whole) + 1):
        journal = tmp_path / f"{cut}" / "study.journal"
        journal.parent.mkdir()
        journal.write_bytes(whole[:cut])
        repair(journal)
        complete = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")  # a lost line end is given back
        assert journal.read_bytes() == b"".join(whole.splitlines(keepends=True)[:complete])


@pytest.mark.parametrize(
    "tail", [b"\0", b"\0" * 5000, b'{"op_code":4,\0\0\0', b"7", b"null", b'"text"', b"[]", b"\xff\xfe"]
)
def test_a_tail_that_is_no_record_is_trimmed(tmp_path: Path, tail: bytes) -> None:
    journal = tmp_path / "study.journal"
    whole = real(journal)
    for end in (b"", b"\n"):
        journal.write_bytes(whole + tail + end)
        assert repair(journal) is not None
        assert journal.read_bytes() == whole
    assert_takes_more(journal)


def test_every_copy_is_kept_under_a_number_of_its_own(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    whole = real(journal)
    for count in (1, 2, 3):
        journal.write_bytes(whole + b"x" * count)
        said = repair(journal)
        assert said is not None and said.endswith(f"the file as it was: study.journal.torn-{count}")
    assert numbered(journal) == [f"study.journal.torn-{count}" for count in (1, 2, 3)]
    assert [(tmp_path / name).read_bytes()[len(whole) :] for name in numbered(journal)] == [b"x", b"xx", b"xxx"]
    assert repair(journal) is None and len(numbered(journal)) == 3


def test_a_damaged_line_before_the_last_is_refused_and_left_alone(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    lines = real(journal).splitlines(keepends=True)
    lines[2] = b"{oops\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(InputError) as raised:
        repair(journal)
    assert str(raised.value) == f"{journal}:3: must be one JSON record a line, got '{{oops\\n'"
    assert journal.read_bytes() == b"".join(lines) and numbered(journal) == []


def test_an_empty_and_a_missing_journal_are_a_new_study(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    assert repair(journal) is None and not journal.exists() and load(journal) is None
    journal.touch()
    assert repair(journal) is None and load(journal) is None
    real(journal)
    found = load(journal)
    assert found is not None and len(found.trials) == 3


def test_an_append_that_fails_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "study.journal"
    real(journal)
    found = load(journal)
    assert found is not None
    before = journal.read_bytes()

    def full(file: int) -> None:  # the record is in the file by then
        assert len(journal.read_bytes()) > len(before)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            found.set_user_attr("a", 1)
    assert journal.read_bytes() == before
    found.set_user_attr("b", 2)
    again = load(journal)
    assert again is not None and again.user_attrs == {"b": 2}


def test_a_lock_of_optunas_that_a_killed_process_left_is_dropped_at_once(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    real(journal)
    lock = tmp_path / "study.journal.lock"
    lock.symlink_to(journal)
    os.utime(lock, (0, 0), follow_symlinks=False)
    began = time.monotonic()
    repair(journal)
    assert time.monotonic() - began < 1 and not lock.is_symlink()
    assert_takes_more(journal)


def test_a_fresh_lock_of_optunas_gets_time_to_go(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    real(journal)
    lock = tmp_path / "study.journal.lock"
    lock.symlink_to(journal)
    began = time.monotonic()
    repair(journal)
    assert 1.5 < time.monotonic() - began < 10 and not lock.is_symlink()


def test_optunas_lock_points_at_the_journal_wherever_the_driver_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its age is that of its target, so a link to nowhere would never be taken for an old one."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    journal = Path("runs") / "study.journal"
    store = Journal(journal)
    monkeypatch.chdir("/")
    seen: list[tuple[str, bool]] = []
    link = os.symlink

    def watched(target: str, name: str) -> None:
        link(target, name)
        seen.append((target, Path(name).exists()))

    monkeypatch.setattr(os, "symlink", watched)
    optuna.create_study(storage=store, study_name="demo")
    assert seen and set(seen) == {(str(tmp_path / journal), True)}
    assert (tmp_path / journal).stat().st_size > 0


def hold(lock: Path) -> "subprocess.Popen[str]":
    """Another process that holds a run folder's lock."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_driver_is_refused_with_the_first_one_named_until_that_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "driver.lock"
    with hold(lock) as holder:
        try:
            refused = pytest.raises(InputError, match=f"one driver at a time, got a second; process {holder.pid} on ")
            with refused, only_driver(lock):
                pass
            assert f"process {holder.pid} on " in lock.read_text()  # who is refused leaves the name of the first
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    with only_driver(lock):
        assert lock.read_text().startswith(f"process {os.getpid()} on ")
    with only_driver(lock):
        assert lock.read_text().count("\n") == 1


def test_interrupted_trials_and_states_survive_a_repair(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    whole = real(journal)
    journal.write_bytes(whole + b'{"op_code":6,"worker_id"')
    repair(journal)
    found = load(journal)
    assert found is not None
    assert [trial.state for trial in found.trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
