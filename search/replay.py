"""Replays the recorded curves of a run under another sampler, pruner and number of workers, in virtual time.

The study is the one of the real search (`search.study`): it proposes trials, hears of each epoch when that epoch would
have ended, and prunes by what has been reported until then. Only the training is made up:

- A proposed trial gets the curve and the seconds per epoch of the recorded trial nearest to it: each number scaled to
  [0, 1] over its range (by its logarithm on a log scale), a choice at distance 0 or 1, Euclidean.
- A PRUNED trial's curve ends early. It goes on as that of the nearest COMPLETE trial c does: from its last value v at
  epoch e it gains min(1, v / c_e) times what c gains after epoch e, for a trial pruned at half the height of another
  is not to gain all that the other gained.
- FAIL trials, and those with no epoch, are left out; nothing fails in a replay, and nothing takes time but training.

So no replay finds anything better than its pool holds, and a pool of few trials says little.
"""

import heapq
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import typer
from jaxtyping import Float
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from haan.cli import run, say
from haan.errors import InputError
from haan.yamlconfig import override
from search.components import Component
from search.export import open_study
from search.runfolder import RunFolder
from search.space import Space, front, read_space, space_of, space_tree
from search.study import Study

FEW = 10  # fewer COMPLETE trials than this say little
NEAR = 0.99  # a trial is good that reaches this share of the best recorded value
_VAGUE = 0.9  # above this share of a random trial's miss, the nearest trial's tells hardly more
_SAMPLED = 400  # trials that the miss is estimated on
_LARGE = 1000  # trials in all replays; from here on progress is shown
_PROGRESS_S = 10.0
_ESTIMATE_AFTER = 100

# --- the pool ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Parameters to points whose Euclidean distance says how alike two trials are."""

    parameters: Mapping[str, BaseDistribution]

    def point(self, params: Mapping[str, Any]) -> Float[np.ndarray, " axes"]:
        """A number gives one coordinate in [0, 1]; a choice gives one for each of its values, two of them 1 apart."""
        parts = [_coordinates(one, params[key]) for key, one in self.parameters.items()]
        return np.array([coordinate for part in parts for coordinate in part], dtype=float)


