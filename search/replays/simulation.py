"""One replay: the study of the real search, and workers that only seem to train, in virtual time.

The study (`search.study`) proposes trials, hears of each epoch when that epoch would have ended, and prunes by what has
been reported until then. The driver is one process: whatever it does for a worker (hear of an epoch, end a trial, begin
the next) it does one after the other, first come, first served, and the worker waits for it. It takes no time here;
`tests.benchmarks.scale` gives it some. Nothing fails in a replay, and nothing else takes time.
"""

import heapq
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from search.replays.pool import Pool
from search.study.study import Study

NEAR = 0.99  # a trial is good that reaches this share of the best recorded value, where no level is asked for


Work = Literal["begin", "report", "end"]  # what the driver does for a trial
DriverTime = Callable[[Work, float], float]  # virtual seconds of it, where the study alone took so many of CPU time


def free(work: Work, study_s: float) -> float:
    """A driver that takes no time."""
    return 0.0


@dataclass
class Costs:
    """What the study itself took, in CPU seconds, for reports and for all else (asking, ending); and how often."""

    reports: int = 0
    report_s: float = 0.0
    others: int = 0
    other_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.report_s + self.other_s


@dataclass(frozen=True)
class Replay:
    """What came of one replay. Times are virtual seconds but `costs`' and `real_s`.

    best: value of the study's best COMPLETE trial, None without one. proposed: the mean value of all trials' whole
    curves, pruned or not: how good the sampler's proposals were. near_s: when the first trial completed whose value is
    at the level asked for, None if none did; near_results: epochs of all trials that had ended by then. results: those
    that ended in all. busy_s: training of all workers together; full_s: the same had none been pruned. wait_s: of
    all workers together, for the driver to begin their next epoch. driver_s: what the driver was at work.
    """

    trials: int
    complete: int
    pruned: int
    best: float | None
    proposed: float
    end_s: float
    busy_s: float
    full_s: float
    wait_s: float
    driver_s: float
    near_s: float | None
    near_results: int | None
    results: int
    workers: int
    costs: Costs
    real_s: float

    @property
    def idle(self) -> float:
        """The share of the workers' time until the end in which they did not train."""
        return 1 - self.busy_s / (self.workers * self.end_s)


@dataclass
class _Running:
    """A trial under way: its number, its row in the pool, when it began, its last epoch, and what it waited since."""

    number: int
    row: int
    start_s: float
    epoch: int = 0
    wait_s: float = 0.0


class _Simulation:
    """Workers that ask a study for trials and report to it, in the order of virtual time."""

    def __init__(self, study: Study, pool: Pool, trials: int, workers: int, driver: DriverTime, level: float):
        self._study, self._pool, self._trials, self._workers = study, pool, trials, workers
        self._driver = driver
        self._level = level
        self._ends: list[tuple[float, int]] = []  # when a worker's epoch ends; of equal times the lower worker's first
        self._running: dict[int, _Running] = {}
        self._now_s = self._driver_s = self._busy_s = self._full_s = self._wait_s = 0.0
        self._near_s: float | None = None
        self._near_results: int | None = None
        self._asked = self._complete = self._pruned = self._results = 0
        self._proposed = 0.0
        self._costs = Costs()

    def run(self, on_end: Callable[[int], object]) -> Replay:
        """Runs all trials. `_now_s` is when the driver is done with what it does."""
        began = time.perf_counter()
        for worker in range(min(self._workers, self._trials)):
            self._begin(worker, 0.0)
        while self._ends:
            ended_s, worker = heapq.heappop(self._ends)
            one = self._running[worker]
            one.epoch += 1
            pruned = self._hear(one, ended_s)
            if not pruned and one.epoch < self._pool.epochs[one.row]:
                self._wait_s += self._now_s - ended_s
                one.wait_s += self._now_s - ended_s
                self._train(worker, one)
                continue
            self._end(one, pruned, ended_s)
            on_end(self._complete + self._pruned)
            if self._asked < self._trials:
                self._begin(worker, ended_s)
        return self._result(time.perf_counter() - began)

    def _begin(self, worker: int, free_s: float) -> None:
        """A worker that has been free since then gets its next trial."""
        self._asked += 1
        with self._serves("begin"), _timed(self._costs):
            suggestion = self._study.ask()
        self._wait_s += self._now_s - free_s
        one = _Running(suggestion.number, self._pool.nearest(suggestion.params), self._now_s)
        self._proposed += float(self._pool.values[one.row])
        self._full_s += float(self._pool.epochs[one.row] * self._pool.seconds[one.row])
        self._running[worker] = one
        self._train(worker, one)

    def _train(self, worker: int, one: _Running) -> None:
        """The next epoch is under way."""
        trained_s = (one.epoch + 1) * float(self._pool.seconds[one.row])
        heapq.heappush(self._ends, (one.start_s + trained_s + one.wait_s, worker))

    def _hear(self, one: _Running, ended_s: float) -> bool:
        """Hears of an epoch once the driver is free; whether the pruner ends the trial."""
        self._now_s = max(self._now_s, ended_s)
        self._results += 1
        with self._serves("report"):
            return self._report(one)

    def _report(self, one: _Running) -> bool:
        """Reports an epoch that was scored."""
        value = float(self._pool.curves[one.row, one.epoch - 1])
        if math.isnan(value):
            return False
        began = time.thread_time()
        pruned = self._study.report(one.number, one.epoch, value)
        self._costs.report_s += time.thread_time() - began
        self._costs.reports += 1
        return pruned

    def _end(self, one: _Running, pruned: bool, ended_s: float) -> None:
        with self._serves("end"), _timed(self._costs):
            (self._study.prune if pruned else self._study.complete)(one.number, {})
        self._pruned, self._complete = self._pruned + pruned, self._complete + (not pruned)
        self._busy_s += ended_s - one.start_s - one.wait_s
        if self._near_s is None and not pruned and self._pool.values[one.row] >= self._level:
            self._near_s, self._near_results = self._now_s, self._results

    @contextmanager
    def _serves(self, work: Work) -> Iterator[None]:
        """The driver is at work, with the study or alone."""
        before_s = self._costs.total_s
        yield
        took_s = self._driver(work, self._costs.total_s - before_s)
        self._now_s += took_s
        self._driver_s += took_s

    def _result(self, real_s: float) -> Replay:
        best = self._study.best()
        return Replay(
            trials=self._asked,
            complete=self._complete,
            pruned=self._pruned,
            best=None if best is None else best.value,
            proposed=self._proposed / self._asked,
            end_s=self._now_s,
            busy_s=self._busy_s,
            full_s=self._full_s,
            wait_s=self._wait_s,
            driver_s=self._driver_s,
            near_s=self._near_s,
            near_results=self._near_results,
            results=self._results,
            workers=self._workers,
            costs=self._costs,
            real_s=real_s,
        )


@contextmanager
def _timed(costs: Costs) -> Iterator[None]:
    began = time.thread_time()
    yield
    costs.other_s += time.thread_time() - began
    costs.others += 1


def simulate(
    study: Study,
    pool: Pool,
    trials: int,
    workers: int,
    on_end: Callable[[int], object] = lambda ended: None,
    driver: DriverTime = free,
    level: float | None = None,
) -> Replay:
    """Runs so many trials through a study, in virtual time; it is left as a real search would leave it.

    on_end: called with how many trials have ended, as each does. driver: how long it takes for what it does. level: the
    avg.mAP whose first trial is timed; None: within 1 % of the best recorded value.
    """
    return _Simulation(study, pool, trials, workers, driver, NEAR * pool.best if level is None else level).run(on_end)
