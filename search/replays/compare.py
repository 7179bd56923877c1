"""Samplers and pruners compared on one run's recorded curves: how often, in which columns, said how."""

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import optuna

from haan.cli import say, show_table, tell
from haan.yamlconfig import Option, override
from search.replays.pool import Pool, Trust, read_pool, trust
from search.replays.simulation import NEAR, Replay, simulate
from search.results.folder import RunFolder
from search.space.model import Space, in_words
from search.space.read import space_of, space_tree
from search.space.studies import begin, study_of
from search.study.algorithms import Component

FEW = 10  # fewer COMPLETE trials than this say little
_VAGUE = 0.9  # above this share of a random trial's miss, the nearest trial's tells hardly more
_LARGE = 1000  # trials in all replays; from here on progress is shown
REPEATS = 5  # of a comparison
_PROGRESS_S = 10.0
_ESTIMATE_AFTER = 100
_Given = tuple[Option, tuple[str, ...], str, Any]  # an option; the key that it sets, what to, and the key's type
AS_RUN, ASKED, YARDSTICK = "as run", "asked for", "yardstick"
_UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0))


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


def setups(
    path: Path, samplers: Sequence[str], pruners: Sequence[str], trials: int | None, seed: int | None
) -> list[Setup]:
    """The run's own sampler and pruner, all pairs of those asked for, and random search without pruning, each once.

    samplers, pruners: names, or `{name: ..., argument: ...}`; none: the run's own. Raises InputError, naming the
    option.
    """
    space_of(space_tree(path), path.stem, follow=False)  # what is wrong with the file itself is said of no option
    budget: list[_Given] = []
    if trials is not None:
        budget.append((Option("--trials"), ("search", "trials"), str(trials), int))
    own = _read(path, seed, budget)
    asked = [
        _read(path, seed, [*budget, *_override("sampler", sampler), *_override("pruner", pruner)])
        for sampler, pruner in product(samplers or [None], pruners or [None])
    ]
    plain = replace(own, sampler=Component("random", {}), pruner=Component("none", {}))
    found: list[Setup] = []
    for name, space in ((AS_RUN, own), *((ASKED, one) for one in asked), (YARDSTICK, plain)):
        if all((space.sampler, space.pruner) != (other.space.sampler, other.space.pruner) for other in found):
            found.append(Setup(name, space))
    return found if len(asked) == 1 else _named(found)


def _named(found: Sequence[Setup]) -> list[Setup]:
    """Several that were asked for bear the names of their sampler and pruner; of equal names the later a number."""
    named, counts = list[Setup](), Counter[str]()
    for setup in found:
        name = setup.name
        if name == ASKED:
            name = f"{setup.space.sampler.name} + {setup.space.pruner.name}"
            counts[name] += 1
            name += f" #{counts[name]}" if counts[name] > 1 else ""
        named.append(replace(setup, name=name))
    return named


def _override(key: str, text: str | None) -> list[_Given]:
    if text is None:
        return []
    option = Option(f"--{key}")
    if text.lstrip().startswith("{"):
        return [(option, ("search", key), text, Any)]
    return [(option, ("search", key), "{}", Any), (option, ("search", key, "name"), text, str)]


def _read(path: Path, seed: int | None, given: Sequence[_Given]) -> Space:
    """A space with the values of options put into it; the run's own pruner judges as it did. Raises InputError."""
    tree = space_tree(path, seed=seed)
    for option, key, text, kind in given:
        override(tree, key, text, kind, option)
    return space_of(tree, path.stem, follow=any(key[:2] == ("search", "pruner") for _, key, _, _ in given))


def replay(
    setup: Setup,
    pool: Pool,
    name: str,
    workers: int,
    seed: int,
    on_end: Callable[[int], object] = lambda ended: None,
    level: float | None = None,
) -> Replay:
    """One replay of a setup, and when it reached a level.

    name: of the recorded study, for Hyperband chooses its brackets by it. level: see `simulate`.
    """
    space = setup.space
    study = study_of(space, name=name, journal=None, seed=seed)
    begin(study, space)
    return simulate(study, pool, study.num_left(space.plan.trials), workers, on_end, level=level)


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
    "end_s": _Column("until the end [{unit}]", ".3g", lambda one: one.end_s, timed=True),
    "near_s": _Column("until {level} [{unit}]", ".3g", lambda one: one.near_s, timed=True),
    "near_results": _Column("trial-epochs until {level}", ".0f", lambda one: one.near_results),
    "results": _Column("trial-epochs", ".0f", lambda one: one.results),
    "busy_s": _Column("work of all workers [{unit}]", ".3g", lambda one: one.busy_s, timed=True),
    "pruned_percent": _Column("pruned [%]", ".0f", lambda one: 100 * one.pruned / one.trials),
    "idle_percent": _Column("idle [%]", ".1f", lambda one: 100 * one.idle),
}


