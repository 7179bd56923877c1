"""The study of a space, and what its trials scored."""

from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial

from search.space.model import Space, base_point, detects_of, front
from search.study import earlier
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


def begin(study: Study, space: Space, sources: Sequence[earlier.Source] = ()) -> None:
    """Puts in front what the study of a space tries first. sources: what it is to keep, where it doesn't yet."""
    earlier.keep(study.inner, sources)
    known = earlier.kept(study.inner.user_attrs)
    study.start_with(earlier.front(known, front(space), base_point(space)), earlier.winners(known))


def scores_of(space: Space, trial: FrozenTrial, record: TrialRecord | None = None) -> Scores:
    """What a trial of the space's study scored, at its detection settings and its tIoU. record: read already."""
    return (record or TrialRecord.of(trial)).scores(detects_of(space, trial.params), space.base.eval.tiou)