def _coordinates(distribution: BaseDistribution, value: Any) -> list[float]:
    if isinstance(distribution, CategoricalDistribution):
        chosen = int(distribution.to_internal_repr(value))
        return [np.sqrt(0.5) * (number == chosen) for number in range(len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, at = distribution.low, distribution.high, value
    if distribution.log:
        low, high, at = np.log(low), np.log(high), np.log(at)
    return [float((at - low) / (high - low)) if high > low else 0.0]


@dataclass(frozen=True, eq=False)
class Pool:
    """Recorded trials, as a replay lends them; a row a trial, by its number.

    curves: avg.mAP in percent by epoch, NaN where none was scored; those of PRUNED trials continued. seconds: of one
    epoch. complete: whether the whole curve was recorded. values: of the whole curve, by the run's objective.
    left_out: trials that FAILed or have no epoch.
    """

    scale: Scale
    points: Float[np.ndarray, "trials axes"]
    curves: Float[np.ndarray, "trials epochs"]
    seconds: Float[np.ndarray, " trials"]
    complete: np.ndarray
    values: Float[np.ndarray, " trials"]
    left_out: int

    @property
    def best(self) -> float:
        """The best value that was recorded: of a COMPLETE trial, for the others' are partly made up."""
        return float(self.values[self.complete].max())

    def nearest(self, params: Mapping[str, Any]) -> int:
        """The row of the recorded trial nearest to these parameters, the first of equals."""
        return _nearest(self.points, self.scale.point(params))

    def __len__(self) -> int:
        return len(self.points)


def read_pool(trials: Sequence[FrozenTrial], space: Space, where: str) -> Pool:
    """The pool of a study's trials. Raises InputError, naming `where`, when it lacks what a replay needs."""
    usable = [one for one in trials if _is_usable(one, space)]
    complete = np.array([one.state == TrialState.COMPLETE for one in usable], dtype=bool)
    if not complete.any():
        raise InputError(f"{where}: must have a COMPLETE trial to replay, got none of {len(trials)}")
    scale = Scale(space.parameters)
    points = np.stack([scale.point(one.params) for one in usable])
    curves = np.stack([_curve(one, space.base.optim.epochs) for one in usable])
    donors = np.flatnonzero(complete)
    for row in np.flatnonzero(~complete):
        donor = donors[_nearest(points[donors], points[row])]
        curves[row] = continued(curves[row], curves[donor])
    values = np.nanmax(curves, axis=1) if space.plan.objective == "best" else _last_values(curves)
    seconds = _epoch_seconds(usable, where)
    return Pool(scale, points, curves, seconds, complete, values, len(trials) - len(usable))


def _is_usable(trial: FrozenTrial, space: Space) -> bool:
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return ended and bool(trial.intermediate_values) and trial.params.keys() >= space.parameters.keys()


def _curve(trial: FrozenTrial, epochs: int) -> Float[np.ndarray, " epochs"]:
    curve = np.full(epochs, np.nan)
    for epoch, value in trial.intermediate_values.items():
        if 1 <= epoch <= epochs:
            curve[epoch - 1] = value
    return curve


def continued(curve: Float[np.ndarray, " epochs"], donor: Float[np.ndarray, " epochs"]) -> Float[np.ndarray, " epochs"]:
    """A curve that ends early (NaN from there on), with min(1, v / c) of what the donor gains from there on.

    v: its last value; c: the donor's in that epoch (before it, where that one was not scored).
    """
    last = int(np.flatnonzero(~np.isnan(curve))[-1])
    value, beside = curve[last], donor[: last + 1]
    scored = beside[~np.isnan(beside)]
    start = scored[-1] if scored.size else 0.0
    share = min(1.0, value / start) if start > 0 else 1.0
    whole = curve.copy()
    whole[last + 1 :] = value + share * (donor[last + 1 :] - start)
    return whole


def _last_values(curves: Float[np.ndarray, "trials epochs"]) -> Float[np.ndarray, " trials"]:
    return np.array([curve[~np.isnan(curve)][-1] for curve in curves])


def _epoch_seconds(trials: Sequence[FrozenTrial], where: str) -> Float[np.ndarray, " trials"]:
    """Seconds of one epoch; the median of the others where a trial has none."""
    attributes = [one.user_attrs for one in trials]
    known = [a["seconds"] / a["epochs"] if a.get("seconds") and a.get("epochs") else np.nan for a in attributes]
    seconds = np.array(known, dtype=float)
    if np.isnan(seconds).all():
        raise InputError(f"{where}: must have trials with their `seconds` and `epochs`, got none")
    return np.where(np.isnan(seconds), np.nanmedian(seconds), seconds)


def _nearest(points: Float[np.ndarray, "trials axes"], point: Float[np.ndarray, " axes"]) -> int:
    return int(np.argmin(np.square(points - point).sum(axis=1)))


@dataclass(frozen=True)
class Trust:
    """How far a recorded trial speaks for its neighbours, in avg.mAP, estimated on the COMPLETE trials.

    nearest: how far a trial's value lies from that of the nearest other one, on average. random: from any other one.
    """

    nearest: float
    random: float


def trust(pool: Pool) -> Trust | None:
    """None with fewer than three COMPLETE trials."""
    rows = np.flatnonzero(pool.complete)
    if len(rows) < 3:
        return None
    rows = np.random.default_rng(0).permutation(rows)[:_SAMPLED]
    points, values = pool.points[rows], pool.values[rows]
    distance = np.square(points[:, None] - points).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    apart = np.abs(values[:, None] - values)
    return Trust(
        nearest=float(np.abs(values - values[distance.argmin(axis=1)]).mean()),
        random=float(apart.sum() / (len(rows) * (len(rows) - 1))),
    )


# --- one replay -------------------------------------------------------------------------------------------------------


@dataclass
class Costs:
    """What the driver itself spent, in real seconds, on reports and on all else (asking, ending); and how often."""

    reports: int = 0
    report_s: float = 0.0
    others: int = 0
    other_s: float = 0.0


@dataclass(frozen=True)
class Replay:
    """What came of one replay. Times are virtual seconds but `costs`' and `real_s`.

    best: value of the study's best COMPLETE trial, None without one. near_s: when the first trial completed whose value
    is within 1 % of the best recorded one, None if none did. busy_s: of all workers together.
    """

    trials: int
    complete: int
    pruned: int
    best: float | None
    end_s: float
    busy_s: float
    near_s: float | None
    workers: int
    costs: Costs
    real_s: float

    @property
    def idle(self) -> float:
        """The share of the workers' time until the end in which they had nothing to do."""
        return 1 - self.busy_s / (self.workers * self.end_s)


@dataclass
class _Running:
    """A trial under way: its number, its row in the pool, when it began, and its last epoch."""

    number: int
    row: int
    start_s: float
    epoch: int = 0


class _Simulation:
    """Workers that ask a study for trials and report to it, in the order of virtual time."""

    def __init__(self, study: Study, pool: Pool, trials: int, workers: int):
        self._study, self._pool, self._trials, self._workers = study, pool, trials, workers
        self._epochs, self._good = pool.curves.shape[1], NEAR * pool.best
        self._ends: list[tuple[float, int]] = []  # when a worker's epoch ends; of equal times the lower worker's first
        self._running: dict[int, _Running] = {}
        self._now_s = self._busy_s = 0.0
        self._near_s: float | None = None
        self._asked = self._complete = self._pruned = 0
        self._costs = Costs()

    def run(self, on_end: Callable[[int], object]) -> Replay:
        """Runs all trials."""
        began = time.perf_counter()
        for worker in range(min(self._workers, self._trials)):
            self._begin(worker)
        while self._ends:
            self._now_s, worker = heapq.heappop(self._ends)
            one = self._running[worker]
            one.epoch += 1
            pruned = self._report(one)
            if not pruned and one.epoch < self._epochs:
                self._train(worker, one)
                continue
            self._end(one, pruned)
            on_end(self._complete + self._pruned)
            if self._asked < self._trials:
                self._begin(worker)
        return self._result(time.perf_counter() - began)

    def _begin(self, worker: int) -> None:
        self._asked += 1
        with _timed(self._costs):
            suggestion = self._study.ask()
        one = _Running(suggestion.number, self._pool.nearest(suggestion.params), self._now_s)
        self._running[worker] = one
        self._train(worker, one)

    def _train(self, worker: int, one: _Running) -> None:
        """The next epoch is under way."""
        heapq.heappush(self._ends, (one.start_s + (one.epoch + 1) * float(self._pool.seconds[one.row]), worker))

    def _report(self, one: _Running) -> bool:
        """Reports an epoch that was scored; whether the pruner ends the trial."""
        value = float(self._pool.curves[one.row, one.epoch - 1])
        if math.isnan(value):
            return False
        began = time.perf_counter()
        pruned = self._study.report(one.number, one.epoch, value)
        self._costs.report_s += time.perf_counter() - began
        self._costs.reports += 1
        return pruned

    def _end(self, one: _Running, pruned: bool) -> None:
        with _timed(self._costs):
            (self._study.prune if pruned else self._study.complete)(one.number, {})
        self._pruned, self._complete = self._pruned + pruned, self._complete + (not pruned)
        self._busy_s += self._now_s - one.start_s
        if self._near_s is None and not pruned and self._pool.values[one.row] >= self._good:
            self._near_s = self._now_s

    def _result(self, real_s: float) -> Replay:
        best = self._study.best()
        return Replay(
            trials=self._asked,
            complete=self._complete,
            pruned=self._pruned,
            best=None if best is None else best.value,
            end_s=self._now_s,
            busy_s=self._busy_s,
            near_s=self._near_s,
            workers=self._workers,
            costs=self._costs,
            real_s=real_s,
        )


@contextmanager
def _timed(costs: Costs) -> Iterator[None]:
    began = time.perf_counter()
    yield
    costs.other_s += time.perf_counter() - began
    costs.others += 1


def simulate(
    study: Study, pool: Pool, trials: int, workers: int, on_end: Callable[[int], object] = lambda ended: None
) -> Replay:
    """Runs so many trials through a study, in virtual time; it is left as a real search would leave it.

    on_end: called with how many trials have ended, as each does.
    """
    return _Simulation(study, pool, trials, workers).run(on_end)


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """One way to run the search: a name for the table, and a space with its sampler, pruner, budget and seed."""

    name: str
    space: Space

    @property
    def description(self) -> str:
        """Sampler and pruner with what was given to them."""
        return f"{_described(self.space.sampler)} + {_described(self.space.pruner)}"


def _described(one: Component) -> str:
    given = ", ".join(
        f"{key}={_described(value) if isinstance(value, Component) else value}" for key, value in one.arguments.items()
    )
    return f"{one.name}({given})" if given else one.name


def setups(path: Path, sampler: str | None, pruner: str | None, trials: int | None, seed: int | None) -> list[Setup]:
    """The run's own sampler and pruner, the ones asked for, and random search without pruning, each once.

    sampler, pruner: a name, or `{name: ..., argument: ...}`. Raises InputError, naming the option.
    """
    read_space(path)  # what is wrong with the file itself is said first, and not of an option
    budget = [] if trials is None else [("--trials", f"search.trials={trials}")]
    own = _read(path, seed, budget)
    wanted = [*_override("sampler", sampler), *_override("pruner", pruner)]
    asked = _read(path, seed, [*budget, *wanted])
    plain = replace(own, sampler=Component("random", {}), pruner=Component("none", {}))
    found: list[Setup] = []
    for name, space in (("as run", own), ("asked for", asked), ("yardstick", plain)):
        if all((space.sampler, space.pruner) != (other.space.sampler, other.space.pruner) for other in found):
            found.append(Setup(name, space))
    return found


def _override(key: str, text: str | None) -> list[tuple[str, str]]:
    if text is None:
        return []
    if text.lstrip().startswith("{"):
        return [(f"--{key}", f"search.{key}={text}")]
    return [(f"--{key}", f"search.{key}={{}}"), (f"--{key}", f"search.{key}.name={text}")]


def _read(path: Path, seed: int | None, overrides: Sequence[tuple[str, str]]) -> Space:
    """A space with `KEY=VALUE` of options put into it. Raises InputError."""
    tree = space_tree(path, seed=seed)
    for option, assignment in overrides:
        override(tree, assignment, option)
    return space_of(tree, path.stem)


def replay(
    setup: Setup, pool: Pool, name: str, workers: int, seed: int, on_end: Callable[[int], object] = lambda ended: None
) -> Replay:
    """One replay of a setup. name: of the recorded study, for Hyperband chooses its brackets by it."""
    space = setup.space
    study = Study.of(space, name=name, journal=None, seed=seed)
    study.start_with(front(space))
    return simulate(study, pool, study.num_left(space.plan.trials), workers, on_end)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over those repeats that have it; sd is 0 for a single one."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """None where no repeat has the figure."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else 0.0, len(known))


@dataclass(frozen=True)
class _Column:
    """A figure of a replay in the table. timed: it is in seconds, and shown in the table's unit of time."""

    title: str
    form: str
    figure: Callable[[Replay], float | None]
    timed: bool = False


_COLUMNS: Mapping[str, _Column] = {
    "best": _Column("best avg.mAP", ".2f", lambda one: one.best),
    "end_s": _Column("until the end [{}]", ".3g", lambda one: one.end_s, timed=True),
    "near_s": _Column("until 99 % of the best recorded [{}]", ".3g", lambda one: one.near_s, timed=True),
    "busy_s": _Column("work of all workers [{}]", ".3g", lambda one: one.busy_s, timed=True),
    "pruned_percent": _Column("pruned [%]", ".0f", lambda one: 100 * one.pruned / one.trials),
    "idle_percent": _Column("idle [%]", ".1f", lambda one: 100 * one.idle),
}
_UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))


