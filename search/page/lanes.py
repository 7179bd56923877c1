"""Which trial ran when, as the lanes of a timeline."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from search.study.record import Ran, TrialRecord

_LONG_PAUSE = 0.05  # of the busy time; a longer one is drawn shortened


@dataclass(frozen=True)
class Stretch:
    """One stretch in which a trial ran, in drawn seconds after the first began (long pauses of all are shortened).

    lane: among those that ran on this node at once, 0 first. seconds: its true length. given_up: the trial was taken up
    again after it. open: it has no end yet, and is drawn to the last moment known.
    """

    trial: FrozenTrial
    node: str
    lane: int
    start: float
    end: float
    seconds: float
    given_up: bool
    open: bool


@dataclass(frozen=True)
class Timeline:
    """Every stretch, and where (in drawn seconds) nothing ran for how many true seconds."""

    stretches: tuple[Stretch, ...]
    pauses: tuple[tuple[float, float], ...]


def timeline(trials: Sequence[FrozenTrial]) -> Timeline:
    """When and where each trial ran, in lanes of one trial at a time on each node."""
    runs = [(start, end, node, trial, last) for trial in trials for start, end, node, last in _runs(trial)]
    if not runs:
        return Timeline((), ())
    latest = max(end if end is not None else start for start, end, *_ in runs)
    runs.sort(key=lambda run: (run[0], run[3].number))
    drawn, pauses = _shorten([(start, latest if end is None else end) for start, end, *_ in runs])
    free: dict[str, list[float]] = {}
    stretches = []
    for (start, end, node, trial, last), (drawn_start, drawn_end) in zip(runs, drawn, strict=True):
        until = latest if end is None else end
        lanes = free.setdefault(node, [])
        lane = next((i for i, busy in enumerate(lanes) if busy <= start), len(lanes))
        lanes[lane:] = [until, *lanes[lane + 1 :]]
        stretches.append(Stretch(trial, node, lane, drawn_start, drawn_end, until - start, not last, end is None))
    return Timeline(tuple(stretches), tuple(pauses))


def _runs(trial: FrozenTrial) -> list[tuple[float, float | None, str, bool]]:
    """(start, end, node, whether it is the last) of each stretch; Optuna's own times where a study has no others."""
    record = TrialRecord.of(trial)
    runs = record.runs
    if runs is None:
        if trial.datetime_start is None:
            return []
        end = trial.datetime_complete.timestamp() if trial.datetime_complete else None
        runs = (Ran(trial.datetime_start.timestamp(), end, record.node or "node not known"),)
    return [(start, end, node, i == len(runs) - 1) for i, (start, end, node) in enumerate(runs)]


def _shorten(spans: list[tuple[float, float]]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Spans (by start) moved to begin at 0, long idle gaps cut short; (where, true seconds) of each such gap."""
    first, busy_until = spans[0][0], spans[0][0]
    busy, gaps = 0.0, []
    for start, end in spans:
        if start > busy_until:
            gaps.append((busy_until, start))
        busy += max(end - max(start, busy_until), 0.0)
        busy_until = max(busy_until, end)
    longest = _LONG_PAUSE * busy
    long = [(begin, end) for begin, end in gaps if end - begin > longest]

    def drawn(moment: float) -> float:
        return moment - first - sum(end - begin - longest for begin, end in long if end <= moment)

    pauses = [(drawn(begin) + longest / 2, end - begin) for begin, end in long]
    return [(drawn(start), drawn(end)) for start, end in spans], pauses
