"""The study of a space, and what its trials scored."""

from pathlib import Path

from optuna.trial import FrozenTrial

from search.space.model import Space, base_point, detects_of
from search.study.algorithms import make_pruner, make_sampler
from search.study.record import Scores, TrialRecord
from search.study.study import Study


def study_of(space: Space, *, name: str, journal: Path | None, seed: int) -> Study:
    """`Study.create` with the space's sampler, pruner and parameters."""
    return Study.create(
        name=name,
        journal=journal,
        sampler=make_sampler(space.sampler, seed, space.parameters, base_point(space)),
        pruner=make_pruner(space.pruner, space.base.optim.epochs),
        parameters=space.parameters,
        epochs=space.base.optim.epochs,
        objective=space.plan.objective,
        base=base_point(space),
        conditions=space.conditions,
    )


def scores_of(space: Space, trial: FrozenTrial, record: TrialRecord | None = None) -> Scores:
    """What a trial of the space's study scored, at its detection settings and its tIoU. record: read already."""
    return (record or TrialRecord.of(trial)).scores(detects_of(space, trial.params), space.base.eval.tiou)