def summary(replays: Sequence[Replay]) -> dict[str, Spread | None]:
    """The table's figures of one setup over its repeats; times in virtual seconds."""
    return {key: Spread.of([column.figure(one) for one in replays]) for key, column in _COLUMNS.items()}


def table(found: Mapping[str, Sequence[Replay]]) -> list[str]:
    """Setups by name as aligned lines, one figure a line; mean +- sd over repeats."""
    longest = max(one.end_s for replays in found.values() for one in replays)
    unit, unit_s = next((one for one in _UNITS if longest >= one[1]), _UNITS[-1])
    figures = {name: summary(replays) for name, replays in found.items()}
    rows = [["", *found], ["trials", *(str(replays[0].trials) for replays in found.values())]]
    for key, column in _COLUMNS.items():
        scale = unit_s if column.timed else 1.0
        cells = [_cell(figures[name][key], column.form, scale, len(replays)) for name, replays in found.items()]
        rows.append([column.title.format(unit), *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _cell(spread: Spread | None, form: str, scale: float, repeats: int) -> str:
    if spread is None:
        return "never"
    shown = f"{spread.mean / scale:{form}}" + (
        f" +- {spread.sd / scale:{form.replace('3', '2')}}" if spread.n > 1 else ""
    )
    return shown if spread.n == repeats else f"{shown} ({spread.n} of {repeats})"


def caveats(pool: Pool, known: Trust | None, trials: int) -> list[str]:
    """What the reader must know of the pool before believing a replay of so many trials."""
    complete, whole = int(pool.complete.sum()), len(pool)
    lines = [
        f"Pool: {complete} COMPLETE trials with whole curves, best {pool.best:.2f}; {whole - complete} PRUNED ones, "
        f"continued like the nearest COMPLETE trial; {pool.left_out} left out",
        f"Method: each of the {trials} trials gets the curve of the recorded trial that is nearest in the space",
    ]
    if known is not None:
        lines.append(
            f"Its reach: the value of a COMPLETE trial's nearest other one is {known.nearest:.2f} avg.mAP off on "
            f"average, that of any other one {known.random:.2f}"
        )
    above = int((pool.values > pool.best).sum())
    if complete < FEW:
        lines.append(f"warning: only {complete} trial(s) ran to the end, so this replay knows little")
    if known is not None and known.nearest > _VAGUE * known.random:
        rule = "trials that are near are hardly more alike than others"
        lines.append(f"warning: {rule}, so differences between samplers mean nothing")
    if trials >= whole:
        rule = f"{trials} trials share {whole} curves, so any sampler meets most of them"
        lines.append(f"warning: {rule}: compare times rather than best values")
    if above:
        rule = f"{above} PRUNED trial(s), as continued, end above the best COMPLETE one"
        lines.append(f"warning: {rule}: a best value above {pool.best:.2f} is a guess")
    return lines


# --- command line -----------------------------------------------------------------------------------------------------


class Progress:
    """Tells on standard error how replays go on, and how long they will take; silent while all of them are small."""

    def __init__(self, replays: int, trials: int):
        self._replays, self._large = replays, trials >= _LARGE
        self._begun, self._told = 0, time.monotonic()

    def watch(self, trials: int) -> Callable[[int], None]:
        """What to call as trials of the next replay end."""
        self._begun += 1
        began, marks = time.monotonic(), dict[int, float]()

        def on_end(ended: int) -> None:
            now = time.monotonic()
            marks[ended] = now - began
            if self._large and ended >= _ESTIMATE_AFTER and now - self._told >= _PROGRESS_S:
                self._told = now
                left = remaining_s(marks[ended // 2], marks[ended], ended, trials)
                where = f"replay {self._begun} of {self._replays}: {ended} of {trials} trials"
                say(f"{where} in {now - began:.0f} s, about {left:.0f} s left of it", sys.stderr)

        return on_end


def remaining_s(half_s: float, now_s: float, ended: int, trials: int) -> float:
    """What is left of a replay whose first half of the trials so far took half_s and all of them now_s.

    A trial's cost grows with those before it, so the time is taken as a n + b n^2.
    """
    half = ended // 2
    bend = max(0.0, (now_s / ended - half_s / half) / (ended - half))
    slope = now_s / ended - bend * ended
    return max(0.0, slope * trials + bend * trials**2 - now_s)


def main(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")],
    sampler: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    pruner: Annotated[str | None, typer.Option(help="A name, or YAML as in a space. Default: the run's.")] = None,
    workers: Annotated[int, typer.Option(help="Trials at once.")] = 8,
    trials: Annotated[int | None, typer.Option(help="Trials in each replay. Default: the run's budget.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first repeat. Default: the run's.")] = None,
    repeats: Annotated[int, typer.Option(help="Replays of each setup, with one seed after another.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay a run's recorded curves under another sampler, pruner and number of workers, in virtual time.

    Compares the run's own sampler and pruner, those asked for, and random search without pruning. A proposed trial
    gets the curve of the recorded trial that is nearest in the space; a pruned trial's curve goes on like that of the
    nearest complete one. So nothing better than the best recorded trial can be found, and few trials tell little.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for option, value in (("--workers", workers), ("--repeats", repeats)):
        if value < 1:
            raise InputError(f"{option}: must be >= 1, got {value}")
    folder = RunFolder(run_folder)
    recorded = open_study(folder)
    compared = setups(folder.space_yaml, sampler, pruner, trials, seed)
    space = compared[0].space
    pool = read_pool(recorded.get_trials(deepcopy=False), space, str(folder.root))
    known = trust(pool)
    notes = caveats(pool, known, space.plan.trials)
    if not as_json:
        for line in notes:
            say(line)
    found = _replays(compared, pool, recorded.study_name, workers, repeats)
    if as_json:
        say(json.dumps(_as_json(folder, compared, found, pool, known, notes, workers), indent=2))
        return
    say(f"Replay: {workers} workers, mean +- sd of {repeats} repeats, virtual time")
    for line in [*(f"{one.name}: {one.description}" for one in compared), *table(found), *_costs(found)]:
        say(line)


def _replays(
    compared: Sequence[Setup], pool: Pool, study_name: str, workers: int, repeats: int
) -> dict[str, list[Replay]]:
    progress = Progress(repeats * len(compared), repeats * sum(setup.space.plan.trials for setup in compared))
    found: dict[str, list[Replay]] = {}
    for setup in compared:
        budget, first = setup.space.plan.trials, setup.space.base.seed
        found[setup.name] = [
            replay(setup, pool, study_name, workers, seed, progress.watch(budget))
            for seed in range(first, first + repeats)
        ]
    return found


def _costs(found: Mapping[str, Sequence[Replay]]) -> list[str]:
    """What the replays took in real time, and what the driver's own part of it was."""
    lines = []
    for name, replays in found.items():
        reports, others = (sum(getattr(one.costs, key) for one in replays) for key in ("reports", "others"))
        report_s, other_s = (sum(getattr(one.costs, key) for one in replays) for key in ("report_s", "other_s"))
        real_s = statistics.fmean(one.real_s for one in replays)
        lines.append(
            f"{name}: a replay took {real_s:.3g} s; the study took {1e6 * report_s / reports:.0f} us for a report, "
            f"{1e3 * other_s / others:.2g} ms to begin or end a trial"
        )
    return lines


def _as_json(
    folder: RunFolder,
    compared: Sequence[Setup],
    found: Mapping[str, Sequence[Replay]],
    pool: Pool,
    known: Trust | None,
    notes: Sequence[str],
    workers: int,
) -> dict[str, Any]:
    complete = int(pool.complete.sum())
    counts = {"complete": complete, "pruned": len(pool) - complete, "left_out": pool.left_out}
    return {
        "run": str(folder.root),
        "workers": workers,
        "pool": counts | {"best": pool.best, "trust": asdict(known) if known else None},
        "notes": list(notes),
        "setups": {
            one.name: {
                "sampler": _described(one.space.sampler),
                "pruner": _described(one.space.pruner),
                "summary": {key: asdict(s) if s else None for key, s in summary(found[one.name]).items()},
                "replays": [asdict(each) for each in found[one.name]],
            }
            for one in compared
        },
    }


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    example = "python search/replay.py runs/demo --pruner '{name: hyperband, min_resource: 3}' --workers 64"
    app.command(epilog=f"Example: {example}")(main)
    run(app)
