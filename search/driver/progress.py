"""What the user is shown while trials run: gathers it from the trials for the screen."""

import math
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.driver.screen import Account, Row, Screen, Status, mark
from search.driver.timeleft import Ahead, SessionClock, later_s, ran_s
from search.space.model import SEED
from search.study.record import TrialRecord
from search.trials.bridge import Running

IsBase = Callable[[int, Mapping[str, Any]], bool]
Shown = tuple[int, bool, Mapping[str, Any]]  # a trial's number in the search, whether it is the base, and its settings

_LAST = 50  # ended trials and failures kept for the screen
_STATUS_S = 0.25  # between two statuses at epochs' ends: one of 1,000 trials costs what Ray Tune takes for a report


@dataclass
class Totals:
    """Sums over the trials that have ended.

    epochs: of a full trial. units: GPUs that a trial takes, or CPUs where it takes none. is_base: whether a trial is
    the base, by its number and parameters. spent_s, saved_s: seconds of one such unit. full_s: for how long COMPLETE
    trials ran, all together, lengths_s: each that has ended, ascending. trained: epochs, all together.
    """

    epochs: int
    units: float
    is_base: IsBase = field(default=lambda number, params: False, repr=False)
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    best: tuple[int, float] | None = None
    best_params: Mapping[str, Any] = field(default_factory=dict)
    base_by_seed: dict[int | None, float] = field(default_factory=dict)
    spent_s: float = 0.0
    saved_s: float = 0.0
    full_s: float = 0.0
    lengths_s: list[float] = field(default_factory=list)
    trained: int = 0
    history: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many trials have ended."""
        return self.complete + self.pruned + self.failed

    @property
    def run_s(self) -> float:
        """How long a trial of all epochs takes, in seconds; by the pace of the others before one has; 0 before any."""
        if self.complete:
            return self.full_s / self.complete
        return sum(self.lengths_s) / self.trained * self.epochs if self.trained else 0.0

    @property
    def base(self) -> float | None:
        """The base's value, with the best trial's seed where a grid lists several."""
        seed = self.best_params.get(SEED) if self.best is not None else None
        return self.base_by_seed.get(seed)

    def add(self, trial: FrozenTrial) -> None:
        """Takes in a trial that has ended."""
        record = TrialRecord.of(trial)
        length_s = ran_s(record.runs or ())
        insort(self.lengths_s, length_s)
        self.spent_s += self.units * length_s
        self.trained += record.epochs or 0
        if trial.state == TrialState.FAIL:
            self.failed += 1
        elif trial.state == TrialState.PRUNED:
            self.pruned += 1
            self.saved_s += self.units * record.saved_s(self.epochs)
        else:
            self.complete += 1
            self.full_s += length_s
            self._compare(trial)
        if self.best is not None:
            self.history.append(self.best[1])

    def _compare(self, trial: FrozenTrial) -> None:
        assert trial.value is not None
        if self.is_base(trial.number, trial.params):
            self.base_by_seed[trial.params.get(SEED)] = trial.value
        if self.best is None or trial.value > self.best[1]:
            self.best, self.best_params = (trial.number, trial.value), trial.params


def totals(ended: Sequence[FrozenTrial], epochs: int, units: float, is_base: IsBase) -> Totals:
    """Sums over trials that have ended; for the rest see Totals."""
    found = Totals(epochs, units, is_base)
    for trial in ended:
        found.add(trial)
    return found


class Progress:
    """One phase on the screen.

    heading: what stays as it is while the phase goes on. describe: what a trial is called, and its settings. sums: over
    the trials of this phase that an earlier driver finished. clock: of the session. searched: what the search
    found, where that is over. later: how many runs each later phase has. stops: what ends the phase before all its
    trials are tried, in words. as_row: a trial under way as the screen has it. earlier_s: what phases between the
    search and this one took, in seconds of one unit. enough_epochs: of trials that ended, after which none begins.
    under_way, of all below: the trials that have not ended.
    """

    def __init__(
        self,
        screen: Screen,
        heading: Status,
        describe: Callable[[Running], tuple[str, Sequence[str]]],
        sums: Totals,
        clock: SessionClock,
        searched: Totals | None = None,
        later: Sequence[int] = (),
        stops: Callable[[], str] = str,
        *,
        as_row: Callable[[Running], Shown] | None = None,
        earlier_s: float = 0.0,
        enough_epochs: int | None = None,
    ):
        self._screen, self._heading, self._describe = screen, heading, describe
        self._totals, self._clock, self._searched, self._later = sums, clock, searched, later
        self._stops, self._earlier_s, self._enough_epochs = stops, earlier_s, enough_epochs
        self._as_row = as_row or (lambda running: (running.number, False, running.params))
        self._shown = -math.inf
        self._failures: deque[str] = deque(maxlen=_LAST)
        self._last: deque[Account] = deque(maxlen=_LAST)

    @property
    def later_s(self) -> float:
        """How long the later phases are expected to take, in seconds; 0 before a trial has ended."""
        counts = self._searched or self._totals
        return later_s(self._later, counts.run_s, self._clock.concurrent)

    def to_begin(self, under_way: Collection[Running]) -> int:
        """How many trials of this phase have not begun."""
        return max(self._heading.budget - self._totals.done - len(under_way), 0)

    def _expected(self, under_way: Collection[Running]) -> int:
        """How many of them will begin, where all train as many epochs as those that ended did on average."""
        most, counts = self.to_begin(under_way), self._totals
        if self._enough_epochs is None or not counts.trained:
            return most
        trials = (self._enough_epochs - counts.trained) * counts.done / counts.trained
        return min(most, max(math.ceil(trials) - len(under_way), 0))

    def suffice(self, under_way: int) -> int:
        """No trial comes but so many; how many there were to be beside them."""
        before, self._heading = self._heading.budget, replace(self._heading, budget=self._totals.done + under_way)
        return before - self._heading.budget

    def ended(self, running: Running, trial: FrozenTrial, under_way: Collection[Running]) -> None:
        """A trial has ended, `running` to Ray and `trial` to the study: a line of its own, or a new picture."""
        self._totals.add(trial)
        self._clock.ended(running.stretches)
        if running.failure is not None:
            self._failures.append(f"trial {running.number}: {running.failure}")
        status = self._status(under_way)
        account = self._account(running, trial.state, f"{mark(status)} ")
        self._last.append(account)
        self._screen.ended(account, replace(status, last=tuple(self._last)))

    def over(self, under_way: Collection[Running]) -> None:
        """The phase has ended: nothing runs any more."""
        self._screen.update(replace(self._status(under_way), running=()))

    def reported(self, under_way: Collection[Running]) -> None:
        """An epoch has ended, or a few seconds have."""
        now = time.monotonic()
        if now - self._shown >= _STATUS_S:
            self._screen.update(self._status(under_way))
            self._shown = now

    def _account(self, running: Running, state: TrialState, before: str) -> Account:
        summary = running.summary
        value = f"{summary.avg_map:6.2f}" if summary.best_epoch else "  none"
        whole = running.epoch >= running.epochs
        # A repetition counts at the epoch of the mean over its seeds, which the last of them tells.
        own = "its own best " if self._heading.stage == "confirm" and summary.objective == "best" else ""
        at = f"at {own}epoch {summary.best_epoch}{'' if whole else ','} " if summary.best_epoch else ""
        notes = [running.failure] if running.failure else []
        notes += ["collapsed: every clip scored the same"] if summary.collapsed_epochs else []
        notes += [f"up to {summary.empty_clusters} clusters without a clip"] if summary.empty_clusters else []
        notes += [f"taken up again {len(running.retries)}x"] if running.retries else []
        head, settings = self._describe(running)
        return Account(
            facts=f"{before}{head} {state.name:8s} avg.mAP {value}",
            epochs=f"{at}of {running.epoch}" if whole else f"{at}after {running.epoch} of {running.epochs}",
            best=self._best_so_far(),
            notes=tuple(notes),
            settings=tuple(settings),
        )

    def _best_so_far(self) -> str:
        """In words; nothing in a confirmation, whose values are of other seeds or videos than the search's best."""
        if self._searched:
            return ""
        return f"best so far {self._totals.best[1]:.2f}" if self._totals.best else "best so far none yet"

    def _status(self, under_way: Collection[Running]) -> Status:
        counts = self._totals
        found = self._searched or counts
        own_s = counts.spent_s + counts.units * sum(ran_s(running.stretches) for running in under_way)
        search_s = self._searched.spent_s if self._searched else own_s
        return replace(
            self._heading,
            done=counts.done,
            complete=counts.complete,
            pruned=counts.pruned,
            failed=counts.failed,
            running=tuple(_row(running, self._as_row(running)) for running in under_way),
            best=found.best,
            base=found.base,
            history=tuple(found.history),
            best_params=found.best_params,
            spent_s=own_s + (search_s + self._earlier_s if self._searched else 0.0),
            search_s=search_s,
            saved_s=found.saved_s,
            epochs=counts.trained + sum(running.epoch for running in under_way),
            elapsed_s=self._clock.elapsed_s,
            left_s=self._left_s(under_way),
            failures=tuple(self._failures),
            last=tuple(self._last),
            stops=self._stops(),
        )

    def _left_s(self, under_way: Collection[Running]) -> float | None:
        ahead = self._ahead(under_way)
        return self._clock.shown_s(ahead.left_s()) if ahead.run_s else None

    def _ahead(self, under_way: Collection[Running]) -> Ahead:
        """All that is to come. In a confirmation run_s is the search's, until one of its runs has ended."""
        counts = self._totals
        run_s = counts.run_s or (self._searched.run_s if self._searched else 0.0)
        return Ahead(
            ended_s=counts.lengths_s or [run_s],
            to_begin=self._expected(under_way),
            running_s=[ran_s(running.stretches) for running in under_way],
            later=self._later,
            run_s=run_s,
            workers=self._clock.workers([running.stretches for running in under_way]),
        )


def _row(running: Running, shown: Shown) -> Row:
    number, base, params = shown
    return Row(
        number=number,
        base=base,
        epoch=running.epoch,
        epochs=running.epochs,
        value=running.value,
        params=params,
        node=running.node,
        seconds=ran_s(running.stretches),
    )
