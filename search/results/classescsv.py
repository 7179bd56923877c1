"""classes.csv is written: the winner and the base, class by class; `classes` says of which videos, and reads it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import pandas as pd
from jaxtyping import Float
from optuna.trial import FrozenTrial, TrialState

from haan.data.table import Annotations, FeatureSource, IntArray, split, truth
from haan.errors import InputError
from haan.files import whole
from haan.metrics import Detections, Evaluator
from haan.predict import detections
from haan.weights import WEIGHTS
from search.results import confirm
from search.results.checkpoints import place
from search.results.confirm import Confirmation
from search.results.export import fetch_weights
from search.results.folder import RunFolder
from search.results.retraining import OFFICIAL, videos_of
from search.results.winner import base_of, leaving
from search.space.model import Space

_NOT_ALIKE = "it was not trained to the end with the same seed on the same videos"


Figures = Float[np.ndarray, " classes"] | str  # average precision in percent, or why there is none


def write_csv(
    folder: RunFolder,
    space: Space,
    study: optuna.Study,
    won: Detections,
    source: FeatureSource,
    annotations: Annotations,
) -> str | None:
    """classes.csv, a row a fine class; what its figures are without, where they lack the base or a seed, and why.

    won: the winner's exported detections. `number` is its trial, as in trials.csv. What is wrong with a run costs its
    seed, or the base's column. Raises InputError, OSError.
    """
    trials, known = study.get_trials(deepcopy=False), confirm.read_confirmation(folder, space, study)
    best = confirm.winner(space, trials, known)
    assert best is not None
    runs = [run for run in known.retrained if run.params["trial"] == best.number] or [None]  # the exported one first
    base = base_of(space, trials, best)
    if runs[0] is not None:  # beside the base that was trained there: a grid over seeds has several
        base = next((trials[run.trial] for run in known.official if run.base), base)
    config = leaving(space, best, runs[0])
    videos = split(annotations, config.data).validation
    evaluator = Evaluator(truth(annotations, videos), len(annotations.fine_names), config.eval.tiou)

    def figures(trial: FrozenTrial, run: FrozenTrial | None) -> Figures:
        found = _detected(folder, space, trial, run, source, annotations, videos)
        return found if isinstance(found, str) else evaluator.score(found).by_class

    winners = [evaluator.score(won).by_class, *(figures(best, run) for run in runs[1:])]
    bases: list[Figures] = [np.full(len(annotations.fine_names), np.nan)] * len(runs)
    if base is not None and base is not best:
        alike = [_same_seed(known, base, run) for run in runs]
        bases = [one if isinstance(one, str) else figures(base, one) for one in alike]
    won_by_seed, base_by_seed, wrong = _paired(winners, bases)
    columns: dict[str, Any] = {
        "number": best.number,
        "videos": OFFICIAL if runs[0] is not None else videos_of(space),
        "seeds": len(won_by_seed),
        "class": annotations.fine_names,
        "coarse": [annotations.coarse_names[number] for number in annotations.coarse_of_fine],
        "instances": evaluator.positives,
        "winner": np.mean(won_by_seed, axis=0),
        "base": np.mean(base_by_seed, axis=0) if base_by_seed else np.nan,
    }
    with whole(folder.classes_csv) as partial:
        pd.DataFrame(columns).assign(gain=lambda table: table["winner"] - table["base"]).to_csv(partial, index=False)
    if not wrong:
        return None
    return f"without {f'{len(wrong)} of {len(runs)} seeds' if base_by_seed else 'the base'}: {wrong[0]}"


def _paired(winners: Sequence[Figures], bases: Sequence[Figures]) -> tuple[list[Any], list[Any], list[str]]:
    """Of the seeds that both have; where there is none, the winner's alone; and what is wrong with the others."""
    pairs = list(zip(winners, bases, strict=True))
    both = [pair for pair in pairs if not any(isinstance(one, str) for one in pair)]
    wrong = [one for pair in pairs for one in pair if isinstance(one, str)]
    if not both:
        return [one for one in winners if not isinstance(one, str)], [], wrong
    return [one for one, _ in both], [one for _, one in both], wrong


def _same_seed(known: Confirmation, base: FrozenTrial, run: FrozenTrial | None) -> FrozenTrial | str | None:
    """The base's run with the seed of one of the winner's, None for its trial of the search; or why there is none."""
    if run is None:
        return None if base.state == TrialState.COMPLETE else _NOT_ALIKE
    asked = {"trial": base.number, "seed": run.params["seed"]}
    alike = (one for one in known.retrained if {key: one.params[key] for key in asked} == asked)
    return next(alike, _NOT_ALIKE)


def _detected(
    folder: RunFolder,
    space: Space,
    trial: FrozenTrial,
    run: FrozenTrial | None,
    source: FeatureSource,
    annotations: Annotations,
    videos: IntArray,
) -> Detections | str:
    """A trial's detections, or why there are none. run: its own on all training videos."""
    config = replace(leaving(space, trial, run), device="auto")
    with TemporaryDirectory() as scratch:
        weights = Path(scratch, WEIGHTS)
        try:
            if fetch_weights(folder, space, trial, run, weights):
                return detections(config, source, annotations, videos, weights)
        except (InputError, OSError) as error:
            return str(error)
    return f"its weights were not found in {place(folder, space)}"
