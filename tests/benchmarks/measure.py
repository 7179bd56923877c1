"""Ours and its rivals timed in turns in one process, so that a busy machine slows all of them alike.

A ratio is ours / rival, below 1 where ours is faster: the median over rounds of the ratio within a round. What slows
the machine for a while then slows both sides of a ratio; the ratio of two medians would mix good and bad moments.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any, Literal

import faiss
import torch

Work = Callable[[int], object]  # takes the number of the round, from 0
Clock = Literal["wall", "cpu"]  # cpu: of the process, which holds on a busy machine; for works of one thread alone
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Problem:
    """What a work is done on: a short name, and all that one needs to know of it."""

    name: str
    about: str


@dataclass(frozen=True)
class Rival:
    """What ours is held against. limit: the ratio that ours must not exceed, where one is set."""

    name: str
    work: Work
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One work against one rival, at one size.

    ours_s, rival_s: seconds, one a round. threads: of PyTorch and faiss. phases: seconds of each side's phases, round
    by round, where the work has some.
    """

    work: str
    size: str
    about: str
    rival: str
    ours_s: tuple[float, ...]
    rival_s: tuple[float, ...]
    limit: float | None
    clock: Clock
    threads: int
    phases: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Ours / rival, one a round."""
        return [ours / rival for ours, rival in zip(self.ours_s, self.rival_s, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of `ratios`."""
        return median(self.ratios)

    @property
    def ratio_of_fastest(self) -> float:
        """Fastest round of ours / that of the rival: what a busy machine disturbs least."""
        return min(self.ours_s) / min(self.rival_s)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of `ratios` lie between the two."""
        first, _, third = quantiles(self.ratios, n=4, method="inclusive") if len(self.ratios) > 1 else self.ratios * 3
        return first, third

    def record(self) -> dict[str, Any]:
        """Everything, for a JSON file."""
        derived = {"ratio": self.ratio, "quartiles": self.quartiles, "ratio_of_fastest": self.ratio_of_fastest}
        return asdict(self) | derived


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A comparison that this machine can't make."""

    work: str
    size: str
    rival: str
    reason: str


def in_turns(works: Mapping[str, Work], rounds: int, clock: Clock = "wall") -> dict[str, tuple[float, ...]]:
    """Seconds of each work in each round; a round before the first warms up. Every second round goes backwards."""
    now = CLOCKS[clock]
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for i in range(-1, rounds):
        for name in list(works)[:: 1 if i % 2 else -1]:
            start = now()
            works[name](max(i, 0))
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            seconds[name].append(now() - start)
    return {name: tuple(values[1:]) for name, values in seconds.items()}


def compare(
    work: str, problem: Problem, ours: Work, rivals: Sequence[Rival], rounds: int, clock: Clock | None = None
) -> Iterator[Row]:
    """A row a rival, all of them and ours taken in turns; clock: by default CPU time where there is one thread."""
    clock = clock or ("cpu" if torch.get_num_threads() == faiss.omp_get_max_threads() == 1 else "wall")
    seconds = in_turns({"ours": ours} | {rival.name: rival.work for rival in rivals}, rounds, clock)
    for rival in rivals:
        yield Row(
            work=work,
            size=problem.name,
            about=problem.about,
            rival=rival.name,
            ours_s=seconds["ours"],
            rival_s=seconds[rival.name],
            limit=rival.limit,
            clock=clock,
            threads=torch.get_num_threads(),
        )


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch and faiss with so many threads."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(count)
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])
