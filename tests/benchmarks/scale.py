"""What a search loses with many workers: `python -m tests.benchmarks.scale RUN --workers 8,64,1000 [--plot plan.svg]`.

A run's recorded curves are replayed with each number of workers, and the driver counts as one process in virtual time:
Ray Tune's part of its time is given, the study's is measured in the same replay, on a journal on disk. Beside them
stand the serial search (one worker, a driver that costs nothing), which decides with all results at hand, and what a
random sampler proposes.
"""

import json
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
import optuna
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from haan.cli import run, say
from haan.errors import InputError
from haan.files import whole
from search.replays.compare import Progress, Setup, caveats, setups
from search.replays.pool import Pool, read_pool, trust
from search.replays.simulation import Replay, Work, simulate
from search.results.folder import RunFolder, open_study
from search.space.model import Space, front
from search.space.read import read_space
from search.space.studies import study_of
from search.study.algorithms import Component

# CPU time of Ray Tune 2.60's loop on one core of an AMD EPYC with 2 to 24 trials at once, for a result and to end one
# trial and begin the next: `python -m tests.benchmarks.driver`.
RESULT_MS, TURNOVER_MS = 4.5, 50.0
TRIALS_A_WORKER = 2  # for the most workers: fewer would all begin before any has ended
_TIMES = (0.1, 1.0, 10.0)  # epochs so much shorter and longer are drawn beside the replayed ones
_INCHES = (12.0, 4.6)
_STYLE: dict[Any, Any] = {
    "font.size": 10.0,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titleweight": "bold",
    "axes.titlesize": "medium",
    "grid.color": "#d5dae0",
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks the same everywhere
    "svg.hashsalt": "haan",  # the same plan gives the same bytes
}
# What is drawn: the run's search and a random one; epochs that are shorter and longer than its own.
_OURS, _RANDOM, _SHORT, _LONG = "#0072b2", "#d55e00", "#009e73", "#8a63d2"


@dataclass(frozen=True)
class Driver:
    """What the driver takes of virtual time, as `simulate` asks for it.

    result_s: for each epoch that ends. trial_s: for each trial, as it begins. study: whether the CPU time that the
    study itself takes in this replay comes on top; such a replay isn't repeated exactly.
    """

    result_s: float = 0.0
    trial_s: float = 0.0
    study: bool = False

    def __call__(self, work: Work, study_s: float) -> float:
        """Virtual seconds for a piece of work that took the study so many CPU seconds."""
        alone_s = {"begin": self.trial_s, "report": self.result_s, "end": 0.0}[work]
        return alone_s + (study_s if self.study else 0.0)


FREE = Driver()


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


def utilisation(one: Replay) -> float:
    """The share of the time in which the driver was at work."""
    return one.driver_s / one.end_s


def waiting(one: Replay) -> float:
    """The share of the workers' time in which they waited for the driver."""
    return one.wait_s / (one.workers * one.end_s)


def tail(one: Replay) -> float:
    """The share of the workers' time in which no trial was left for them."""
    return one.idle - waiting(one)


def saved(one: Replay) -> float:
    """The share of all trials' full training that pruning saved."""
    return 1 - one.busy_s / one.full_s


def _saved_percent(one: Replay) -> float:
    return 100 * saved(one)