def summary(replays: Sequence[Replay]) -> dict[str, Spread | None]:
    """The table's figures of one setup over its repeats; times in virtual seconds."""
    return {key: Spread.of([column.figure(one) for one in replays]) for key, column in _COLUMNS.items()}


def table(found: Mapping[str, Sequence[Replay]], level: float | None = None) -> list[list[str]]:
    """Setups by name as columns, one figure a row; mean ± sd over repeats. level: that the replays were timed to."""
    longest = max(one.end_s for replays in found.values() for one in replays)
    unit, unit_s = next((one for one in _UNITS if longest >= one[1]), _UNITS[-1])
    aim = f"{NEAR:.0%} of the best recorded".replace("%", " %") if level is None else f"avg.mAP {level:g}"
    figures = {name: summary(replays) for name, replays in found.items()}
    rows = [["", *found], ["trials", *(str(replays[0].trials) for replays in found.values())]]
    for key, column in _COLUMNS.items():
        scale = unit_s if column.timed else 1.0
        cells = [_cell(figures[name][key], column.form, scale, len(replays)) for name, replays in found.items()]
        rows.append([column.title.format(unit=unit, level=aim), *cells])
    return rows


def _cell(spread: Spread | None, form: str, scale: float, repeats: int) -> str:
    if spread is None:
        return "never"
    shown = f"{spread.mean / scale:{form}}" + (
        f" ± {spread.sd / scale:{form.replace('3', '2')}}" if spread.n > 1 else ""
    )
    return shown if spread.n == repeats else f"{shown} ({spread.n} of {repeats})"


def caveats(pool: Pool, known: Trust | None, trials: int, level: float | None = None) -> list[str]:
    """What the reader must know of the pool before believing a replay of so many trials, timed to a level."""
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
    if level is not None and level > pool.best:
        lines.append(f"warning: no trial ran to the end with avg.mAP {level:g} or more; the best has {pool.best:.2f}")
    if above:
        rule = f"{above} PRUNED trial(s), as continued, end above the best COMPLETE one"
        lines.append(f"warning: {rule}: a best value above {pool.best:.2f} is a guess")
    return lines


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


def compare(
    folder: RunFolder,
    recorded: optuna.Study,
    compared: Sequence[Setup],
    workers: int,
    repeats: int,
    level: float | None,
    as_json: bool,
) -> None:
    """Replays the setups beside one another, and says what came of it. level: avg.mAP, or None; see `simulate`."""
    space = compared[0].space
    pool = read_pool(recorded.get_trials(deepcopy=False), space, str(folder.root))
    known = trust(pool)
    notes = caveats(pool, known, space.plan.trials, level)
    if not as_json:
        for line in notes:
            tell(line)
    found = _replays(compared, pool, recorded.study_name, workers, repeats, level)
    if as_json:
        about = {"run": str(folder.root), "workers": workers, "level": level}
        say(json.dumps(about | _as_json(compared, found, pool, known, notes), indent=2))
        return
    tell(f"Replay: {workers} workers, mean ± sd of {repeats} repeats, virtual time; {in_words(space)}")
    for setup in compared:
        tell(f"{setup.name}: {setup.description}")
    show_table(table(found, level))
    for line in _costs(found):
        tell(line)


def _replays(
    compared: Sequence[Setup], pool: Pool, study_name: str, workers: int, repeats: int, level: float | None
) -> dict[str, list[Replay]]:
    progress = Progress(repeats * len(compared), repeats * sum(setup.space.plan.trials for setup in compared))
    found: dict[str, list[Replay]] = {}
    for setup in compared:
        budget, first = setup.space.plan.trials, setup.space.base.seed
        found[setup.name] = [
            replay(setup, pool, study_name, workers, seed, progress.watch(budget), level)
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
    compared: Sequence[Setup],
    found: Mapping[str, Sequence[Replay]],
    pool: Pool,
    known: Trust | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    complete = int(pool.complete.sum())
    counts = {"complete": complete, "pruned": len(pool) - complete, "left_out": pool.left_out}
    return {
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
