"""The best configurations and the base again, with new seeds; then the winner and the base on all training videos.

One seed on one holdout says little: the search picks the luckiest of many runs. So each of the best is trained again
with seeds that the search has not seen, each with a holdout of its own, the same for all (a block), and the mean at the
epochs and the detection setting that would be exported decides. These runs are trials of a study of their own, whose
parameters say which trial of the search they repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median, stdev
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from haan.config import Config, Detect, Holdout
from haan.files import whole
from search.results.folder import RunFolder
from search.results.meancurve import Choice, MeanCurve, mean_curve, value_at
from search.results.race import follow
from search.results.ranking import Ranking, Standing, half_width
from search.results.retraining import (
    OFFICIAL,
    PARAMETERS,
    Again,
    base_trial,
    blocks_of,
    candidates,
    chosen_detect,
    first_seeds,
    repeats,
    settings,
    winners_of_sources,
)
from search.space.confirmkeys import by_mean_curve, official_seeds
from search.space.model import Space, detect_values, epochs_of, with_values
from search.study import journal
from search.study.record import TrialRecord
from search.study.study import ranked

Setting = Literal["chosen", "own"]


@dataclass(frozen=True)
class Run:
    """One run of the confirmation. trial: the one of the search that it repeats, base: whether that is the base.

    sources: earlier searches that this trial's parameters won. holdout: the seed that drew its videos; None where that
    is not said. counts: whether it is among those that decide. epoch, detect: those of its figures. avg_map,
    own_avg_map: percent, at that setting and at the base's own; None where it has none. by_tiou: at each tIoU; empty
    where that is not known of this epoch. record: of this run, not of the search's trial.
    """

    trial: int
    base: bool
    sources: tuple[str, ...]
    videos: str
    seed: int
    holdout: int | None
    counts: bool
    state: TrialState
    epoch: int | None
    detect: Detect
    avg_map: float | None
    own_avg_map: float | None
    by_tiou: Mapping[float, float]
    record: TrialRecord


@dataclass(frozen=True)
class Confirmed:
    """One configuration trained again with several seeds; scores are avg.mAP in percent, one a completed seed.

    setting: of detection, the one `chosen` for it, or the base's `own`. runs: planned seeds. sources: as `Run` has it.
    """

    number: int
    base: bool
    setting: Setting
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    runs: int
    sources: tuple[str, ...] = ()

    @property
    def by_seed(self) -> dict[int, float]:
        """Its scores."""
        return dict(zip(self.seeds, self.scores, strict=True))

    @property
    def mean(self) -> float:
        """Percent."""
        return float(np.mean(self.scores))

    @property
    def sd(self) -> float | None:
        """Over n - 1, in percent; None with one seed."""
        return stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def half_width(self) -> float | None:
        """Of the mean's 95 % t-interval, in percent; None with fewer than two seeds."""
        return half_width(self.scores)


@dataclass(frozen=True)
class Confirmation:
    """What the confirmation knows.

    runs: those that have begun. wanted: those with new seeds, as far as it is known which. rounds: how many may follow
    at most, seed by seed. ranking: by mean over seeds, None before the race is over. choices: how a configuration
    leaves by the mean curve of its runs, by its trial of the search. official: the runs on all training videos that are
    COMPLETE. retrained: the same as trials of the confirmation's study. finals: the first
    of each trial's, whose weights are exported.
    """

    runs: tuple[Run, ...] = ()
    wanted: tuple[Again, ...] = ()
    rounds: tuple[int, ...] = ()
    ranking: Ranking | None = None
    choices: Mapping[int, Choice] = field(default_factory=dict)
    official: tuple[Run, ...] = ()
    finals: Mapping[int, FrozenTrial] = field(default_factory=dict)
    retrained: tuple[FrozenTrial, ...] = ()

    def standing(self, number: int) -> Standing | None:
        """A trial's place in the ranking."""
        order = self.ranking.order if self.ranking is not None else ()
        return next((standing for standing in order if standing.number == number), None)

    @property
    def seconds(self) -> float:
        """Of all its runs, from start to end of each."""
        return sum(run.record.ran_s for run in self.runs)

    def confirmed(self) -> list[Confirmed]:
        """Each configuration that has a score, the best mean first; the base at its own setting, too.

        After a race, as that ranked them: means of fewer seeds flatter more.
        """
        raced = self.ranking.order if self.ranking is not None and self.ranking.most is not None else ()
        place = {standing.number: place for place, standing in enumerate(raced)}
        repeated = [run for run in self.runs if run.counts]
        found = []
        for number in sorted({run.trial for run in repeated}):
            found += confirmed([run for run in repeated if run.trial == number])
        return sorted(found, key=lambda one: (place.get(one.number, len(place)), -one.mean, one.number))


