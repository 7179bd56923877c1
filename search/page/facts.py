"""A run folder as facts: what report.py writes down and figures.py draws. Old, interrupted and empty runs included."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from haan.config import Detect
from haan.errors import InputError
from haan.figures.folder import FigureFolder
from haan.files import digest
from search.results.folder import RunFolder
from search.results.ranking import half_width
from search.space.model import Space, base_number
from search.study.record import saved_s
from search.study.study import ranked

LEAST_FOR_IMPORTANCES = 10
_TOP_SHARE, _TOP_LEAST = 0.1, 5  # PED-ANOVA wants five trials at least in the better group
_CONFIRM_COLUMNS = ("trial", "base", "videos", "seed", "state", "avg_map")
_LARGE_SVG = 512 * 2**10  # bytes


@dataclass(frozen=True)
class Importances:
    """PED-ANOVA's share of each parameter (they add up to 1), the largest first; top: trials in the better group."""

    shares: Mapping[str, float]
    complete: int
    top: int


@dataclass(frozen=True)
class Confirmed:
    """One configuration trained again with several seeds; scores are avg.mAP in percent, one a completed seed.

    setting: the one the search `chosen` for it, or the base's `own`. runs: planned seeds.
    """

    number: int
    base: bool
    setting: str
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    runs: int

    @property
    def mean(self) -> float:
        """Percent."""
        return float(np.mean(self.scores))

    @property
    def half_width(self) -> float | None:
        """Of the mean's 95 % t-interval, in percent; None with fewer than two seeds."""
        return half_width(self.scores)


@dataclass(frozen=True)
class Official:
    """One configuration trained on all training videos, scored once on the official validation videos; percent."""

    number: int
    base: bool
    avg_map: float
    own_avg_map: float | None
    by_tiou: tuple[float, ...] | None


@dataclass(frozen=True)
class Confirmation:
    """confirm.csv: the configurations, the best mean first; the official scores; what failed or is not done yet."""

    on_official: bool
    confirmed: tuple[Confirmed, ...]
    official: tuple[Official, ...]
    failures: tuple[tuple[str, str], ...]
    unfinished: int


@dataclass(frozen=True)
class Picture:
    """One of the paper's figures, drawn for the winner. kind: as a data URI names it."""

    caption: str
    kind: str
    content: bytes


