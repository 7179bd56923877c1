"""What is gathered for the screen, and how often."""

from collections.abc import Sequence
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.driver import progress, timeleft
from search.driver.progress import Progress, Totals
from search.driver.screen import Account, Status
from search.driver.timeleft import SessionClock
from search.study.record import Summary
from search.trials.bridge import Running


class Seen:
    """A screen that keeps what it is shown."""

    def __init__(self) -> None:
        self.statuses: list[Status] = []
        self.accounts: list[Account] = []

    def update(self, status: Status) -> None:
        self.statuses.append(status)

    def ended(self, account: Account, status: Status) -> None:
        self.accounts.append(account)
        self.update(status)


def test_a_status_is_made_four_times_a_second_however_many_epochs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    seen: Any = Seen()
    heading = Status(stage="search", name="a", where="here", budget=10, unit="CPU")
    shown = Progress(seen, heading, lambda running: ("", ""), Totals(epochs=3, units=1), SessionClock(1, 100.0))
    running = Running(number=0, params={}, epochs=3)
    for epoch in range(1, 101):  # 100 in a second
        running.epoch = epoch
        shown.reported([running])
        now[0] += 0.01
    assert [status.running[0].epoch for status in seen.statuses] in ([1, 26, 51, 76], [1, 27, 53, 79])  # rounding
    shown.over([running])
    assert seen.statuses[-1].running == ()


