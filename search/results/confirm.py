"""The best configurations and the base again, with new seeds; then the winner and the base on all training videos.

One seed says little: the search picks the luckiest of many runs. So each of the best is trained again with seeds that
the search has not seen, at the detection setting that the search chose for it, and their mean decides. These runs are
trials of a study of their own, whose parameters say which trial of the search they repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, stdev
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from haan.config import Config, Detect, Holdout
from haan.files import whole
from search.results.folder import RunFolder
from search.results.ranking import Ranking, Standing, half_width, rank
from search.space.model import Space, base_number, epochs_of, with_values
from search.space.studies import scores_of
from search.study import journal
from search.study.record import Scores, TrialRecord
from search.study.study import ranked

HOLDOUT, VALIDATION, OFFICIAL = "holdout", "validation", "official"
PARAMETERS: Mapping[str, BaseDistribution] = {
    "trial": IntDistribution(0, 10**9),
    "seed": IntDistribution(0, 2**31 - 1),
    "videos": CategoricalDistribution((HOLDOUT, VALIDATION, OFFICIAL)),
}
Setting = Literal["chosen", "own"]
Again = dict[str, Any]  # trial, seed and videos: the parameters of one such run


@dataclass(frozen=True)
class Run:
    """One run of the confirmation. trial: the one of the search that it repeats, base: whether that is the base.

    detect: the setting that the search chose for it. avg_map, own_avg_map: percent, at that setting and at the base's
    own; None where it has none. scores, record: of this run, not of the search's trial.
    """

    trial: int
    base: bool
    videos: str
    seed: int
    state: TrialState
    detect: Detect
    avg_map: float | None
    own_avg_map: float | None
    scores: Scores
    record: TrialRecord


@dataclass(frozen=True)
class Confirmed:
    """One configuration trained again with several seeds; scores are avg.mAP in percent, one a completed seed.

    setting: the one the search `chosen` for it, or the base's `own`. runs: planned seeds.
    """

    number: int
    base: bool
    setting: Setting
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    runs: int

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

    runs: those that have begun. ranking: by mean over seeds, None before every run of it has ended. finals: the
    confirmation's trials of the winner and the base on all training videos, by the trial of the search; COMPLETE ones.
    """

    runs: tuple[Run, ...]
    ranking: Ranking | None
    finals: Mapping[int, FrozenTrial]

    def standing(self, number: int) -> Standing | None:
        """A trial's place in the ranking."""
        order = self.ranking.order if self.ranking is not None else ()
        return next((standing for standing in order if standing.number == number), None)

    @property
    def seconds(self) -> float:
        """Of training, of all its runs."""
        return sum(run.record.seconds or 0.0 for run in self.runs)

    @property
    def official(self) -> tuple[Run, ...]:
        """The runs on all training videos that are COMPLETE, in the order of their beginning."""
        return tuple(run for run in self.runs if run.videos == OFFICIAL and run.state == TrialState.COMPLETE)

    def official_at_own(self, number: int) -> float | None:
        """What a configuration scored there at the base's own detection setting, in percent."""
        return {run.trial: run.own_avg_map for run in self.official}.get(number)

    def confirmed(self) -> list[Confirmed]:
        """Each configuration that has a score, the best mean first; the base at its own setting, too."""
        repeated = [run for run in self.runs if run.videos != OFFICIAL]
        found = []
        for number in sorted({run.trial for run in repeated}):
            found += _confirmed([run for run in repeated if run.trial == number])
        return sorted(found, key=lambda one: (-one.mean, one.number))


def chosen_detect(space: Space, trial: FrozenTrial) -> Detect:
    """The detection setting that the search chose for a trial; the base's own where no epoch was scored."""
    return scores_of(space, TrialRecord.of(trial)).chosen or space.base.detect