@dataclass(frozen=True)
class Findings:
    """A run, read. trials: by number. header: the `# key: value` lines of best.yaml. importances: or why none.

    pictures: or why none.
    """

    space: Space
    study_name: str
    trials: tuple[FrozenTrial, ...]
    attributes: Mapping[str, Any]
    best_yaml: str | None
    header: Mapping[str, str]
    confirmation: Confirmation | None
    importances: Importances | str
    pictures: tuple[Picture, ...] | str

    @cached_property
    def base_number(self) -> int | None:
        """Which trial is the base; None in a grid that leaves it out."""
        return base_number(self.space)

    @cached_property
    def base(self) -> FrozenTrial | None:
        """The base, once it is COMPLETE."""
        return next((trial for trial in self.of(TrialState.COMPLETE) if trial.number == self.base_number), None)

    @cached_property
    def highest(self) -> FrozenTrial | None:
        """The COMPLETE trial with the highest value."""
        return next((trial for trial in ranked(self.trials) if value_of(trial) is not None), None)

    @cached_property
    def winner(self) -> FrozenTrial | None:
        """The trial that best.yaml names; where it names none, the highest."""
        complete, name = self.of(TrialState.COMPLETE), self.header.get("trial")
        return next((trial for trial in complete if str(trial.number) == name), self.highest)

    @cached_property
    def shown(self) -> tuple[FrozenTrial, ...]:
        """The winner and the base, each once."""
        base = self.base if self.base is not self.winner else None
        return tuple(trial for trial in (self.winner, base) if trial is not None)

    @cached_property
    def epochs(self) -> int:
        """Epochs of a whole trial."""
        return self.space.base.optim.epochs

    def of(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, by number."""
        return [trial for trial in self.trials if trial.state in states]

    def reached(self, trial: FrozenTrial) -> float | None:
        """What a trial scored: its value when COMPLETE, else that of the epochs it had. None before a scored epoch."""
        if trial.state == TrialState.COMPLETE:
            return value_of(trial)
        known = [value for _, value in curve(trial)]
        return (max(known) if self.space.plan.objective == "best" else known[-1]) if known else None

    def by_detect(self, trial: FrozenTrial, key: str = "avg_map_by_detect") -> tuple[float, ...] | None:
        """avg.mAP at each of space.detects, or None where the trial has none."""
        return _floats(trial.user_attrs.get(key), len(self.space.detects))

    def by_tiou(self, trial: FrozenTrial) -> tuple[float, ...] | None:
        """mAP at each of eval.tiou, or None where the trial has none."""
        return _floats(trial.user_attrs.get("map_by_tiou"), len(self.space.base.eval.tiou))

    def chosen(self, trial: FrozenTrial) -> Detect | None:
        """The detection setting that scored best."""
        scores = self.by_detect(trial)
        return self.space.detects[scores.index(max(scores))] if scores else None

    def own_setting(self, trial: FrozenTrial) -> float | None:
        """avg.mAP over the trial's epochs at the base's own detection setting."""
        scores = self.by_detect(trial, "best_avg_map_by_detect")
        return scores[self.space.detects.index(self.space.base.detect)] if scores else None

    @cached_property
    def swept(self) -> tuple[str, ...]:
        """The detection settings of which several values are scored."""
        values = [vars(detect) for detect in self.space.detects]
        return tuple(key for key in values[0] if len({value[key] for value in values}) > 1)

    def along(self, trial: FrozenTrial, key: str) -> list[tuple[float, float]]:
        """(value of a swept setting, avg.mAP), the other settings as the trial chose them."""
        scores, chosen = self.by_detect(trial), self.chosen(trial)
        if scores is None or chosen is None:
            return []
        others = [name for name in vars(chosen) if name != key]
        return sorted(
            (getattr(detect, key), score)
            for detect, score in zip(self.space.detects, scores, strict=True)
            if all(getattr(detect, name) == getattr(chosen, name) for name in others)
        )

    @cached_property
    def seconds(self) -> float:
        """Training time of all trials."""
        return sum(_seconds(trial) for trial in self.trials)

    @cached_property
    def seconds_saved(self) -> float:
        """What the pruned trials would have trained on, had each gone on at its own pace to the last epoch."""
        return sum(saved_s(trial.user_attrs, self.epochs) for trial in self.of(TrialState.PRUNED))


def read_findings(folder: RunFolder, space: Space, study: optuna.Study) -> Findings:
    """Reads whatever of a run is there. Raises InputError where confirm.csv lacks a column."""
    best_yaml = folder.best_yaml.read_text(encoding="utf-8") if folder.best_yaml.exists() else None
    return Findings(
        space=space,
        study_name=study.study_name,
        trials=tuple(study.get_trials(deepcopy=False)),
        attributes=study.user_attrs,
        best_yaml=best_yaml,
        header=_header(best_yaml or ""),
        confirmation=_read_confirmation(folder.confirm_csv, space) if folder.confirm_csv.exists() else None,
        importances=_importances(study, space),
        pictures=_pictures(folder),
    )


def _pictures(folder: RunFolder) -> tuple[Picture, ...] | str:
    """Figures that can't be read must not cost the report of a search."""
    figures, weights = folder.figures, folder.best_yaml.with_suffix(".safetensors")
    if not figures.index.exists():
        return "None are drawn yet."
    try:
        index = figures.read_index()
        if not weights.exists() or digest(weights) != index.weights:
            return f"Those in {figures.root} are of other weights than {weights.name}."
        return tuple(_picture(figures, name, caption) for name, caption in index.figures)
    except (InputError, OSError) as error:
        return f"They can't be read: {error}."


def _picture(figures: FigureFolder, name: str, caption: str) -> Picture:
    """Lines stay sharp in the SVG, but one with photographs in it may be large."""
    svg = figures.svg(name).read_bytes()
    if len(svg) <= _LARGE_SVG:
        return Picture(caption, "image/svg+xml", svg)
    return Picture(caption, "image/png", figures.png(name).read_bytes())


def value_of(trial: FrozenTrial) -> float | None:
    """A trial's value where it is a finite number."""
    return trial.value if trial.value is not None and math.isfinite(trial.value) else None


def curve(trial: FrozenTrial) -> list[tuple[int, float]]:
    """(epoch, avg.mAP in percent) of every epoch with a finite score."""
    return sorted((step, value) for step, value in trial.intermediate_values.items() if math.isfinite(value))


def last_node(trial: FrozenTrial) -> str:
    """Where a trial ran last; empty where that is not known."""
    runs = trial.user_attrs.get("runs")
    return str(trial.user_attrs.get("node") or (runs[-1][2] if runs else ""))


def _importances(study: optuna.Study, space: Space) -> Importances | str:
    complete = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if value_of(trial) is not None
    ]
    free = [key for key, distribution in space.parameters.items() if not distribution.single()]
    free = [key for key in free if all(key in trial.params for trial in complete)]
    if len(complete) < LEAST_FOR_IMPORTANCES:
        return f"It needs at least {LEAST_FOR_IMPORTANCES} completed trials; here are {len(complete)}."
    if len(free) < 2:
        return "It compares parameters, and this space has fewer than two that vary."
    if len({trial.value for trial in complete}) == 1:
        return "All completed trials scored the same, so no setting separates better ones from others."
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # scikit-learn is slow to import

    quantile = max(_TOP_SHARE, min(0.5, _TOP_LEAST / len(complete)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = get_param_importances(study, evaluator=evaluator, params=free, normalize=True)
    return Importances(shares, len(complete), math.ceil(quantile * len(complete)))


def _header(text: str) -> dict[str, str]:
    lines = [line[2:].partition(": ") for line in text.splitlines() if line.startswith("# ")]
    return {key: value for key, found, value in lines if found}


def _read_confirmation(path: Path, space: Space) -> Confirmation | None:
    try:
        table = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return None
    missing = [column for column in _CONFIRM_COLUMNS if column not in table]
    if missing:
        raise InputError(f"{path}: must have the columns {', '.join(_CONFIRM_COLUMNS)}, got none named {missing[0]}")
    rows = [_filled(row) for row in table.to_dict("records")]
    seeds = [row for row in rows if row["videos"] != "official"]
    official = [row for row in rows if row["videos"] == "official"]
    numbers = sorted({int(row["trial"]) for row in seeds})
    confirmed = [one for n in numbers for one in _confirmed([row for row in seeds if row["trial"] == n]) if one.scores]
    return Confirmation(
        on_official=any(row["videos"] == "validation" for row in seeds),
        confirmed=tuple(sorted(confirmed, key=lambda one: (-one.mean, one.number))),
        official=tuple(_official(row, space) for row in official if row["state"] == "COMPLETE"),
        failures=tuple(_failure(row) for row in rows if row["state"] == "FAIL"),
        unfinished=sum(row["state"] not in ("COMPLETE", "FAIL") for row in rows),
    )


def _filled(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with None where a cell is empty."""
    return {str(key): None if pd.isna(value) else value for key, value in row.items()}


def _is_base(row: Mapping[str, Any]) -> bool:
    return str(row["base"]).lower() == "true"


def _confirmed(rows: list[dict[str, Any]]) -> list[Confirmed]:
    """A configuration at the detection setting the search chose; the base also at its own."""
    number, base = int(rows[0]["trial"]), _is_base(rows[0])
    columns = {"avg_map": "chosen"} | ({"own_avg_map": "own"} if base else {})
    made = []
    for column, setting in columns.items():
        scored = [row for row in rows if row["state"] == "COMPLETE" and row.get(column) is not None]
        seeds, scores = tuple(int(row["seed"]) for row in scored), tuple(float(row[column]) for row in scored)
        made.append(Confirmed(number, base, setting, seeds, scores, len(rows)))
    return made


def _official(row: Mapping[str, Any], space: Space) -> Official:
    own = row.get("own_avg_map")
    cells = [row.get(f"map@{threshold:g}") for threshold in space.base.eval.tiou]
    return Official(
        number=int(row["trial"]),
        base=_is_base(row),
        avg_map=float(row["avg_map"]),
        own_avg_map=None if own is None else float(own),
        by_tiou=_floats(cells, len(cells)),
    )


def _failure(row: Mapping[str, Any]) -> tuple[str, str]:
    name = f"confirmation of trial {row['trial']}, {row['videos']}, seed {row['seed']}"
    return name, str(row.get("failure") or "no reason is known")


def _seconds(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get("seconds") or 0.0)


def _floats(values: object, length: int) -> tuple[float, ...] | None:
    """A list of so many finite numbers, else None."""
    if not isinstance(values, list) or len(values) != length:
        return None
    numbers = tuple(float(value) for value in values if isinstance(value, int | float) and math.isfinite(value))
    return numbers if numbers and len(numbers) == length else None
