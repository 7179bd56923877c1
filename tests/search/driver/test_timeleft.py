"""The one clock of a session, and what it shows as left: numbers worked by hand."""

import math
from dataclasses import replace

import pytest

from search.driver import timeleft
from search.driver.timeleft import Ahead, SessionClock, later_s, mean_rests, ran_s

BEGAN = 1_000_000.0  # Unix seconds; the monotonic clock stands at 500 then


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the session began, as a list of one number that a test may change."""
    now = [0.0]
    monkeypatch.setattr(timeleft.time, "monotonic", lambda: 500 + now[0])
    monkeypatch.setattr(timeleft.time, "time", lambda: BEGAN + now[0])
    return now


def test_a_trial_s_rest_is_the_mean_of_those_that_ran_longer() -> None:
    ended = [4.0, 4.0, 16.0]
    # New: (4 + 4 + 16) / 3 = 8. After 4 s only that of 16 s ran longer: 12 to go; after 10 s, 6; after 20 s none did.
    assert list(mean_rests(ended, [0, 4, 10, 20])) == [8, 12, 6, 0]
    assert list(mean_rests([], [0, 3])) == [0, 0]


def test_a_later_phase_takes_no_less_than_a_run() -> None:
    # 9 runs of 10 s on 2 workers: 45 s. 2 runs on 2, or on 1,000: 10 s. None: nothing.
    assert later_s((9, 2), run_s=10, workers=2) == 45 + 10
    assert later_s((9, 2), run_s=10, workers=1000) == 10 + 10
    assert later_s((0, 2), run_s=10, workers=2) == 10
    assert later_s((), run_s=10, workers=2) == 0


AHEAD = Ahead(ended_s=[4, 4, 16], to_begin=5, running_s=[4, 10], later=(9, 2), run_s=16, workers=2)


def test_time_left_counts_what_is_to_begin_what_runs_and_later_phases() -> None:
    # 5 x 8 s + 12 s + 6 s = 58 s of work, on 2 workers 29 s; then 9 runs (72 s) and 2 (16 s).
    assert AHEAD.left_s() == 29 + 72 + 16
    # The last trial, 12 s before its end, runs alone.
    assert replace(AHEAD, to_begin=0, running_s=[4.0]).left_s() == 12 + 72 + 16
    assert replace(AHEAD, to_begin=0, running_s=[]).left_s() == 72 + 16


def test_a_phase_s_begin_changes_nothing_where_it_has_the_runs_that_were_expected() -> None:
    end_of_search = replace(AHEAD, to_begin=0, running_s=[])
    begin_of_confirmation = Ahead(ended_s=[16], to_begin=9, running_s=[], later=(2,), run_s=16, workers=2)
    assert begin_of_confirmation.left_s() == end_of_search.left_s()
    assert replace(begin_of_confirmation, to_begin=6).left_s() < end_of_search.left_s()  # the base is among the best


def test_the_time_that_a_trial_ran_may_be_cut_at_a_moment(at: list[float]) -> None:
    stretches = [[BEGAN - 30, BEGAN - 10, "a"], [BEGAN - 5, BEGAN + 5, "a"], [BEGAN + 20, None, "b"]]
    at[0] = 27
    assert ran_s(stretches) == 20 + 10 + 7
    assert ran_s(stretches, BEGAN) == 0 + 5 + 7


def test_workers_are_those_that_were_busy_on_average(at: list[float]) -> None:
    clock = SessionClock(8, 500.0)
    at[0] = 10
    assert clock.workers([[[BEGAN, None, "a"]]]) == 8, "as planned before a trial has ended here"
    at[0] = 40
    clock.ended([[BEGAN - 100, BEGAN - 50, "a"], [BEGAN + 20, BEGAN + 40, "a"]])  # 20 s of it here
    # From 20 s on, for 20 s: 20 s of the ended one, 10 s of one that came late.
    assert clock.workers([[[BEGAN + 30, None, "b"]]]) == 30 / 20


def test_a_session_s_clock_goes_on_from_where_it_began(at: list[float]) -> None:
    at[0] = 61
    clock = SessionClock(1, 500.0)
    assert clock.elapsed_s == 61


def test_what_is_shown_runs_down_with_the_clock(at: list[float]) -> None:
    clock = SessionClock(1, 500.0)
    at[0] = 100
    assert clock.shown_s(400) == 400
    at[0] = 130
    assert clock.shown_s(370) == 370


def test_what_is_shown_nears_a_new_estimate_little_by_little(at: list[float]) -> None:
    clock = SessionClock(1, 500.0)
    at[0] = 100
    clock.shown_s(200)
    at[0] = 100.25
    first = clock.shown_s(400)  # a node was lost: a quarter of a second after it
    # The gap is 400 - 199.75; the less of 100.25 s that passed and 400 s is 100.25, a quarter of it 25.0625 s.
    assert first == pytest.approx(400 - 200.25 * math.exp(-0.25 / 25.0625))
    assert first < 202
    shown = [first]
    for second in range(101, 200):
        at[0] = second
        shown.append(clock.shown_s(400 - (second - 100)))
    assert max(b - a for a, b in zip(shown, shown[1:], strict=False)) < 8
    # d gap / gap = -4 dt / t from 100 s to 199 s: (100 / 199) ** 4 of 200 s is left of it.
    assert shown[-1] == pytest.approx(301 - 200 * (100 / 199) ** 4, abs=1)


def test_near_the_end_what_is_shown_follows_at_once(at: list[float]) -> None:
    clock = SessionClock(1, 500.0)
    at[0] = 3600
    clock.shown_s(300)
    at[0] = 3610
    # The gap is 290 - 8 s; a quarter of 8 s is 2 s, so after 10 s exp(-5) of it is left.
    assert clock.shown_s(8) == pytest.approx(8 + 282 * math.exp(-5))
    assert clock.shown_s(0) == 0