_ROWS: tuple[tuple[str, str, Callable[[Replay], float | None]], ...] = (
    ("study, a report [ms]", ".2f", report_ms),
    ("study, to begin and end a trial [ms]", ".1f", trial_ms),
    ("driver, a report with all else [ms]", ".1f", cost_ms),
    ("driver at work [%]", ".1f", lambda one: 100 * utilisation(one)),
    ("driver saturates at [workers]", ",.0f", saturation),
    ("workers wait for the driver [%]", ".1f", lambda one: 100 * waiting(one)),
    ("workers idle, no trial left [%]", ".1f", lambda one: 100 * tail(one)),
    ("until the end [h]", ".3g", lambda one: one.end_s / 3600),
    ("until 99 % of the best recorded [h]", ".3g", lambda one: None if one.near_s is None else one.near_s / 3600),
    ("trials pruned [%]", ".1f", lambda one: 100 * one.pruned / one.trials),
    ("mean proposal, whole curve [avg.mAP]", ".2f", lambda one: one.proposed),
    ("best [avg.mAP]", ".2f", lambda one: one.best),
    ("training saved by pruning [%]", ".1f", _saved_percent),
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
    blind = [_cell(replays, ".1f", _saved_percent) for replays in (*found.blind.values(), found.random)]
    rows.append(["the same by a random sampler [%]", *blind[:-1], "", blind[-1]])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _cell(replays: Sequence[Replay], form: str, figure: Callable[[Replay], float | None]) -> str:
    known = [value for one in replays if (value := figure(one)) is not None]
    return f"{statistics.fmean(known):{form}}" if known else "never"


def record(found: Plan) -> dict[str, Any]:
    """Every replay, and the figures of the table by number of workers."""

    def column(replays: Sequence[Replay], free: bool) -> dict[str, Any]:
        rows = _ROWS[_FREE_ROWS:] if free else _ROWS
        known = {title: [figure(one) for one in replays] for title, _, figure in rows}
        return {"figures": known, "replays": [asdict(one) for one in replays]}

    return {
        "epoch_s": found.epoch_s,
        "workers": {str(count): column(replays, free=False) for count, replays in found.at.items()},
        "blind": {str(count): column(replays, free=True) for count, replays in found.blind.items()},
        "serial": column(found.serial, free=True),
        "random": column(found.random, free=True),
    }


def draw(found: Plan, to: Path) -> None:
    """The plan's plot as an SVG file."""
    with whole(to) as partial, mpl.rc_context(_STYLE):
        chart(found).savefig(partial, format="svg", metadata={"Date": None, "Creator": None})


def chart(found: Plan) -> Figure:
    """The driver's load; what pruning saves; what the sampler proposes: each against the number of workers."""
    drawn = Figure(_INCHES, layout="constrained")
    load, savings, proposals = drawn.subplots(1, 3)
    _draw_load(load, found)
    _draw_savings(savings, found)
    _draw_proposals(proposals, found)
    for axes in (load, savings, proposals):
        _finish(axes)
    return drawn


def _draw_load(axes: Axes, found: Plan) -> None:
    axes.set(title="Driver at work", ylabel="% of the time", ylim=(0, 100))
    most = max(found.at)
    limit = mean(found.at[most], saturation)
    workers = np.geomspace(1, 10 * most, 81)  # past the most that were replayed
    for factor, color in zip(_TIMES, (_SHORT, _OURS, _LONG), strict=True):
        load = np.minimum(100, 100 * workers / (limit * factor))
        axes.plot(workers, load, color=color, label=f"epochs of {factor * found.epoch_s:.3g} s")
    _dots(axes, found.at, lambda one: 100 * utilisation(one), _OURS, "replayed")


def _draw_savings(axes: Axes, found: Plan) -> None:
    axes.set(title="Training saved by pruning", ylabel="% of all trials' full training", ylim=(0, 100))
    _level(axes, mean(found.random, _saved_percent), _RANDOM, "random sampler, serial")
    _dots(axes, found.blind, _saved_percent, _RANDOM, "random sampler")
    _dots(axes, found.at, _saved_percent, _OURS, "the run's sampler")


def _draw_proposals(axes: Axes, found: Plan) -> None:
    axes.set(title="Mean proposal of the sampler", ylabel="avg.mAP of whole curves (%)")
    _level(axes, mean(found.serial, lambda one: one.proposed), _OURS, "serial search")
    _level(axes, mean(found.random, lambda one: one.proposed), _RANDOM, "random sampler")
    _dots(axes, found.at, lambda one: one.proposed, _OURS, "replayed")


def _dots(axes: Axes, at: dict[int, list[Replay]], figure: Callable[[Replay], float], color: str, label: str) -> None:
    """What was replayed: a mark for each number of workers."""
    counts = sorted(at)
    values = [mean(at[count], figure) for count in counts]
    axes.plot(counts, values, "o-", color=color, linewidth=1, label=label, clip_on=False)


def _level(axes: Axes, value: float, color: str, label: str) -> None:
    """One value, whatever the number of workers."""
    axes.axhline(value, color=color, linestyle="--", label=label)


def _finish(axes: Axes) -> None:
    """Workers along x, from 1 to a power of ten; the key below."""
    high = math.ceil(math.log10(max(2.0, axes.dataLim.x1)) - 1e-9)
    axes.set(xlabel="workers", xscale="log", xlim=(1, 10.0**high), xticks=[10.0**power for power in range(high + 1)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda workers, _: f"{workers:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15))


def main(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")],
    sampler: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    pruner: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    workers: Annotated[str, typer.Option(help="Trials at once, in numbers.")] = "8,64,1000",
    trials: Annotated[
        int | None, typer.Option(help="Trials in each replay. Default: the run's, and at least two a worker.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first repeat. Default: the run's.")] = None,
    repeats: Annotated[int, typer.Option(help="Replays of each, with one seed after another.")] = 1,
    epoch_seconds: Annotated[
        float | None, typer.Option(help="What the median epoch lasts. Default: as recorded.")
    ] = None,
    driver_ms: Annotated[float, typer.Option(help="Ray Tune's time for a result.")] = RESULT_MS,
    turnover_ms: Annotated[float, typer.Option(help="Ray Tune's time to end a trial and begin one.")] = TURNOVER_MS,
    plot: Annotated[Path | None, typer.Option(help="An SVG to draw it into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Plan for many workers: at how many the driver is always at work, and what is lost against a serial search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    counts = _counts(workers)
    _check(repeats, epoch_seconds, driver_ms, turnover_ms, plot)
    folder = RunFolder(run_folder)
    recorded = open_study(folder)
    setup = _setup(folder, sampler, pruner, max(counts), trials, seed)
    space, driver = setup.space, Driver(driver_ms / 1e3, turnover_ms / 1e3, study=True)
    pool = with_epochs_of(read_pool(recorded.get_trials(deepcopy=False), space, str(folder.root)), epoch_seconds)
    replays = num_replays(counts, repeats)
    progress = Progress(replays, replays * space.plan.trials)
    found = plan(space, pool, recorded.study_name, counts, repeats, driver, lambda: progress.watch(space.plan.trials))
    if plot is not None:
        draw(found, plot)
    if as_json:
        say(json.dumps({"run": str(folder.root), "setup": setup.description} | record(found), indent=2))
        return
    for line in [*caveats(pool, trust(pool), space.plan.trials), *_about(setup, found, driver), *table(found)]:
        say(line)


def _counts(text: str) -> list[int]:
    """Numbers of workers, by size, each once. Raises InputError."""
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--workers: must be numbers such as 8 or 8,64,1000, got {text!r}") from None
    if counts[0] < 1:
        raise InputError(f"--workers: must be >= 1, got {counts[0]}")
    return counts


def _check(repeats: int, epoch_s: float | None, driver_ms: float, turnover_ms: float, plot: Path | None) -> None:
    """Raises InputError, naming the option."""
    if repeats < 1:
        raise InputError(f"--repeats: must be >= 1, got {repeats}")
    if epoch_s is not None and not 0 < epoch_s < math.inf:
        raise InputError(f"--epoch-seconds: must be > 0, got {epoch_s}")
    for option, value in (("--driver-ms", driver_ms), ("--turnover-ms", turnover_ms)):
        if not 0 <= value < math.inf:
            raise InputError(f"{option}: must be >= 0, got {value}")
    if plot is not None and not plot.parent.is_dir():
        raise InputError(f"--plot: must be in a folder that is there, got {plot}")


def _setup(
    folder: RunFolder, sampler: str | None, pruner: str | None, most: int, trials: int | None, seed: int | None
) -> Setup:
    """What is replayed: as asked for, or as the run was, with trials enough for the most workers. Raises InputError."""
    budget = max(TRIALS_A_WORKER * most, read_space(folder.space_yaml).plan.trials) if trials is None else trials
    asked = [[] if given is None else [given] for given in (sampler, pruner)]
    known = {setup.name: setup for setup in setups(folder.space_yaml, asked[0], asked[1], budget, seed)}
    return known.get("asked for", known["as run"])


def _about(setup: Setup, found: Plan, driver: Driver) -> list[str]:
    """What was replayed."""
    return [
        f"Plan: {setup.description}, {setup.space.plan.trials} trials, epochs of {found.epoch_s:.3g} s (median)",
        f"Driver: one process; Ray Tune takes {1e3 * driver.result_s:g} ms for a result and {1e3 * driver.trial_s:g} "
        "ms to end and begin a trial, the study what it took here, in CPU time, with its journal on disk",
        "Serial: one worker, a driver that costs nothing",
    ]


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(epilog="Example: python -m tests.benchmarks.scale runs/demo --workers 8,64 --epoch-seconds 30")(main)
    run(app)
