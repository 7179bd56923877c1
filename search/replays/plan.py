"""What a search loses with many workers: the driver's own cost, and what is decided before the results are in.

Each number of workers is replayed with the driver as one process in virtual time (`simulation.Driver`): Ray
Tune's part of its cost is given, the study's is measured in the same replay, on a journal on disk. Beside them stand
the serial search (one worker, a driver that costs nothing), which decides with all results at hand, and what a random
sampler proposes.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from haan.files import whole
from search.replays.pool import Pool
from search.replays.simulation import FREE, Driver, Replay, simulate
from search.replays.svg import Dots, Level, Line, Panel, drawing
from search.space.model import Space, front
from search.space.studies import study_of
from search.study.algorithms import Component

# CPU time of Ray Tune 2.60's loop on one core of an AMD EPYC with 2 to 24 trials at once, for a result and to end one
# trial and begin the next: `python -m tests.benchmarks.driver`.
RESULT_MS, TURNOVER_MS = 4.5, 50.0
TRIALS_A_WORKER = 2  # in a plan, for the most workers: fewer would all begin before any has ended
_TIMES = (0.1, 1.0, 10.0)  # epochs so much shorter and longer are drawn beside the replayed ones


@dataclass(frozen=True)
class Plan:
    """Replays by number of workers, of one seed or several.

    at: the search itself. serial: with one worker and a driver that costs nothing. random: as serial, by a random
    sampler; blind: the same by number of workers. All of these propose alike, so they differ by pruning alone.
    """

    at: dict[int, list[Replay]]
    blind: dict[int, list[Replay]]
    serial: list[Replay]
    random: list[Replay]
    epoch_s: float


def with_epochs_of(pool: Pool, epoch_s: float | None) -> Pool:
    """The pool with its seconds stretched until the median epoch lasts so long; None leaves them."""
    if epoch_s is None:
        return pool
    return replace(pool, seconds=pool.seconds * (epoch_s / float(np.median(pool.seconds))))


def plan(
    space: Space,
    pool: Pool,
    name: str,
    workers: Sequence[int],
    repeats: int,
    driver: Driver,
    watch: Callable[[], Callable[[int], None]],
) -> Plan:
    """All replays of a plan. name: of the recorded study. watch: called as each begins, for its `on_end`."""
    seeds = range(space.base.seed, space.base.seed + repeats)
    plain = replace(space, sampler=Component("random", {}))

    def replays(one: Space, count: int, by: Driver) -> list[Replay]:
        return [_replay(one, pool, name, count, seed, by, watch()) for seed in seeds]

    return Plan(
        at={count: replays(space, count, driver) for count in workers},
        blind={count: replays(plain, count, FREE) for count in workers},
        serial=replays(space, 1, FREE),
        random=replays(plain, 1, FREE),
        epoch_s=float(np.median(pool.seconds)),
    )


def num_replays(workers: Sequence[int], repeats: int) -> int:
    """How many replays a plan has."""
    return repeats * 2 * (len(workers) + 1)


def _replay(
    space: Space, pool: Pool, name: str, workers: int, seed: int, driver: Driver, on_end: Callable[[int], None]
) -> Replay:
    """One replay, its journal on disk where the study's own time counts."""
    with tempfile.TemporaryDirectory(prefix="haan-replay-") as folder:
        journal = Path(folder, "study.journal") if driver.study else None
        study = study_of(space, name=name, journal=journal, seed=seed)
        study.start_with(front(space))
        return simulate(study, pool, study.num_left(space.plan.trials), workers, on_end, driver)


def mean(replays: Sequence[Replay], figure: Callable[[Replay], float]) -> float:
    """Of a figure over repeats."""
    return statistics.fmean(figure(one) for one in replays)


def report_ms(one: Replay) -> float:
    """What the study takes for a report, in CPU milliseconds."""
    return 1e3 * one.costs.report_s / max(1, one.costs.reports)


def trial_ms(one: Replay) -> float:
    """What the study takes to begin and end a trial, in CPU milliseconds."""
    return 1e3 * one.costs.other_s / one.trials


def cost_ms(one: Replay) -> float:
    """What the driver takes for an epoch's report, its share of beginning and ending trials included; milliseconds."""
    return 1e3 * one.driver_s / one.results


def saturation(one: Replay) -> float:
    """The number of workers at which the driver is always at work: their seconds of training to one of the driver's."""
    return one.busy_s / one.driver_s if one.driver_s else float("inf")


def _saved(one: Replay) -> float:
    return 100 * one.saved


