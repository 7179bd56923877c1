"""What the user is shown while trials run: gathers it from the trials for the screen."""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from haan.words import clock, short
from search.driver.screen import Row, Screen, Status
from search.space.model import SEED
from search.study.record import TrialRecord
from search.trials.bridge import Running

IsBase = Callable[[int, Mapping[str, Any]], bool]

_LAST = 50  # ended trials and failures kept for the screen
_STATUS_S = 0.25  # between two statuses at epochs' ends: one of 1,000 trials costs what Ray Tune takes for a report


@dataclass
class Totals:
    """Sums over the trials that have ended.

    epochs: of a full trial. units: GPUs that a trial takes, or CPUs where it takes none. is_base: whether a trial is
    the base, by its number and parameters. spent_s, saved_s: seconds of one such unit. full_s: of training of COMPLETE
    trials.
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
    history: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many trials have ended."""
        return self.complete + self.pruned + self.failed

    @property
    def base(self) -> float | None:
        """The base's value, with the best trial's seed where a grid lists several."""
        seed = self.best_params.get(SEED) if self.best is not None else None
        return self.base_by_seed.get(seed)

    def add(self, trial: FrozenTrial) -> None:
        """Takes in a trial that has ended."""
        record = TrialRecord.of(trial)
        self.spent_s += self.units * ran_s(record.runs or ())
        if trial.state == TrialState.FAIL:
            self.failed += 1
        elif trial.state == TrialState.PRUNED:
            self.pruned += 1
            self.saved_s += self.units * record.saved_s(self.epochs)
        else:
            self.complete += 1
            self.full_s += record.seconds or 0.0
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


def ran_s(stretches: Sequence[Sequence[Any]]) -> float:
    """For how long a trial has run, in seconds: the sum of its `runs`, the open one counted up to now."""
    return sum((end or time.time()) - start for start, end, _ in stretches)


class Progress:
    """One phase on the screen.

    heading: what stays as it is while the phase goes on. describe: what a trial is called, and its settings. sums: over
    the trials of this phase that an earlier driver finished. searched: what the search found, where that is over.
    under_way, of all below: the trials that have not ended.
    """

    def __init__(
        self,
        screen: Screen,
        heading: Status,
        describe: Callable[[Running], tuple[str, str]],
        sums: Totals,
        searched: Totals | None = None,
    ):
        self._screen, self._heading, self._describe = screen, heading, describe
        self._totals, self._searched = sums, searched
        self._started, self._before, self._shown = time.monotonic(), sums.done, -math.inf
        self._failures: deque[str] = deque(maxlen=_LAST)
        self._last: deque[str] = deque(maxlen=_LAST)

    @property
    def run_s(self) -> float:
        """How long a trial of all epochs takes, in seconds, from those that have ended; 0 before any has."""
        return self._totals.full_s / self._totals.complete if self._totals.complete else 0.0

    def ended(self, running: Running, trial: FrozenTrial, under_way: Collection[Running]) -> None:
        """A trial has ended, `running` to Ray and `trial` to the study: a line of its own, or a new picture."""
        self._totals.add(trial)
        if running.failure is not None:
            self._failures.append(f"trial {running.number}: {running.failure}")
        so_far = clock(time.monotonic() - self._started)
        text = f"[{self._totals.done:3d}/{self._heading.budget} {so_far:>6}] {self._line(running, trial.state)}"
        self._last.append(text)
        self._screen.ended(text, self._status(under_way))

    def over(self, under_way: Collection[Running]) -> None:
        """The phase has ended: nothing runs any more."""
        self._screen.update(replace(self._status(under_way), running=(), left_s=None))

    def reported(self, under_way: Collection[Running]) -> None:
        """An epoch has ended."""
        now = time.monotonic()
        if now - self._shown >= _STATUS_S:
            self._screen.update(self._status(under_way))
            self._shown = now

    def _line(self, running: Running, state: TrialState) -> str:
        summary, best = running.summary, (self._searched or self._totals).best
        value = f"{summary.avg_map:6.2f} at epoch {summary.best_epoch}" if summary.best_epoch else "   none"
        note = f"  {running.failure}" if running.failure else ""
        note += "  collapsed: every clip scored the same" if summary.collapsed_epochs else ""
        note += f"  up to {summary.empty_clusters} clusters without a clip" if summary.empty_clusters else ""
        note += f"  taken up again {len(running.retries)}x" if running.retries else ""
        shown = f"best so far {best[1]:.2f}" if best else "best so far none yet"
        head, tail = self._describe(running)
        return f"{head} {state.name:8s} avg.mAP {value} of {running.epoch}, {shown}  {tail}{note}"

    def _status(self, under_way: Collection[Running]) -> Status:
        counts, elapsed = self._totals, time.monotonic() - self._started
        found = self._searched or counts
        before_s = self._searched.spent_s if self._searched else 0.0
        here = counts.done - self._before
        running_s = sum(ran_s(running.stretches) for running in under_way)
        return replace(
            self._heading,
            done=counts.done,
            complete=counts.complete,
            pruned=counts.pruned,
            failed=counts.failed,
            running=tuple(_row(running, counts.is_base) for running in under_way),
            best=found.best,
            base=found.base,
            history=tuple(found.history),
            best_params=found.best_params,
            spent_s=before_s + counts.spent_s + counts.units * running_s,
            saved_s=found.saved_s,
            elapsed_s=elapsed,
            left_s=elapsed / here * (self._heading.budget - counts.done) if here else None,
            failures=tuple(self._failures),
            last=tuple(self._last),
        )


def _row(running: Running, is_base: IsBase) -> Row:
    return Row(
        number=running.number,
        base=is_base(running.number, running.params),
        epoch=running.epoch,
        epochs=running.epochs,
        value=running.value,
        params=running.params,
        node=running.node,
        seconds=ran_s(running.stretches),
    )


def params(values: Mapping[str, Any]) -> str:
    """Parameters in short."""
    return " ".join(f"{key}={short(value)}" for key, value in values.items())
