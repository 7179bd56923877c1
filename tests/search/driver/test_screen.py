"""The one screen of the main job: what it shows, what it never lets through, and how it leaves a terminal."""

import errno
import io
import os
import pty
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from haan.words import clean, clock, hours
from search.driver import screen
from search.driver.screen import Screen, can_be_live
from tests.paths import ROOT
from tests.search.driver.statuses import account, row, status

SIZES = [(80, 24), (120, 40), (40, 20), (20, 6), (250, 60)]
HOSTILE = "[bold red]x[/]\x1b[31m\x1b]0;title\x07\r\n\tend\u202e\ud800 \U0001f9ea\u4e2d\u6587[/nothing]"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Gone(Tty):
    """A terminal that was closed after so many writes."""

    def __init__(self, error: Exception, after: int = 0):
        super().__init__()
        self.error, self.after, self.refused = error, after, 0

    def write(self, text: str) -> int:
        if self.after:
            self.after -= 1
            return super().write(text)
        self.refused += 1
        raise self.error


def console(width: int = 80, height: int = 24, file: io.StringIO | None = None, **environment: str) -> Console:
    environment = {"TERM": "xterm-256color", **environment}
    return Console(file=file or Tty(), width=width, height=height, force_terminal=True, _environ=environment)


def shown(width: int = 80, height: int = 24, slots: int = 2, **changes: Any) -> list[str]:
    """The lines of one live view, without colours."""
    file = Tty()
    to = console(width, height, file)
    to.print(screen.view(status(**changes), width, height - 1, slots, ascii_only=False))
    return ESCAPE.sub("", file.getvalue()).splitlines()