_ROWS: tuple[tuple[str, str, Callable[[Replay], float | None]], ...] = (
    ("study, a report [ms]", ".2f", report_ms),
    ("study, to begin and end a trial [ms]", ".1f", trial_ms),
    ("driver, a report with all else [ms]", ".1f", cost_ms),
    ("driver at work [%]", ".1f", lambda one: 100 * one.utilisation),
    ("driver saturates at [workers]", ",.0f", saturation),
    ("workers wait for the driver [%]", ".1f", lambda one: 100 * one.waiting),
    ("workers idle, no trial left [%]", ".1f", lambda one: 100 * one.tail),
    ("until the end [h]", ".3g", lambda one: one.end_s / 3600),
    ("until 99 % of the best recorded [h]", ".3g", lambda one: None if one.near_s is None else one.near_s / 3600),
    ("trials pruned [%]", ".1f", lambda one: 100 * one.pruned / one.trials),
    ("mean proposal, whole curve [avg.mAP]", ".2f", lambda one: one.proposed),
    ("best [avg.mAP]", ".2f", lambda one: one.best),
    ("training saved by pruning [%]", ".1f", _saved),
)
_FREE_ROWS = 6  # the first so many are of the driver, which costs nothing in the serial search


def table(found: Plan) -> list[str]:
    """Aligned lines, a figure a line and a column for each number of workers; means over repeats."""
    columns = {f"{count} workers": replays for count, replays in found.at.items()}
    columns |= {"serial": found.serial, "serial, random": found.random}
    rows = [["", *columns]]
    for number, (title, form, figure) in enumerate(_ROWS):
        cells = [
            "" if number < _FREE_ROWS and name.startswith("serial") else _cell(replays, form, figure)
            for name, replays in columns.items()
        ]
        rows.append([title, *cells])
    blind = [_cell(replays, ".1f", _saved) for replays in (*found.blind.values(), found.random)]
    rows.append(["the same by a random sampler [%]", *blind[:-1], "", blind[-1]])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _cell(replays: Sequence[Replay], form: str, figure: Callable[[Replay], float | None]) -> str:
    known = [value for one in replays if (value := figure(one)) is not None]
    return f"{statistics.fmean(known):{form}}" if known else "never"


def as_json(found: Plan) -> dict[str, Any]:
    """Every replay, and the figures of the table by number of workers."""

    def figures(replays: Sequence[Replay]) -> dict[str, Any]:
        return {title: [figure(one) for one in replays] for title, _, figure in _ROWS}

    def column(replays: Sequence[Replay], free: bool) -> dict[str, Any]:
        known = figures(replays)
        kept = list(known)[_FREE_ROWS:] if free else list(known)
        return {"figures": {key: known[key] for key in kept}, "replays": [asdict(one) for one in replays]}

    return {
        "epoch_s": found.epoch_s,
        "workers": {str(count): column(replays, free=False) for count, replays in found.at.items()},
        "blind": {str(count): column(replays, free=True) for count, replays in found.blind.items()},
        "serial": column(found.serial, free=True),
        "random": column(found.random, free=True),
    }


def draw(found: Plan, to: Path) -> None:
    """The plan's plot as an SVG file."""
    with whole(to) as partial:
        partial.write_text(drawing(panels(found)), encoding="utf-8")


def panels(found: Plan) -> list[Panel]:
    """The driver's load; what pruning saves; what the sampler proposes: each against the number of workers."""
    counts = sorted(found.at)

    def dots(figure: Callable[[Replay], float], name: str, at: dict[int, list[Replay]] = found.at) -> Dots:
        return Dots(name, [(count, mean(at[count], figure)) for count in counts])

    most = counts[-1]
    limit = mean(found.at[most], saturation)
    load = [
        Line(
            f"epochs of {factor * found.epoch_s:.3g} s",
            [(n, min(100.0, 100 * n / (limit * factor))) for n in _steps(most)],
        )
        for factor in _TIMES
    ]
    serial_mean, random_mean = (mean(one, lambda each: each.proposed) for one in (found.serial, found.random))
    return [
        Panel("Driver at work", "% of the time", [*load, dots(lambda one: 100 * one.utilisation, "replayed")], 0, 100),
        Panel(
            "Training saved by pruning",
            "% of all trials' full training",
            [
                Level("random sampler, serial", mean(found.random, _saved)),
                dots(_saved, "random sampler", found.blind),
                dots(_saved, "the run's sampler"),
            ],
            0,
            100,
        ),
        Panel(
            "Mean proposal of the sampler",
            "avg.mAP of whole curves (%)",
            [
                Level("serial search", serial_mean),
                Level("random sampler", random_mean),
                dots(lambda one: one.proposed, "replayed"),
            ],
        ),
    ]


def _steps(most: int) -> list[float]:
    """Numbers of workers that a curve is drawn through, past the most that were replayed."""
    return [float(n) for n in np.geomspace(1, 10 * most, 81)]
