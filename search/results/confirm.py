"""The best configurations and the base again, with new seeds; then the winner and the base on all training videos.

One seed says little: the search picks the luckiest of many runs. So each of the best is trained again with seeds that
the search has not seen, at the detection setting that the search chose for it, and their mean decides. These runs are
trials of a study of their own, whose parameters say which trial of the search they repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from haan.config import Config, Detect, Holdout
from haan.files import whole
from search.results.folder import RunFolder
from search.results.ranking import Ranking, rank
from search.space.model import Space, base_number, with_values
from search.study import journal
from search.study.study import ranked

HOLDOUT, VALIDATION, OFFICIAL = "holdout", "validation", "official"
PARAMETERS: Mapping[str, BaseDistribution] = {
    "trial": IntDistribution(0, 10**9),
    "seed": IntDistribution(0, 2**31 - 1),
    "videos": CategoricalDistribution((HOLDOUT, VALIDATION, OFFICIAL)),
}
Again = dict[str, Any]  # trial, seed and videos: the parameters of one such run


@dataclass(frozen=True)
class Confirmation:
    """What the confirmation knows.

    runs: its trials but those that have not begun. ranking: by mean over seeds, None before every run of it has ended.
    finals: of the winner and the base on all training videos, by the trial of the search; those that are COMPLETE.
    """

    runs: tuple[FrozenTrial, ...]
    ranking: Ranking | None
    finals: Mapping[int, FrozenTrial]


def chosen_detect(space: Space, trial: FrozenTrial) -> Detect:
    """The detection setting that the search chose for a trial; the base's own where no epoch was scored."""
    by_detect = trial.user_attrs.get("avg_map_by_detect")
    return space.detects[by_detect.index(max(by_detect))] if by_detect else space.base.detect


def candidates(space: Space, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best COMPLETE trials of a search, as many as `confirm.top`, and the base."""
    if space.plan.confirm is None:
        return []
    best = ranked(trials)[: space.plan.confirm.top]
    base = [trial for trial in trials if trial.number == base_number(space) and trial not in best]
    return best + base if best else []


def repeats(space: Space, trials: Sequence[FrozenTrial]) -> list[Again]:
    """Each candidate with each new seed; seed by seed, so that one that is cut short still compares like with like."""
    confirm, held_out = space.plan.confirm, isinstance(space.base.data.validation, Holdout)
    seeds = [(space.base.seed + i) % 2**31 for i in range(1, confirm.seeds + 1)] if confirm else []
    videos = HOLDOUT if held_out else VALIDATION
    chosen = candidates(space, trials)
    return [{"trial": trial.number, "seed": seed, "videos": videos} for seed in seeds for trial in chosen]


def finals(space: Space, winner: int, has_official: bool) -> list[Again]:
    """The winner and the base on all training videos; nothing where the search was tuned on the official ones."""
    if not isinstance(space.base.data.validation, Holdout) or not has_official:
        return []
    again = [number for number in (winner, base_number(space)) if number is not None]
    return [{"trial": number, "seed": space.base.seed, "videos": OFFICIAL} for number in dict.fromkeys(again)]


def num_runs(space: Space, has_official: bool) -> int:
    """How many runs the confirmation has at most."""
    confirm = space.plan.confirm
    return ((confirm.top + 1) * confirm.seeds if confirm else 0) + len(finals(space, 1, has_official))


def settings(space: Space, trial: FrozenTrial, again: Mapping[str, Any], num_epochs: int) -> dict[str, Any]:
    """A configuration's dotted keys and values for one such run, over the base."""
    detect = {f"detect.{key}": value for key, value in vars(chosen_detect(space, trial)).items()}
    values = trial.params | detect | {"seed": again["seed"], "eval.epoch": space.plan.objective}
    if again["videos"] == OFFICIAL:
        values |= {"data.validation": "official", "optim.epochs": num_epochs, "eval.epoch": "last"}
    return values


def final_epochs(space: Space, trial: FrozenTrial, runs: Sequence[FrozenTrial]) -> int:
    """For how many epochs a configuration is trained on all training videos: as many as the search chose.

    That is its best epoch in the search; where the search ended it early, the median of its best epochs in the
    confirmation.
    """
    if space.plan.objective == "last":
        return space.base.optim.epochs
    mine = [run.user_attrs["best_epoch"] for run in runs if is_repeat(run) and run.params["trial"] == trial.number]
    if trial.state == TrialState.COMPLETE or not mine:
        return trial.user_attrs.get("best_epoch") or space.base.optim.epochs
    return round(median(mine))


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
    begun = tuple(run for run in runs if run.state != TrialState.WAITING and set(run.params) == set(PARAMETERS))
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
    return Confirmation(begun, rank(values, base_number(space)) if whole else None, official)


def winner(space: Space, trials: Sequence[FrozenTrial], known: Confirmation) -> FrozenTrial | None:
    """The configuration of highest mean over the seeds, or of highest single value before all of them have run."""
    if known.ranking is not None:
        return next(trial for trial in trials if trial.number == known.ranking.winner.number)
    return next(iter(ranked(trials)), None)


def final_config(space: Space, trial: FrozenTrial, run: FrozenTrial) -> Config:
    """The configuration of a run on all training videos."""
    values = settings(space, trial, run.params, run.user_attrs["epochs"])
    return with_values(space.base, values)


def write_csv(folder: RunFolder, space: Space, trials: Sequence[FrozenTrial], known: Confirmation) -> None:
    """confirm.csv: a row a configuration and seed; no file before there is one."""
    if not known.runs:
        return
    by_number = {trial.number: trial for trial in trials}
    rows = [_row(space, by_number[run.params["trial"]], run) for run in known.runs]
    with whole(folder.confirm_csv) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)


def _row(space: Space, trial: FrozenTrial, run: FrozenTrial) -> dict[str, Any]:
    known = run.user_attrs
    own = known.get("best_avg_map_by_detect") or [None, None]
    row = {
        "trial": trial.number,
        "base": trial.number == base_number(space),
        "videos": run.params["videos"],
        "seed": run.params["seed"],
        "state": run.state.name,
        "avg_map": run.value,
        "own_avg_map": own[1],
        "best_epoch": known.get("best_epoch"),
        "epochs": known.get("epochs"),
        "seconds": known.get("seconds"),
        "node": known.get("node"),
        "failure": known.get("failure"),
    }
    row |= {f"detect.{key}": value for key, value in vars(chosen_detect(space, trial)).items()}
    maps = known.get("map_by_tiou") or [None] * len(space.base.eval.tiou)
    return row | {f"map@{tiou:g}": value for tiou, value in zip(space.base.eval.tiou, maps, strict=True)}