def text(*arguments: Any, **changes: Any) -> str:
    return "\n".join(shown(*arguments, **changes))


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the screen, as a list of one number that a test may change."""
    now = [100.0]
    monkeypatch.setattr(screen, "monotonic", lambda: now[0])
    return now


def test_the_view_shows_everything_that_matters() -> None:
    got = text()
    for part in (
        "demo",
        "Running on a local Ray",
        "6 of 20",
        "3 complete, 2 pruned (33 %), 1 failed, 2 running",
        "24.03, +2.35 against the base's 21.68 (trial 4)",
        "▁▁▅██",  # round((23 - 21.68) / (24.03 - 21.68) * 7) = round(3.93) = 4: the fifth of eight
        "clusters=342 pseudo=0.0131",
        "2.0 GPU-hours, 0.5 saved by pruning (20 % of the search)",
        "1 h 02 min so far, 2 min 05 s left",
        " 3/18    17.50  lr=3e-05 clusters=50",
        "trial 4: loss mil is nan in epoch 1",
        "trial   6 COMPLETE avg.mAP  20.06",
    ):
        assert part in got, part


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("hostile", [False, True])
def test_the_view_fits_its_terminal(width: int, height: int, hostile: bool) -> None:
    running = tuple(row(number, node="n" * 50) for number in range(60))
    changes: dict[str, Any] = {"running": running, "failures": ("x" * 300,) * 3}
    changes |= {"last": (account(1, notes=("y" * 300,)),) * 50}
    if hostile:
        nasty = HOSTILE * 20
        running = tuple(row(number, node=nasty, params={nasty: nasty}) for number in range(60))
        changes |= {"running": running, "name": nasty, "where": nasty, "stage": nasty, "unit": nasty}
        told = account(1, facts=nasty, best=nasty, notes=(nasty,), settings=(nasty,) * 3)
        changes |= {"failures": (nasty,), "last": (told,) * 9, "best_params": {nasty: nasty}}
    lines = shown(width, height, 60, **changes)
    assert len(lines) < height
    assert max(cell_len(line) for line in lines) <= width
    assert {cell_len(line) for line in lines} == {min(width, 180)}


def test_24_rows_hold_every_section() -> None:
    got = text(80, 24, 60, running=tuple(row(number) for number in range(60)))
    assert re.search(r"\.\.\. and 5\d more", got)
    assert "running" in got and "failures" in got and "last ended" in got


def test_a_taller_terminal_shows_more_trials() -> None:
    running = tuple(row(number) for number in range(60))

    def trials(height: int) -> int:
        return sum("/18 " in line for line in shown(80, height, 60, running=running))

    assert 1 <= trials(24) < trials(40) < trials(60)


def test_a_wider_terminal_shows_where_a_trial_runs_and_how_long() -> None:
    assert "1:05  host-a" in text(120, 40)
    assert "host-a" not in text(80, 24)


def test_the_newest_ended_trials_stand_where_not_all_fit() -> None:
    got = text(80, 24, last=tuple(account(i) for i in range(50)))
    assert "trial  49 " in got
    assert "trial   0 " not in got


def test_the_view_keeps_its_height_while_fewer_trials_run() -> None:
    assert len(shown(80, 40, 2, running=(row(6),))) == len(shown(80, 40, 2))


def test_the_live_view_keeps_rows_for_as_many_trials_as_ever_ran_at_once(time: list[float]) -> None:
    file = Tty()
    with Screen(console(height=40, file=file), live=True, quiet=False) as it:
        it.update(status(running=tuple(row(number) for number in range(6)), last=()))
        time[0] += 1
        before = file.tell()
        it.update(status(running=(row(6),), last=()))
        last = file.getvalue()[before:]
    assert ESCAPE.sub("", last).count("\n") + 1 == len(shown(80, 40, 6, running=(row(6),), last=()))
    assert len(shown(80, 40, 6, running=(row(6),), last=())) == len(shown(80, 40, 2, last=())) + 4


PARAMS = {
    "concepts.clusters": 164,
    "concepts.top_k": 4,
    "loss.pseudo": 0.0179,
    "loss.concept": 0.0286,
    "loss.coarse": 0.206,
    "loss.coarse_pooling": "mean",
}


def test_80_columns_show_all_settings_of_the_best_and_of_running_trials() -> None:
    running = (row(6, params=PARAMS), row(7, params=PARAMS))
    lines = shown(80, 24, best_params=PARAMS, running=running, failures=())
    body = [line[2:-2].rstrip() for line in lines]
    at = body.index("         clusters=164 top_k=4 pseudo=0.0179 concept=0.0286 coarse=0.206")
    assert body[at + 1] == "         coarse_pooling=mean"
    at = body.index("      6  ━────────  3/18    17.50  clusters=164 top_k=4 pseudo=0.0179".replace("━──", "━───"))
    assert [line.strip() for line in body[at + 1 : at + 3]] == ["concept=0.0286 coarse=0.206", "coarse_pooling=mean"]
    assert "…" not in "".join(body[2:]), "nothing but where it runs is cut"


def test_where_many_run_their_settings_are_cut_and_the_cut_shows() -> None:
    running = tuple(row(number, params=PARAMS) for number in range(60))
    lines = [line for line in shown(80, 24, 60, running=running) if "/18 " in line]
    assert len(lines) > 3 and all("…" in line for line in lines)


def test_ended_trials_are_shown_with_settings_where_three_fit_so() -> None:
    narrow = text(80, 24)
    assert "trial   6 COMPLETE avg.mAP  20.06 at epoch 14 of 18" in narrow and "top_k=4" not in narrow
    tall = shown(80, 50)
    at = next(number for number, line in enumerate(tall) if "trial   6 COMPLETE" in line)
    assert tall[at + 1][2:-2].rstrip() == "    clusters=164 top_k=4 pseudo=0.0179 concept=0.0286 coarse=0.206"
    assert tall[at + 2][2:-2].rstrip() == "    coarse_pooling=mean"
    assert "20.06 at epoch 14 of 18, clusters=164" in text(180, 40), "one row each where that is wide enough"


def test_facts_that_are_too_long_for_a_line_leave_their_epochs_for_the_next() -> None:
    facts = "[  8/8   2:38] confirm trial 0 (base) COMPLETE avg.mAP  19.13"
    told = account(8, facts=facts, best="", settings=("seed 1 on official videos",))
    assert told.lines(76) == [facts, "    at epoch 14 of 18  seed 1 on official videos"]
    assert told.lines(80) == [f"{facts} at epoch 14 of 18", "    seed 1 on official videos"]
    assert told.lines(120) == [told.line()] == [f"{facts} at epoch 14 of 18, seed 1 on official videos"]


def test_before_the_first_trial_nothing_is_made_up() -> None:
    nothing = {"done": 0, "complete": 0, "pruned": 0, "failed": 0, "best": None, "base": None, "history": ()}
    got = text(**nothing, best_params={}, running=(), failures=(), last=(), spent_s=0, saved_s=0, left_s=None)
    assert "none yet; base not known yet" in got
    assert "0 pruned," in got
    assert "0.000 GPU-hours, 0.000 saved by pruning" in got
    assert "1 h 02 min so far, time left not known yet" in got


def test_a_base_that_is_the_best_so_far_is_called_so() -> None:
    assert "21.68, the base's own (trial 0)" in text(best=(0, 21.68))


def test_a_failed_base_leaves_the_gain_out() -> None:
    assert "24.03, base not known yet (trial 4)" in text(base=None)


def test_confirming_counts_runs_and_prunes_none() -> None:
    got = text(stage="confirm", done=7, budget=18, complete=7, pruned=0, failed=0)
    assert "confirming with new seeds" in got
    assert re.search(r"runs +━+─+ 7 of 18", got)
    assert "7 complete, 0 failed" in got


def test_after_the_search_its_best_is_called_its_own_and_what_seeds_said_stands_below() -> None:
    said = "confirmed 21.79 (trial 4): +1.86 avg.mAP over the base, not distinguishable from noise (95 % interval)"
    got = [line[2:-2].rstrip() for line in shown(stage="final", confirmed=said)]
    at = next(i for i, line in enumerate(got) if line.startswith("search   24.03, +2.35 against the base's 21.68"))
    assert got[at + 2].startswith("         confirmed 21.79 (trial 4): +1.86 avg.mAP over the base")
    assert not any(line.startswith("best ") for line in got)
    assert "the search's best 24.03" in screen.heartbeat(status(stage="confirm"))


def test_what_pruning_saved_is_a_share_of_the_search_in_every_stage() -> None:
    assert "3.0 GPU-hours, 0.5 saved by pruning (20 % of the search)" in text(stage="final", spent_s=10800.0)


def test_the_last_picture_keeps_no_rows_for_trials_and_no_time_left() -> None:
    file = Tty()
    with Screen(console(height=40, file=file), live=True, quiet=False) as it:
        it.update(status(stage="final", left_s=0.0))
        it.update(status(stage="final", left_s=0.0, running=()))
        before = file.tell()
    last = ESCAPE.sub("", file.getvalue()[before:])
    assert "running  epoch" not in last and " left" not in last and "time     1 h 02 min " in last


@pytest.mark.parametrize("history", [(), (20.0,), (20.0,) * 5, (float("-inf"), 20.0, float("nan"), 21.0)])
@pytest.mark.parametrize("budget", [0, 3])
def test_odd_figures_are_drawn_too(history: tuple[float, ...], budget: int) -> None:
    odd = row(1, epoch=5, epochs=0, value=float("nan"))
    assert "of 0" in text(budget=budget, history=history, running=(odd,)) or budget


def test_settings_of_one_name_keep_their_whole_key() -> None:
    got = text(best_params={"detect.alpha": 0.5, "loss.alpha": 0.25, "optim.lr": 1e-4})
    assert "detect.alpha=0.5 loss.alpha=0.25 lr=0.0001" in got


def test_clean_leaves_one_line_without_control_characters() -> None:
    assert clean(HOSTILE) == "[bold red]x[/][31m]0;title   end \U0001f9ea\u4e2d\u6587[/nothing]"
    assert clean("a\x9b31mb\u2028c\x00") == "a31mb c"


def test_clock_by_hand() -> None:
    assert [clock(s) for s in (0, 65.9, 3600, 90061, -1)] == ["0:00", "1:05", "1:00:00", "25:01:01", "0:00"]


def test_hours_by_hand() -> None:
    expected = ["0 s", "59 s", "1 min 05 s", "1 h 00 min", "25 h 01 min", "0 s"]
    assert [hours(s) for s in (0, 59.9, 65.9, 3600, 90061, -1)] == expected


def test_hostile_text_reaches_no_terminal_as_control() -> None:
    file = Tty()
    nasty = status(
        name=HOSTILE,
        where=HOSTILE,
        failures=(HOSTILE,),
        last=(account(1, notes=(HOSTILE,)),),
        best_params={HOSTILE: HOSTILE},
    )
    with Screen(console(file=file), live=True, quiet=False) as it:
        it.update(nasty)
        it.line(HOSTILE)
    got = file.getvalue()
    assert "[bold red]x[/]" in got  # no markup: the words themselves
    assert not set("\x07\x9b\u202e\ud800\t") & set(got)
    assert "\x1b[31mx" not in got and "\x1b]" not in got


def test_plain_lines_have_no_control_characters() -> None:
    file = io.StringIO()
    with Screen(Console(file=file), live=True, quiet=False) as it:
        it.line("Running on \x1b[31ma local Ray")
        it.update(status())
        it.ended(account(1, notes=("x\x1b" * 200,)), status())
    facts = "[  1/20   0:01] trial   1 COMPLETE avg.mAP  20.01 at epoch 14 of 18, best so far 24.03"
    settings = "clusters=164 top_k=4 pseudo=0.0179 concept=0.0286 coarse=0.206 coarse_pooling=mean"
    assert file.getvalue() == f"Running on [31ma local Ray\n{facts}  {'x' * 200}  {settings}\n"


def test_plain_lines_have_a_heartbeat_after_a_minute_of_silence(time: list[float]) -> None:
    file = io.StringIO()
    with Screen(Console(file=file), live=True, quiet=False) as it:
        it.line("Starting 2 worker(s) ...")
        for second in range(0, 250, 5):
            time[0] = 100 + second
            it.update(status(epochs=45, elapsed_s=float(second)))
            if second == 100:
                it.line("a line of another kind")
    assert file.getvalue().splitlines() == [
        "Starting 2 worker(s) ...",
        "[  6/20   1:00] search: 2 running, 45 epochs done, best so far 24.03, 2 min 05 s left",
        "a line of another kind",
        "[  6/20   2:40] search: 2 running, 45 epochs done, best so far 24.03, 2 min 05 s left",
        "[  6/20   3:40] search: 2 running, 45 epochs done, best so far 24.03, 2 min 05 s left",
    ]


@pytest.mark.parametrize(("quiet", "live"), [(True, False), (True, True), (False, True)])
def test_neither_a_quiet_screen_nor_a_live_one_has_a_heartbeat(quiet: bool, live: bool, time: list[float]) -> None:
    file = Tty()
    with Screen(console(file=file), live=live, quiet=quiet) as it:
        for second in range(0, 250, 5):
            time[0] = 100 + second
            it.update(status())
    assert "epochs done" not in file.getvalue()


def test_nothing_beats_where_no_trial_runs_and_nothing_is_made_up(time: list[float]) -> None:
    file = io.StringIO()
    with Screen(Console(file=file), live=True, quiet=False) as it:
        time[0] = 1000
        it.update(status(running=()))
        it.update(status(stage="final", best=None, left_s=None))
    head = "[  6/20 1:02:03] final training on all training videos: 2 running"
    assert file.getvalue() == f"{head}, 0 epochs done, the search's best none yet, time left not known yet\n"


def test_only_a_terminal_that_can_move_its_cursor_is_live() -> None:
    assert can_be_live(console())
    assert not can_be_live(console(TERM="dumb"))
    assert not can_be_live(console(NO_COLOR="1"))
    assert not can_be_live(console(file=io.StringIO(), FORCE_COLOR="1"))  # a log file of a CI server
    assert not can_be_live(Console(file=io.StringIO()))


@pytest.mark.parametrize("live", [True, False])
def test_quiet_says_nothing(live: bool) -> None:
    file = Tty()
    with Screen(console(file=file), live=live, quiet=True) as it:
        it.line("a line")
        it.update(status())
        it.ended(account(1), status())
    assert file.getvalue() == ""


def test_not_live_is_plain_on_a_terminal_too() -> None:
    file = Tty()
    with Screen(console(file=file), live=False, quiet=False) as it:
        it.ended(account(1), status())
        it.line("Running on " + "a long way off " * 6)
    assert file.getvalue().splitlines() == [
        "[  1/20   0:01] trial   1 COMPLETE avg.mAP  20.01 at epoch 14 of 18",
        "    best so far 24.03  clusters=164 top_k=4 pseudo=0.0179 concept=0.0286",
        "    coarse=0.206 coarse_pooling=mean",
        "Running on a long way off a long way off a long way off a long way off a long",
        "    way off a long way off",
    ]


def test_live_shows_lines_above_the_view_and_no_line_for_an_ended_trial() -> None:
    file = Tty()
    with Screen(console(file=file), live=True, quiet=False) as it:
        it.line("before the view")
        it.update(status())
        it.line("above the view")
        it.ended(account(1, notes=("as a plain line",)), status())
    got = ESCAPE.sub("", file.getvalue())
    assert got.index("before the view") < got.index("╭") < got.index("above the view")
    assert "as a plain line" not in got


def test_at_most_four_redraws_a_second(time: list[float]) -> None:
    file = Tty()
    with Screen(console(file=file), live=True, quiet=False) as it:
        for tick in range(200):  # two seconds
            time[0] = 100 + tick / 100
            it.update(status(done=tick))
        drawn = file.getvalue().count("╭")
    assert drawn == 8
    assert "199 of 20" in file.getvalue()  # the newest status stands there in the end


def test_the_stream_is_the_consoles_whatever_stdout_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, elsewhere = Tty(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    with Screen(Console(file=sys.stdout, force_terminal=True, _environ={}), live=True, quiet=False) as it:
        monkeypatch.setattr(sys, "stdout", elsewhere)
        it.update(status())
        sys.stdout.write("chatter")
        it.line("a line")
        assert sys.stdout is elsewhere
    assert elsewhere.getvalue() == "chatter"
    assert "a line" in terminal.getvalue() and "6 of 20" in terminal.getvalue()


@pytest.mark.parametrize(
    "error", [BrokenPipeError(errno.EPIPE, "pipe"), OSError(errno.EIO, "eio"), ValueError("closed")]
)
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("live", [True, False])
def test_a_closed_terminal_silences_the_screen_and_ends_nothing(
    error: Exception, after: int, live: bool, time: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    file = Gone(error, after)
    to = console(file=file)
    with Screen(to, live=live, quiet=False) as it:
        for tick in range(5):
            time[0] += 1
            it.ended(account(tick), status(done=tick))
            it.line("a line")
    assert file.refused == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"the terminal is gone, the search goes on in silence: {error}"
    ]
    assert to.file is file


@pytest.mark.parametrize("live", [True, False])
def test_a_terminal_without_unicode_gets_what_it_can_show(live: bool) -> None:
    class Raw(io.BytesIO):
        def isatty(self) -> bool:
            return True

    raw = Raw()
    to = Console(
        file=io.TextIOWrapper(raw, encoding="ascii"),
        force_terminal=True,
        width=80,
        height=24,
        _environ={"TERM": "xterm"},
    )
    with Screen(to, live=live, quiet=False) as it:
        it.update(status(where="w" * 200))
        it.line("caf\u00e9")
        to.file.flush()
        got = ESCAPE.sub("", raw.getvalue().decode("ascii"))
    assert "caf?" in got
    if live:
        assert re.search(r"#+-+ 6 of 20", got)
        assert got.count("?") == 1  # nothing of the view itself was replaced


INTERRUPTED = """
import sys, time
from rich.console import Console
from search.driver.screen import Screen
from tests.search.driver.statuses import status
try:
    with Screen(Console(file=sys.stdout), live=True, quiet=False) as it:
        while True:
            it.update(status())
            time.sleep(0.01)
except KeyboardInterrupt:
    sys.stdout.write("interrupted\\n")
"""


def test_an_interrupt_leaves_a_real_terminal_sane() -> None:
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=environment | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    got, signalled = b"", False
    while chunk := read(ours):
        got += chunk
        if not signalled and got.count("╭".encode()) >= 2:  # one read may bring several
            process.send_signal(signal.SIGINT)
            signalled = True
    os.close(ours)
    assert process.wait(timeout=30) == 0
    written = got.decode()
    assert "\x1b[?25l" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert written.rindex("\x1b[?25h") < written.rindex("interrupted")
    assert "Traceback" not in written
    assert re.search(r"╯\r\ninterrupted\r\n$", ESCAPE.sub("", written))  # below the view, not over it


def read(terminal: int) -> bytes:
    """What a terminal got; nothing once the other side is closed."""
    try:
        return os.read(terminal, 65536)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
