"""A run folder as facts: what report.py writes down and figures.py draws. Old, interrupted and empty runs included."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from haan.errors import InputError
from haan.figures.folder import FigureFolder
from haan.files import digest, read_text
from search.results import classes, confirm, winner
from search.results.classes import Classes
from search.results.confirm import Confirmation
from search.results.folder import RunFolder
from search.results.retraining import OFFICIAL
from search.results.unseen import Unseen, unseen
from search.results.winner import Gain
from search.space.model import Space, epochs_of, is_base
from search.space.studies import scores_of
from search.study.algorithms import silent
from search.study.record import Scores, TrialRecord
from search.study.study import ranked

LEAST_FOR_IMPORTANCES = 10
_TOP_SHARE, _TOP_LEAST = 0.1, 5  # PED-ANOVA wants five trials at least in the better group
_LARGE_SVG = 512 * 2**10  # bytes


@dataclass(frozen=True)
class Importances:
    """PED-ANOVA's share of each parameter (they add up to 1), the largest first.

    trials: how many were compared, top: those in the better group. epoch: by their scores up to it, pruned ones among
    them; None: COMPLETE ones by their values.
    """

    shares: Mapping[str, float]
    trials: int
    top: int
    epoch: int | None


@dataclass(frozen=True)
class Picture:
    """One of the paper's figures, drawn for the winner. kind: as a data URI names it."""

    caption: str
    kind: str
    content: bytes


