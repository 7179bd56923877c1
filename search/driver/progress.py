"""What the user is shown while trials run: gathers it from the study and the bridge for the screen."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from haan.words import clock, short
from search.driver.placement import Share
from search.driver.screen import Row, Screen, Status
from search.study.record import TrialRecord
from search.trials.bridge import Bridge, Running

_LAST = 50  # ended trials and failures kept for the screen
_STATUS_S = 0.25  # between two statuses at epochs' ends: one of 1,000 trials costs what Ray Tune takes for a report


@dataclass
class Totals:
    """Sums over the trials that have ended.

    spent_s, saved_s: seconds of one GPU, or of one CPU where there is none. full_s: of training of COMPLETE trials.
    """

    base_number: int | None = None
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    best: tuple[int, float] | None = None
    best_params: Mapping[str, Any] = field(default_factory=dict)
    base: float | None = None
    spent_s: float = 0.0
    saved_s: float = 0.0
    full_s: float = 0.0
    history: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many trials have ended."""
        return self.complete + self.pruned + self.failed

    def add(self, trial: FrozenTrial, epochs: int, units: float) -> None:
        """Takes in a trial that has ended; `epochs` is what a full one has."""
        record = TrialRecord.of(trial)
        self.spent_s += units * ran_s(record.runs or ())
        if trial.state == TrialState.FAIL:
            self.failed += 1
        elif trial.state == TrialState.PRUNED:
            self.pruned += 1
            self.saved_s += units * record.saved_s(epochs)
        else:
            self.complete += 1
            self.full_s += record.seconds or 0.0
            self._compare(trial)
        if self.best is not None:
            self.history.append(self.best[1])

    def _compare(self, trial: FrozenTrial) -> None:
        assert trial.value is not None
        if trial.number == self.base_number:
            self.base = trial.value
        if self.best is None or trial.value > self.best[1]:
            self.best, self.best_params = (trial.number, trial.value), trial.params


def totals(ended: Sequence[FrozenTrial], epochs: int, units: float, base: int | None) -> Totals:
    """Sums over trials that have ended; `base` is the base's number, if it is one of them."""
    found = Totals(base_number=base)
    for trial in ended:
        found.add(trial, epochs, units)
    return found


def ran_s(stretches: Sequence[Sequence[Any]]) -> float:
    """For how long a trial has run, in seconds: the sum of its `runs`, the open one counted up to now."""
    return sum((end or time.time()) - start for start, end, _ in stretches)


class Progress:
    """One stage on the screen.

    ended: trials of this stage that an earlier driver finished. describe: what a trial is called, and its settings.
    search: what the search found, where this is a later stage.
    """

    def __init__(
        self,
        screen: Screen,
        stage: str,
        name: str,
        where: str,
        budget: int,
        share: Share,
        ended: Sequence[FrozenTrial],
        epochs: int,
        describe: Callable[[Running], tuple[str, str]],
        base: int | None,
        search: Totals | None = None,
    ):
        self._screen, self._stage, self._name, self._where = screen, stage, name, where
        self._budget, self._share, self._epochs, self._describe = budget, share, epochs, describe
        self._started, self._before, self._shown = time.monotonic(), len(ended), -math.inf
        self._failures: deque[str] = deque(maxlen=_LAST)
        self._last: deque[str] = deque(maxlen=_LAST)
        self._totals = totals(ended, epochs, share.units, base)
        self._search, self._base = search, base
        self.bridge: Bridge | None = None

    @property
    def run_s(self) -> float:
        """How long a trial of all epochs takes, in seconds, from those that have ended; 0 before any has."""
        return self._totals.full_s / self._totals.complete if self._totals.complete else 0.0

    def ended(self, running: Running, trial: FrozenTrial) -> None:
        """A trial has ended: a line of its own, or a new picture."""
        self._totals.add(trial, self._epochs, self._share.units)
        if running.failure is not None:
            self._failures.append(f"trial {running.number}: {running.failure}")
        so_far = clock(time.monotonic() - self._started)
        text = f"[{self._totals.done:3d}/{self._budget} {so_far:>6}] {self._line(running, trial.state)}"
        self._last.append(text)
        self._screen.ended(text, self._status())

    def over(self) -> None:
        """The stage has ended: nothing runs any more."""
        self._screen.update(replace(self._status(), running=(), left_s=None))

    def reported(self) -> None:
        """An epoch has ended."""
        now = time.monotonic()
        if now - self._shown >= _STATUS_S:
            self._screen.update(self._status())
            self._shown = now

    def _line(self, running: Running, state: TrialState) -> str:
        summary, best = running.summary, (self._search or self._totals).best
        value = f"{summary.avg_map:6.2f} at epoch {summary.best_epoch}" if summary.best_epoch else "   none"
        note = f"  {running.failure}" if running.failure else ""
        note += "  collapsed: every clip scored the same" if summary.collapsed_epochs else ""
        note += f"  up to {summary.empty_clusters} clusters without a clip" if summary.empty_clusters else ""
        note += f"  taken up again {len(running.retries)}x" if running.retries else ""
        shown = f"best so far {best[1]:.2f}" if best else "best so far none yet"
        head, tail = self._describe(running)
        return f"{head} {state.name:8s} avg.mAP {value} of {running.epoch}, {shown}  {tail}{note}"

    def _status(self) -> Status:
        assert self.bridge is not None
        counts, elapsed = self._totals, time.monotonic() - self._started
        found = self._search or counts
        before_s = self._search.spent_s if self._search else 0.0
        under_way = list(self.bridge.by_id.values())
        here = counts.done - self._before
        running_s = sum(ran_s(running.stretches) for running in under_way)
        left = elapsed / here * (self._budget - counts.done) if here else None
        return Status(
            stage=self._stage,
            name=self._name,
            where=self._where,
            done=counts.done,
            budget=self._budget,
            complete=counts.complete,
            pruned=counts.pruned,
            failed=counts.failed,
            running=tuple(_row(running, self._base) for running in under_way),
            best=found.best,
            base=found.base,
            history=tuple(found.history),
            best_params=found.best_params,
            spent_s=before_s + counts.spent_s + self._share.units * running_s,
            saved_s=found.saved_s,
            unit=self._share.unit,
            elapsed_s=elapsed,
            left_s=left,
            failures=tuple(self._failures),
            last=tuple(self._last),
        )


def _row(running: Running, base: int | None) -> Row:
    return Row(
        number=running.number,
        base=running.number == base,
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