def finals(space: Space, trials: Sequence[FrozenTrial], known: Confirmation, has_official: bool) -> list[Again]:
    """The winner, what won the search's sources, and the base on all training videos, seed by seed.

    Nothing where the search was tuned on the official videos.
    """
    best = winner(space, trials, known)
    if best is None or not isinstance(space.base.data.validation, Holdout) or not has_official:
        return []
    others = (*(trial.number for trial in winners_of_sources(trials)), base_trial(space, trials))
    numbers = [number for number in (best.number, *others) if number is not None]
    return [
        {"trial": number, "seed": seed, "videos": OFFICIAL, **_at_choice(space, trials[number], known)}
        for seed in official_seeds(space.base, space.plan.confirm)
        for number in dict.fromkeys(numbers)
    ]


def _at_choice(space: Space, trial: FrozenTrial, known: Confirmation) -> Again:
    """How a configuration leaves, as parameters of its run: another choice is another run."""
    if not by_mean_curve(space.plan.confirm):
        return {}
    choice = choice_of(space, trial, known)
    return {"epochs": choice.epochs, "setting": space.detects.index(choice.detect)}


def num_epochs(space: Space, trial: FrozenTrial, again: Mapping[str, Any], known: Confirmation) -> int:
    """How many epochs such a run of a trial has."""
    if again["videos"] != OFFICIAL:
        return epochs_of(space, trial.params)
    return again["epochs"] if "epochs" in again else choice_of(space, trial, known).epochs


def choice_of(space: Space, trial: FrozenTrial, known: Confirmation) -> Choice:
    """For how many epochs a configuration is trained on all training videos, and how it detects then.

    As the mean curve over new seeds chose. Without one: as the search chose, by its best epoch; where the search ended
    it early, the median of its best epochs in the confirmation.
    """
    if trial.number in known.choices:
        return known.choices[trial.number]
    whole, detect = epochs_of(space, trial.params), chosen_detect(space, trial)
    if space.plan.objective != "best":
        return Choice(whole, detect)
    mine = [run for run in known.runs if run.trial == trial.number and run.videos != OFFICIAL]
    epochs = [run.record.best_epoch for run in mine if run.state == TrialState.COMPLETE and run.record.best_epoch]
    if trial.state == TrialState.COMPLETE or not epochs:
        return Choice(TrialRecord.of(trial).best_epoch or whole, detect)
    return Choice(round(median(epochs)), detect)


def read_confirmation(folder: RunFolder, space: Space, study: optuna.Study) -> Confirmation:
    """What is known on disk."""
    again = journal.load(folder.confirm_journal)
    runs = again.get_trials(deepcopy=False) if again else []
    return summarise(space, study.get_trials(deepcopy=False), runs)


def summarise(space: Space, trials: Sequence[FrozenTrial], runs: Sequence[FrozenTrial]) -> Confirmation:
    """Ranks what has been run; where it races, says what is to be run next."""
    by_number = {trial.number: trial for trial in trials}
    begun = [run for run in runs if run.state != TrialState.WAITING and set(run.params) >= set(PARAMETERS)]
    begun = [run for run in begun if run.params["trial"] in by_number]  # not of another study in this folder
    counted = [run for run in begun if _counts(space, run)]
    curves = _curves(space, counted)
    base = base_trial(space, trials)
    known = tuple(
        _run(space, by_number[run.params["trial"]], run, curves.get(run.params["trial"]), run.params["trial"] == base)
        for run in begun
    )
    may_be = {(again["trial"], again["seed"]): again for again in repeats(space, trials)}
    raced = follow(
        numbers=[trial.number for trial in candidates(space, trials)],
        base=base,
        seeds=list(dict.fromkeys(seed for _, seed in may_be)),
        first=first_seeds(space),
        ended={(run.params["trial"], run.params["seed"]) for run in counted if run.state.is_finished()},
        values=partial(_values, space, by_number, counted),
    )
    choices = {number: curve.choice(space.plan.objective) for number, curve in curves.items()}
    wanted = tuple(may_be[run] for run in raced.wanted)
    found = Confirmation(known, wanted, raced.rounds, raced.ranking, choices)
    last = _last(finals(space, trials, found, has_official=True), begun)
    return replace(
        found,
        official=tuple(one for one, run in zip(known, begun, strict=True) if run in last),
        finals={run.params["trial"]: run for run in reversed(last)},
        retrained=tuple(last),
    )


def _values(
    space: Space, by_number: Mapping[int, FrozenTrial], counted: Sequence[FrozenTrial], seeds: Sequence[int]
) -> dict[int, dict[int, float]]:
    """What the runs of some seeds scored, by trial and seed; the curves are theirs alone."""
    runs = [run for run in counted if run.params["seed"] in seeds and run.state == TrialState.COMPLETE]
    curves, values = _curves(space, runs), dict[int, dict[int, float]]()
    for run in runs:
        number = run.params["trial"]
        avg_map = _run(space, by_number[number], run, curves.get(number), is_base=False).avg_map
        if avg_map is not None:
            values.setdefault(number, {})[run.params["seed"]] = avg_map
    return values