@dataclass(frozen=True)
class Findings:
    """A run, read. run: its name. trials: by number. winner: None before a trial is COMPLETE; gain: its own.

    best_yaml: what is exported, train_again: the command that trains it, exported: whose it is, if any trial's. about:
    what is to be said of the winner that was exported. importances, classes, pictures: or why none.
    """

    run: str
    space: Space
    study_name: str
    trials: tuple[FrozenTrial, ...]
    attributes: Mapping[str, Any]
    confirmation: Confirmation
    winner: FrozenTrial | None
    gain: Gain | None
    best_yaml: str | None
    train_again: str
    exported: FrozenTrial | None
    about: Mapping[str, str]
    importances: Importances | str
    classes: Classes | str
    pictures: tuple[Picture, ...] | str

    def is_base(self, trial: FrozenTrial) -> bool:
        """Whether it is the base; a grid over seeds has one a seed."""
        return is_base(self.space, trial.number, trial.params)

    @cached_property
    def base(self) -> FrozenTrial | None:
        """The base, once it is COMPLETE, with the winner's seed."""
        return winner.base_of(self.space, self.of(TrialState.COMPLETE), self.winner) if self.winner else None

    @cached_property
    def unseen(self) -> Unseen | None:
        """What the official videos say of the winner, where they chose nothing."""
        return unseen(self.confirmation, self.winner.number) if self.winner is not None else None

    @cached_property
    def highest(self) -> FrozenTrial | None:
        """The COMPLETE trial with the highest value."""
        return next((trial for trial in ranked(self.trials) if value_of(trial) is not None), None)

    @cached_property
    def shown(self) -> tuple[FrozenTrial, ...]:
        """The winner and the base, each once."""
        base = self.base if self.base is not self.winner else None
        return tuple(trial for trial in (self.winner, base) if trial is not None)

    def epochs(self, trial: FrozenTrial) -> int:
        """Epochs of a whole trial with its parameters."""
        return epochs_of(self.space, trial.params)

    def of(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, by number."""
        return [trial for trial in self.trials if trial.state in states]

    def reached(self, trial: FrozenTrial) -> float | None:
        """What a trial scored: its value when COMPLETE, else that of the epochs it had. None before a scored epoch."""
        if trial.state == TrialState.COMPLETE:
            return value_of(trial)
        known = [value for _, value in curve(trial)]
        return (max(known) if self.space.plan.objective == "best" else known[-1]) if known else None

    @cached_property
    def records(self) -> Mapping[int, TrialRecord]:
        """What the study keeps of each trial, by its number."""
        return {trial.number: TrialRecord.of(trial) for trial in self.trials}

    def record(self, trial: FrozenTrial) -> TrialRecord:
        """What the study keeps of a trial."""
        return self.records[trial.number]

    def scores(self, trial: FrozenTrial) -> Scores:
        """What a trial scored, at the space's detection settings and tIoU."""
        return scores_of(self.space, trial, self.record(trial))

    @cached_property
    def swept(self) -> tuple[str, ...]:
        """The detection settings of which several values are scored, of any method."""
        keys: dict[str, None] = {}
        for detects in (self.space.detects, *self.space.other_detects.values()):
            values = [vars(detect) for detect in detects]
            keys |= dict.fromkeys(key for key in values[0] if len({value[key] for value in values}) > 1)
        return tuple(keys)

    def along(self, trial: FrozenTrial, key: str) -> list[tuple[float, float]]:
        """(value of a swept setting, avg.mAP), the other settings as the trial chose them."""
        scores = self.scores(trial)
        chosen = scores.chosen
        if chosen is None or key not in vars(chosen):
            return []
        others = [name for name in vars(chosen) if name != key]
        return sorted(
            (getattr(detect, key), score)
            for detect, score in scores.by_detect
            if all(getattr(detect, name) == getattr(chosen, name) for name in others)
        )

    @cached_property
    def seconds(self) -> float:
        """Of all trials of the search, from start to end of each."""
        return sum(record.ran_s for record in self.records.values())

    @cached_property
    def seconds_saved(self) -> float:
        """What the pruned trials would have trained on, had each gone on at its own pace to the last epoch."""
        return sum(self.record(trial).saved_s(self.epochs(trial)) for trial in self.of(TrialState.PRUNED))


def read_findings(folder: RunFolder, space: Space, study: optuna.Study) -> Findings:
    """Reads whatever of a run is there."""
    trials, known = tuple(study.get_trials(deepcopy=False)), confirm.read_confirmation(folder, space, study)
    best = confirm.winner(space, trials, known)
    best_yaml = read_text(folder.best_yaml) if folder.best_yaml.exists() else None
    about = {}
    if best is not None and best_yaml is not None:
        about = winner.about(folder.name, study, space, best, known, known.finals.get(best.number))
    return Findings(
        run=folder.name,
        space=space,
        study_name=study.study_name,
        trials=trials,
        attributes=study.user_attrs,
        confirmation=known,
        winner=best,
        gain=winner.gain_over_base(space, trials, best, known) if best is not None else None,
        best_yaml=best_yaml,
        train_again=winner.train_again(folder),
        exported=winner.exported(folder, space, trials, known),
        about=about,
        importances=_importances(trials, space),
        classes=_classes(folder, best, known),
        pictures=_pictures(folder),
    )


def _classes(folder: RunFolder, best: FrozenTrial | None, known: Confirmation) -> Classes | str:
    """As above: a table that can't be read must not cost the report."""
    try:
        found = classes.read(folder)
    except (ValueError, KeyError, OSError) as error:
        return f"{folder.classes_csv.name} can't be read: {error}."
    if found is None:
        return f"There is no {folder.classes_csv.name}."
    if best is None or found.number != best.number or (found.videos == OFFICIAL) != (best.number in known.finals):
        return f"{folder.classes_csv.name} is of trial {found.number}, before the search went on."
    return found


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


def _importances(trials: Sequence[FrozenTrial], space: Space) -> Importances | str:
    compared, epoch = _comparable(trials, space.plan.objective)
    free = [key for key, distribution in space.parameters.items() if not distribution.single()]
    free = [key for key in free if all(key in trial.params for trial, _ in compared)]
    if len(compared) < LEAST_FOR_IMPORTANCES:
        return f"It needs at least {LEAST_FOR_IMPORTANCES} trials with the same epoch scored; here are {len(compared)}."
    if len(free) < 2:
        return "It compares parameters, and this space has fewer than two that vary."
    if len({value for _, value in compared}) == 1:
        return "All trials that are compared scored the same, so no setting separates better ones from others."
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # scikit-learn is slow to import

    quantile = max(_TOP_SHARE, min(0.5, _TOP_LEAST / len(compared)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings(), silent():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        shares = get_param_importances(_as_complete(compared), evaluator=evaluator, params=free, normalize=True)
    return Importances(shares, len(compared), math.ceil(quantile * len(compared)), epoch)


def _comparable(trials: Sequence[FrozenTrial], objective: str) -> tuple[list[tuple[FrozenTrial, float]], int | None]:
    """Trials with scores of equally many epochs, and up to which epoch these are taken.

    The COMPLETE ones by their values (None) where these are enough; else, pruned ones among them, all that reached the
    last epoch that enough reached.
    """
    complete = [(trial, value) for trial in trials if _is(trial, "COMPLETE") and (value := value_of(trial)) is not None]
    if len(complete) >= LEAST_FOR_IMPORTANCES:
        return complete, None
    curves = [(trial, curve(trial)) for trial in trials if _is(trial, "COMPLETE", "PRUNED")]
    lasts = sorted((points[-1][0] for _, points in curves if points), reverse=True)
    epoch = lasts[min(LEAST_FOR_IMPORTANCES, len(lasts)) - 1] if lasts else 0
    reached = [(trial, points) for trial, points in curves if points and points[-1][0] >= epoch]
    scores = [(trial, [value for at, value in points if at <= epoch]) for trial, points in reached]
    known = [(trial, max(values) if objective == "best" else values[-1]) for trial, values in scores if values]
    return known, epoch


def _is(trial: FrozenTrial, *states: str) -> bool:
    return trial.state.name in states


def _as_complete(compared: Sequence[tuple[FrozenTrial, float]]) -> optuna.Study:
    """A study in memory in which trials are COMPLETE with these values, for Optuna compares no others."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [create_trial(value=value, params=trial.params, distributions=trial.distributions) for trial, value in compared]
    )
    return study
