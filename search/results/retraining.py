"""What is trained again once the search is over, and how: the best, the base and winners of earlier searches.

Such a run is a trial of a study of its own, whose parameters say which trial of the search it repeats, and on which
videos; its settings follow from them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

from haan.config import Detect, Holdout
from search.results.race import FIRST
from search.space.confirmkeys import blocks, by_mean_curve, drawn, official_seeds
from search.space.model import Space, base_number, base_point, is_base, own_detect, with_values
from search.space.studies import scores_of
from search.study.conditions import Conditions
from search.study.earlier import Source, winners
from search.study.record import WINNER_OF
from search.study.study import ranked

HOLDOUT, VALIDATION, OFFICIAL = "holdout", "validation", "official"
PARAMETERS: Mapping[str, BaseDistribution] = {
    "trial": IntDistribution(0, 10**9),
    "seed": IntDistribution(0, 2**31 - 1),
    "videos": CategoricalDistribution((HOLDOUT, VALIDATION, OFFICIAL)),
}
TODAY: Mapping[str, BaseDistribution] = {  # beside them; runs of before these lack them
    "holdout": IntDistribution(0, 2**31 - 1),  # the seed that draws it
    "epochs": IntDistribution(1, 10**9),
    "setting": IntDistribution(0, 10**9),  # of detection, by its place in the space
}
CONDITIONS: Conditions = {
    "holdout": {"videos": (HOLDOUT,)},
    "epochs": {"videos": (OFFICIAL,)},
    "setting": {"videos": (OFFICIAL,)},
}
Again = dict[str, Any]  # the parameters of one such run


def chosen_detect(space: Space, trial: FrozenTrial) -> Detect:
    """The detection setting that the search chose for a trial; the base's own where no epoch was scored."""
    return scores_of(space, trial).chosen or own_detect(space, trial.params)


def candidates(space: Space, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best COMPLETE trials of a search, as many as `confirm.top`, and the base.

    What won its sources stands in place of the last of them, but never of the first.
    """
    if space.plan.confirm is None:
        return []
    best, won = ranked(trials)[: space.plan.confirm.top], winners_of_sources(trials)
    number = base_trial(space, trials)
    others = [trial for trial in won if trial not in best and trial.number != number]
    best = best[: max(space.plan.confirm.top - len(others), 1)]
    base = [trial for trial in trials if trial.number == number]
    once = {trial.number: trial for trial in (*best, *won, *base)}
    return list(once.values()) if best else []


def winners_of_sources(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The COMPLETE trials of a search whose parameters won an earlier one."""
    return [trial for trial in ranked(trials) if WINNER_OF in trial.user_attrs]


def named(number: int, base: bool, sources: Sequence[str]) -> str:
    """A trial, and what it stands for: the base, what won earlier searches."""
    roles = ["base"] * base + [f"winner of {' and '.join(sources)}"] * bool(sources)
    return f"trial {number}" + (f" ({', '.join(roles)})" if roles else "")


def base_trial(space: Space, trials: Sequence[FrozenTrial]) -> int | None:
    """Which trial stands for the base; of a grid over seeds, which has one a seed, its best."""
    bases = (trial.number for trial in ranked(trials) if is_base(space, trial.number, trial.params))
    return next(bases, base_number(space))


def videos_of(space: Space) -> str:
    """Which videos a search is scored on, and its repetitions with new seeds, in the words of confirm.csv."""
    return HOLDOUT if isinstance(space.base.data.validation, Holdout) else VALIDATION


def on_videos(space: Space, again: bool = True) -> str:
    """The same behind a figure that is on them. again: of new seeds, which may have a holdout each."""
    repeats = space.plan.confirm
    if again and videos_of(space) == HOLDOUT and repeats is not None and repeats.holdouts == "redraw":
        return ", each seed on a holdout of its own"
    return f", on the {videos_of(space)} videos"


def described(space: Space, again: Mapping[str, Any]) -> str:
    """A run's seed and videos in words."""
    own = space.base.data.validation
    is_drawn = "holdout" in again and isinstance(own, Holdout) and again["holdout"] != own.seed
    videos = f"holdout {again['holdout']}" if is_drawn else f"{again['videos']} videos"
    return f"seed {again['seed']} on {videos}"


def parameters(space: Space) -> dict[str, BaseDistribution]:
    """Those of the runs of a space; see `CONDITIONS`."""
    return {**PARAMETERS, **(TODAY if by_mean_curve(space.plan.confirm) else {})}


def repeats(space: Space, trials: Sequence[FrozenTrial]) -> list[Again]:
    """Each candidate with each new seed, all that may be wanted; seed by seed, so that whatever is cut short still
    compares like with like.
    """
    chosen = candidates(space, trials)
    return [{"trial": trial.number, **block} for block in blocks_of(space) for trial in chosen]


def blocks_of(space: Space) -> list[Again]:
    """What all candidates are repeated with."""
    names_holdout = by_mean_curve(space.plan.confirm)
    return [
        {"seed": block.seed, "videos": videos_of(space)}
        | ({"holdout": block.validation.seed} if names_holdout and isinstance(block.validation, Holdout) else {})
        for block in blocks(space.base, space.plan.confirm)
    ]


def first_seeds(space: Space) -> int:
    """With how many new seeds every candidate is trained, before any may leave a race."""
    confirm = space.plan.confirm
    if confirm is None:
        return 0
    return min(FIRST, confirm.seeds) if confirm.race else confirm.seeds


def num_runs(space: Space, has_official: bool, sources: Sequence[Source] = ()) -> tuple[tuple[int, ...], int]:
    """How many runs the confirmation has at most: with new seeds, one round after the other, and on all training
    videos.
    """
    confirm, base = space.plan.confirm, base_point(space)
    known = [base] * (base_number(space) is not None)
    others: list[Again] = []
    for point in winners(sources).values():
        whole = {**base, **point}
        others += [whole] * (whole not in (*known, *others))
    last = len(official_seeds(space.base, confirm)) * (1 + len(known) + len(others))
    is_last = isinstance(space.base.data.validation, Holdout) and has_official
    first = first_seeds(space)
    most = max(confirm.top, 1 + len(others)) + 1 if confirm else 0  # and the base, of a grid its best
    rounds = (most * first, *[most] * (confirm.seeds - first)) if confirm else ()
    return rounds, last if is_last else 0


def is_swept(space: Space, again: Mapping[str, Any]) -> bool:
    """Whether every epoch of such a run is scored at all detection settings, to choose of them later."""
    return again["videos"] != OFFICIAL and by_mean_curve(space.plan.confirm)


def settings(space: Space, trial: FrozenTrial, again: Mapping[str, Any], num_epochs: int) -> dict[str, Any]:
    """A configuration's dotted keys and values for one such run, over the base."""
    chosen = space.detects[again["setting"]] if "setting" in again else chosen_detect(space, trial)
    detect = {f"detect.{key}": value for key, value in vars(chosen).items()}
    values = trial.params | detect | {"seed": again["seed"], "eval.epoch": space.plan.epoch}
    own = space.base.data.validation
    if "holdout" in again and isinstance(own, Holdout):
        values["data.validation"] = drawn(own, again["holdout"] - own.seed)
    if again["videos"] == OFFICIAL:
        values |= {"data.validation": OFFICIAL, "optim.epochs": num_epochs, "eval.epoch": "last"}
        optim = with_values(space.base, trial.params).optim
        if optim.varies:  # along the learning rates of the search, not along all of them in fewer epochs
            values["optim.schedule_epochs"] = optim.schedule_epochs or optim.epochs
    return values