def candidates(space: Space, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best COMPLETE trials of a search, as many as `confirm.top`, and the base."""
    if space.plan.confirm is None:
        return []
    best = ranked(trials)[: space.plan.confirm.top]
    base = [trial for trial in trials if trial.number == base_number(space) and trial not in best]
    return best + base if best else []


def videos_of(space: Space) -> str:
    """Which videos a search is scored on, and its repetitions with new seeds, in the words of confirm.csv."""
    return HOLDOUT if isinstance(space.base.data.validation, Holdout) else VALIDATION


def on_videos(space: Space) -> str:
    """The same behind a figure that is on them, as a gain over new seeds is."""
    return f", on the {videos_of(space)} videos"


def repeats(space: Space, trials: Sequence[FrozenTrial]) -> list[Again]:
    """Each candidate with each new seed; seed by seed, so that one that is cut short still compares like with like."""
    confirm = space.plan.confirm
    seeds = [(space.base.seed + i) % 2**31 for i in range(1, confirm.seeds + 1)] if confirm else []
    videos = videos_of(space)
    chosen = candidates(space, trials)
    return [{"trial": trial.number, "seed": seed, "videos": videos} for seed in seeds for trial in chosen]


def finals(space: Space, winner: int, has_official: bool) -> list[Again]:
    """The winner and the base on all training videos; nothing where the search was tuned on the official ones."""
    if not isinstance(space.base.data.validation, Holdout) or not has_official:
        return []
    again = [number for number in (winner, base_number(space)) if number is not None]
    return [{"trial": number, "seed": space.base.seed, "videos": OFFICIAL} for number in dict.fromkeys(again)]


def num_runs(space: Space, has_official: bool) -> tuple[int, int]:
    """How many runs the confirmation has at most: with new seeds, and on all training videos."""
    confirm = space.plan.confirm
    return (confirm.top + 1) * confirm.seeds if confirm else 0, len(finals(space, 1, has_official))


def settings(space: Space, trial: FrozenTrial, again: Mapping[str, Any], num_epochs: int) -> dict[str, Any]:
    """A configuration's dotted keys and values for one such run, over the base."""
    detect = {f"detect.{key}": value for key, value in vars(chosen_detect(space, trial)).items()}
    values = trial.params | detect | {"seed": again["seed"], "eval.epoch": space.plan.objective}
    if again["videos"] == OFFICIAL:
        values |= {"data.validation": "official", "optim.epochs": num_epochs, "eval.epoch": "last"}
        optim = with_values(space.base, trial.params).optim
        if optim.varies:  # along the learning rates of the search, not along all of them in fewer epochs
            values["optim.schedule_epochs"] = optim.schedule_epochs or optim.epochs
    return values


def final_epochs(space: Space, trial: FrozenTrial, runs: Sequence[FrozenTrial]) -> int:
    """For how many epochs a configuration is trained on all training videos: as many as the search chose.

    That is its best epoch in the search; where the search ended it early, the median of its best epochs in the
    confirmation.
    """
    whole = epochs_of(space, trial.params)
    if space.plan.objective == "last":
        return whole
    mine = [run for run in runs if is_repeat(run) and run.params["trial"] == trial.number]
    epochs = [epoch for run in mine if (epoch := TrialRecord.of(run).best_epoch)]
    if trial.state == TrialState.COMPLETE or not epochs:
        return TrialRecord.of(trial).best_epoch or whole
    return round(median(epochs))


def is_repeat(run: FrozenTrial) -> bool:
    """Whether it is a finished run with a new seed."""
    return run.state == TrialState.COMPLETE and run.params["videos"] != OFFICIAL


def read_confirmation(folder: RunFolder, space: Space, study: optuna.Study) -> Confirmation:
    """What is known on disk."""
    again = journal.load(folder.confirm_journal)
    runs = again.get_trials(deepcopy=False) if again else []
    return summarise(space, study.get_trials(deepcopy=False), runs)


def summarise(space: Space, trials: Sequence[FrozenTrial], runs: Sequence[FrozenTrial]) -> Confirmation:
    """Ranks what has been run."""
    by_number = {trial.number: trial for trial in trials}
    begun = [run for run in runs if run.state != TrialState.WAITING and set(run.params) == set(PARAMETERS)]
    begun = [run for run in begun if run.params["trial"] in by_number]  # not of another study in this folder
    wanted = repeats(space, trials)
    ended = [run.params for run in begun if run.state.is_finished()]
    values: dict[int, dict[int, float]] = {}
    for run in begun:
        if is_repeat(run) and run.params in wanted and run.value is not None:
            values.setdefault(run.params["trial"], {})[run.params["seed"]] = run.value
    whole = bool(wanted) and all(again in ended for again in wanted) and bool(values)
    official = {
        run.params["trial"]: run
        for run in begun
        if run.params["videos"] == OFFICIAL and run.state == TrialState.COMPLETE
    }
    known = tuple(_run(space, by_number[run.params["trial"]], run) for run in begun)
    return Confirmation(known, rank(values, base_number(space)) if whole else None, official)


def _run(space: Space, trial: FrozenTrial, run: FrozenTrial) -> Run:
    """It is scored at the setting that the search chose for the trial, and beside it at the base's own."""
    detect, record = chosen_detect(space, trial), TrialRecord.of(run)
    scores = record.scores((detect, space.base.detect), space.base.eval.tiou)
    return Run(
        trial=trial.number,
        base=trial.number == base_number(space),
        videos=run.params["videos"],
        seed=run.params["seed"],
        state=run.state,
        detect=detect,
        avg_map=run.value,
        own_avg_map=scores.best_at(space.base.detect),
        scores=scores,
        record=record,
    )


def _confirmed(runs: Sequence[Run]) -> list[Confirmed]:
    """One configuration's, at the detection setting that the search chose; the base also at its own."""
    complete = [run for run in runs if run.state == TrialState.COMPLETE]
    figures: dict[Setting, dict[int, float | None]] = {"chosen": {run.seed: run.avg_map for run in complete}}
    if runs[0].base:
        figures["own"] = {run.seed: run.own_avg_map for run in complete}
    return [
        Confirmed(runs[0].trial, runs[0].base, setting, tuple(known), tuple(known.values()), len(runs))
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
    values = settings(space, trial, run.params, TrialRecord.of(run).epochs or epochs_of(space, trial.params))
    return with_values(space.base, values)


def write_csv(folder: RunFolder, space: Space, known: Confirmation) -> None:
    """confirm.csv: a row a configuration and seed; `number` as in trials.csv. No file before there is one."""
    if not known.runs:
        return
    with whole(folder.confirm_csv) as partial:
        pd.DataFrame([_row(space, run) for run in known.runs]).to_csv(partial, index=False)


def _row(space: Space, run: Run) -> dict[str, Any]:
    row = {
        "number": run.trial,
        "base": run.base,
        "videos": run.videos,
        "seed": run.seed,
        "state": run.state.name,
        "avg_map": run.avg_map,
        "own_avg_map": run.own_avg_map,
        "best_epoch": run.record.best_epoch,
        "epochs": run.record.epochs,
        "seconds": run.record.seconds,
        "node": run.record.node,
        "failure": run.record.failure,
    }
    row |= {f"detect.{key}": value for key, value in vars(run.detect).items()}
    return row | {f"map@{tiou:g}": run.scores.by_tiou.get(tiou) for tiou in space.base.eval.tiou}