BEGAN = 1_000_000.0  # Unix seconds; the monotonic clock stands at 100 then


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the session began, as a list of one number that a test may change."""
    now = [0.0]
    for module in (progress, timeleft):
        monkeypatch.setattr(module.time, "monotonic", lambda: 100 + now[0])
        monkeypatch.setattr(module.time, "time", lambda: BEGAN + now[0])
    return now


def ran(number: int, start: float, end: float | None, epoch: int, **changes: Any) -> Running:
    stretch = [BEGAN + start, None if end is None else BEGAN + end, "a"]
    return Running(number=number, params={}, epochs=18, epoch=epoch, stretches=[stretch], **changes)


def told(running: Running, state: TrialState) -> FrozenTrial:
    attributes = {"runs": running.stretches, "epochs": running.epoch, "seconds": 1.0}
    return create_trial(state=state, value=20.0, user_attrs=attributes)


def phase(
    seen: Any, stage: str, clock: SessionClock, budget: int, *rest: Any, settings: Sequence[str] = (), **more: Any
) -> Progress:
    heading = Status(stage=stage, name="a", where="here", budget=budget, unit="CPU")
    sums = Totals(epochs=18, units=1)
    return Progress(seen, heading, lambda running: ("trial", settings), sums, clock, *rest, **more)


def test_the_clock_and_the_time_left_go_on_from_phase_to_phase(at: list[float]) -> None:
    seen: Any = Seen()
    clock = SessionClock(2, 100.0)
    search = phase(seen, "search", clock, 3, None, (4, 2))
    at[0] = 10
    search.reported([ran(0, 0, None, 9), ran(1, 0, None, 9)])
    assert seen.statuses[-1].left_s is None, "nothing has ended"
    at[0] = 20
    first, others = ran(0, 0, 20, 18), [ran(1, 0, None, 17)]
    search.ended(first, told(first, TrialState.COMPLETE), others)
    # Two were busy for 20 s. One more of 20 s, on 2 workers no sooner than in 20 s; then 4 and 2 runs of 20 s: 40 + 20.
    assert (seen.statuses[-1].elapsed_s, seen.statuses[-1].left_s) == (20, 80)
    at[0] = 40
    for number, start, end in ((1, 0, 20), (2, 20, 40)):
        at[0] = end
        one = ran(number, start, end, 18)
        search.ended(one, told(one, TrialState.COMPLETE), [ran(2, 20, None, 0)] if number == 1 else [])
    search.over([])
    at_end = seen.statuses[-1].left_s
    confirm = phase(seen, "confirm", clock, 4, search._totals, (2,))
    at[0] = 41
    confirm.reported([ran(0, 40, None, 1)])
    assert seen.statuses[-1].stage == "confirm" and seen.statuses[-1].elapsed_s == 41
    assert at_end - 1 <= seen.statuses[-1].left_s < at_end


def test_a_budget_of_epochs_says_how_many_trials_are_to_come(at: list[float]) -> None:
    """Of 30 epochs 12 are spent, 6 a trial: three more of 20 s, of which one is under way and 10 s old."""
    seen: Any = Seen()
    search = phase(seen, "search", SessionClock(1, 100.0), 99, None, (), str, enough_epochs=30)
    for number in range(2):
        at[0] = 20 * (number + 1)
        one = ran(number, at[0] - 20, at[0], 6)
        search.ended(one, told(one, TrialState.PRUNED), [])
    at[0] = 50
    search.reported([ran(2, 40, None, 3)])
    assert seen.statuses[-1].left_s == 2 * 20 + 10


def test_an_ended_trial_is_told_by_its_facts_first(at: list[float]) -> None:
    at[0] = 3723
    seen: Any = Seen()
    shown = phase(seen, "search", SessionClock(1, 100.0), 20, settings=("clusters=50", "top_k=5"))
    summary = Summary(best_epoch=14, avg_map=23.614, empty_clusters=3)
    one = ran(0, 0, 20, 18, summary=summary, retries=["its node was lost"])
    shown.ended(one, told(one, TrialState.COMPLETE), [])
    facts = "[  1/20 1:02:03] trial COMPLETE avg.mAP  23.61 at epoch 14 of 18, best so far 20.00"
    notes = "up to 3 clusters without a clip  taken up again 1x"
    assert seen.accounts[0].line() == f"{facts}  {notes}  clusters=50 top_k=5"
    assert seen.statuses[-1].last == tuple(seen.accounts)


def test_a_pruned_trial_is_told_with_the_epochs_that_it_had_before_it(at: list[float]) -> None:
    seen: Any = Seen()
    one = ran(0, 0, 20, 9, summary=Summary(best_epoch=8, avg_map=9.342))
    phase(seen, "search", SessionClock(1, 100.0), 20).ended(one, told(one, TrialState.PRUNED), [])
    assert seen.accounts[0].line() == (
        "[  1/20   0:00] trial PRUNED   avg.mAP   9.34 at epoch 8, after 9 of 18, best so far none yet"
    )


def test_a_repetition_is_not_told_beside_the_best_of_the_search(at: list[float]) -> None:
    seen: Any = Seen()
    clock, one = SessionClock(1, 100.0), ran(0, 0, 20, 18, summary=Summary(best_epoch=14, avg_map=23.614))
    search = phase(seen, "search", clock, 1)
    search.ended(one, told(one, TrialState.COMPLETE), [])
    phase(seen, "confirm", clock, 4, search._totals).ended(one, told(one, TrialState.COMPLETE), [])
    assert seen.accounts[1].line() == "[  1/4   0:00] trial COMPLETE avg.mAP  23.61 at its own best epoch 14 of 18"


def test_what_was_spent_goes_on_from_phase_to_phase_and_what_was_saved_is_the_searchs(at: list[float]) -> None:
    seen: Any = Seen()
    clock, spent = SessionClock(2, 100.0), []
    search = phase(seen, "search", clock, 2)
    # The first is pruned after 3 of 18 epochs in 1 s: the other 15 would have taken 5 s.
    for number, epoch, state in ((0, 3, TrialState.PRUNED), (1, 18, TrialState.COMPLETE)):
        one = ran(number, 0, 20, epoch)
        search.ended(one, told(one, state), [])
    earlier_s = 0.0
    for stage in ("confirm", "final"):
        begun = phase(seen, stage, clock, 1, search._totals, earlier_s=earlier_s)
        one = ran(0, 40, 50, 18)
        begun.reported([ran(0, 40, 40, 0)])
        begun.ended(one, told(one, TrialState.COMPLETE), [])
        spent += [(shown.spent_s, shown.search_s, shown.saved_s) for shown in seen.statuses[-2:]]
        earlier_s += 10.0
    assert spent == [(40, 40, 5), (50, 40, 5), (50, 40, 5), (60, 40, 5)]


def test_a_repetition_under_way_bears_the_number_of_its_trial(at: list[float]) -> None:
    seen: Any = Seen()
    begun = phase(seen, "confirm", SessionClock(1, 100.0), 4, as_row=lambda running: (19, True, {"seed": 2}))
    begun.reported([ran(6, 0, None, 3)])
    (row,) = seen.statuses[-1].running
    assert (row.number, row.base, row.params) == (19, True, {"seed": 2})
