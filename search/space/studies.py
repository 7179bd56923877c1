"""The study of a space, and what its trials scored."""

from pathlib import Path

from search.space.model import Space, base_point
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


def scores_of(space: Space, record: TrialRecord) -> Scores:
    """What a trial of the space's study scored, at its detection settings and its tIoU."""
    return record.scores(space.detects, space.base.eval.tiou)
