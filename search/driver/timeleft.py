"""The one clock of a session, and how long the search will still take, over all phases that are to come.

The estimate is work over workers. Work, in seconds of one worker: what has yet to begin, at the mean of the trials that
have ended (pruned ones are short); what runs, at the mean rest of those that ran for longer; and the runs of later
phases, each of all epochs. Workers: how many were busy on average since the session's first trial began, so the start
of a worker and a node that came late count.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

_LEAST_S = 1.0  # in which a new estimate begins to show

Stretches = Sequence[Sequence[Any]]  # when and where a trial ran: [start, end or None, node] in Unix seconds


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What a search has before it.

    ended_s: how long each of the phase's ended trials ran, ascending. to_begin: trials of the phase that have not
    begun. running_s: how long each of those under way has run. later: how many runs each later phase has. run_s: of a
    trial of all epochs. workers: trials at once.
    """

    ended_s: Sequence[float]
    to_begin: int
    running_s: Sequence[float]
    later: Sequence[int]
    run_s: float
    workers: float

    def left_s(self) -> float:
        """Seconds; those of this phase no fewer than its longest trial has before it."""
        mean, *rests = mean_rests(self.ended_s, [0.0, *self.running_s])
        work = mean * self.to_begin + sum(rests)
        longest = max([mean] * bool(self.to_begin) + rests, default=0.0)
        return max(work / self.workers, longest) + later_s(self.later, self.run_s, self.workers)


def later_s(later: Sequence[int], run_s: float, workers: float) -> float:
    """Seconds of the later phases; of each no fewer than one run takes."""
    return sum(max(runs / workers, 1.0) * run_s for runs in later if runs)


def mean_rests(ended_s: Sequence[float], ran_s: Iterable[float]) -> Iterator[float]:
    """For a trial that has run for so long, how much longer those took that ran for longer; 0 where none did.

    ended_s: ascending, of all that have ended.
    """
    sums = [0.0, *accumulate(reversed(ended_s))]  # of the longest so many
    for ran in ran_s:
        longer = len(ended_s) - bisect_right(ended_s, ran)
        yield sums[longer] / longer - ran if longer else 0.0


def ran_s(stretches: Stretches, since: float = 0.0) -> float:
    """For how long a trial has run, in seconds: the sum of its `runs`, the open one counted up to now.

    since: Unix seconds; what was before does not count.
    """
    return sum(max((end or time.time()) - max(start, since), 0.0) for start, end, _ in stretches)


class SessionClock:
    """Time since a session began, through all of its phases.

    concurrent: trials at once, as planned. began: a time.monotonic().
    """

    def __init__(self, concurrent: int, began: float):
        self.concurrent, self._began = concurrent, began
        self._began_unix = time.time() - self.elapsed_s
        self._first = math.inf  # when the session's first trial began, in Unix seconds
        self._busy_s = 0.0  # of trials that have ended, all together
        self._shown: tuple[float, float] | None = None  # as left, and when

    @property
    def elapsed_s(self) -> float:
        """Seconds."""
        return time.monotonic() - self._began

    def ended(self, stretches: Stretches) -> None:
        """A trial has ended, which ran so."""
        here = [max(start, self._began_unix) for start, end, _ in stretches if (end or math.inf) > self._began_unix]
        self._first = min([self._first, *here])
        self._busy_s += ran_s(stretches, self._began_unix)

    def workers(self, under_way: Iterable[Stretches]) -> float:
        """How many trials ran at once, on average; as planned before one has ended in this session."""
        span_s = time.time() - self._first
        if not self._busy_s or span_s <= 0:
            return float(self.concurrent)
        return (self._busy_s + sum(ran_s(stretches, self._began_unix) for stretches in under_way)) / span_s

    def shown_s(self, estimate_s: float) -> float:
        """What to show as left: it runs down with the clock and nears the estimate little by little.

        So it never jumps up, neither as a phase begins nor as a long trial ends, and an estimate that stays is shown in
        the end: after t seconds exp(-4 t / the less of the time that passed and the estimate) of the gap is left.
        Where nothing is left it says so at once.
        """
        now = time.monotonic()
        shown_s, when = self._shown or (estimate_s, now)
        gap_s = max(shown_s - (now - when), 0.0) - estimate_s
        calm_s = max(min(self.elapsed_s, estimate_s) / 4, _LEAST_S)
        self._shown = estimate_s + (gap_s * math.exp((when - now) / calm_s) if estimate_s else 0.0), now
        return self._shown[0]