def _last(wanted: Sequence[Again], begun: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The COMPLETE runs on all training videos, as wanted now; of a trial that has none of these, those it has."""
    complete = [run for run in begun if run.params["videos"] == OFFICIAL and run.state == TrialState.COMPLETE]
    known = {run.params["trial"] for run in complete if run.params in wanted}
    last = [run for run in complete if run.params in wanted or run.params["trial"] not in known]
    return sorted(last, key=lambda run: wanted.index(run.params) if run.params in wanted else len(wanted))


def _counts(space: Space, run: FrozenTrial) -> bool:
    """Whether it is a repetition as the space asks for it now, whichever trials are the best."""
    return {key: value for key, value in run.params.items() if key != "trial"} in blocks_of(space)


def _curves(space: Space, counted: Sequence[FrozenTrial]) -> dict[int, MeanCurve]:
    """The mean curve of each trial that has one."""
    if not by_mean_curve(space.plan.confirm):
        return {}
    by_trial: dict[int, dict[int, TrialRecord]] = {}
    for run in counted:
        if run.state == TrialState.COMPLETE:
            by_trial.setdefault(run.params["trial"], {})[run.params["seed"]] = TrialRecord.of(run)
    curves = {number: mean_curve(records, space.detects) for number, records in by_trial.items()}
    return {number: curve for number, curve in curves.items() if curve is not None}


def _run(space: Space, trial: FrozenTrial, run: FrozenTrial, curve: MeanCurve | None, is_base: bool) -> Run:
    """With its figures at what the trial's mean curve chose; at its own best epoch where it has none."""
    asked, record, own = run.params, TrialRecord.of(run), space.base.detect
    detect = space.detects[asked["setting"]] if "setting" in asked else chosen_detect(space, trial)
    scores = record.scores((detect, own), space.base.eval.tiou)
    epoch, avg_map, own_avg_map, by_tiou = record.best_epoch, run.value, scores.best_at(own), scores.by_tiou
    if curve is not None and record.by_epoch and run.state == TrialState.COMPLETE:
        objective = space.plan.objective
        choice, own_choice = curve.choice(objective), curve.choice(objective, own)
        avg_map, own_avg_map = (value_at(record, one, space.detects) for one in (choice, own_choice))
        epoch, detect, by_tiou = choice.epochs, choice.detect, {}
    return Run(
        trial=trial.number,
        base=is_base,
        sources=TrialRecord.of(trial).winner_of,
        videos=asked["videos"],
        seed=asked["seed"],
        holdout=asked.get("holdout"),
        counts=_counts(space, run),
        state=run.state,
        epoch=epoch,
        detect=detect,
        avg_map=avg_map,
        own_avg_map=own_avg_map,
        by_tiou=by_tiou,
        record=record,
    )


def confirmed(runs: Sequence[Run]) -> list[Confirmed]:
    """One configuration's, at the detection setting that was chosen; the base also at its own."""
    complete = [run for run in runs if run.state == TrialState.COMPLETE]
    figures: dict[Setting, dict[int, float | None]] = {"chosen": {run.seed: run.avg_map for run in complete}}
    if runs[0].base:
        figures["own"] = {run.seed: run.own_avg_map for run in complete}
    return [
        Confirmed(runs[0].trial, runs[0].base, setting, tuple(known), tuple(known.values()), len(runs), runs[0].sources)
        for setting, by_seed in figures.items()
        if (known := {seed: value for seed, value in by_seed.items() if value is not None})
    ]


def winner(space: Space, trials: Sequence[FrozenTrial], known: Confirmation) -> FrozenTrial | None:
    """The configuration of highest mean over the seeds, or of highest single value before all of them have run."""
    if known.ranking is not None:
        return next(trial for trial in trials if trial.number == known.ranking.winner.number)
    return next(iter(ranked(trials)), None)


def final_config(space: Space, trial: FrozenTrial, run: FrozenTrial) -> Config:
    """The configuration of a run on all training videos."""
    epochs = run.params.get("epochs") or TrialRecord.of(run).epochs or epochs_of(space, trial.params)
    return with_values(space.base, settings(space, trial, run.params, epochs))


def write_csv(folder: RunFolder, space: Space, known: Confirmation) -> None:
    """confirm.csv: a row a configuration and seed, official videos first; `number` as in trials.csv.

    No file before there is one.
    """
    if not known.runs:
        return
    first = sorted(known.runs, key=lambda run: run.videos != OFFICIAL)
    with whole(folder.confirm_csv) as partial:
        pd.DataFrame([_row(space, run) for run in first]).astype({"holdout": "Int64"}).to_csv(partial, index=False)


def _row(space: Space, run: Run) -> dict[str, Any]:
    row = {
        "number": run.trial,
        "base": run.base,
        "videos": run.videos,
        "seed": run.seed,
        "holdout": run.holdout,
        "state": run.state.name,
        "avg_map": run.avg_map,
        "own_avg_map": run.own_avg_map,
        "best_epoch": run.epoch,
        "epochs": run.record.epochs,
        "seconds": run.record.seconds,
        "node": run.record.node,
        "failure": run.record.failure,
    }
    row |= detect_values(space, run.detect)
    row |= {f"map@{tiou:g}": run.by_tiou.get(tiou) for tiou in space.base.eval.tiou}
    return row | {"source": ", ".join(run.sources) or None}
