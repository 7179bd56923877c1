"""classes.csv is written: the winner and the base, class by class; `classes` says of which videos, and reads it."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from haan.data.table import Annotations, FeatureSource, IntArray, split
from haan.errors import InputError
from haan.files import whole
from haan.metrics import Detections, Evaluator
from haan.predict import detections
from haan.score import truth
from haan.weights import WEIGHTS
from search.results import confirm
from search.results.checkpoints import place
from search.results.export import fetch_weights
from search.results.folder import RunFolder
from search.results.retraining import OFFICIAL, videos_of
from search.results.winner import base_of, leaving
from search.space.model import Space


def write_csv(
    folder: RunFolder,
    space: Space,
    study: optuna.Study,
    won: Detections,
    source: FeatureSource,
    annotations: Annotations,
) -> str | None:
    """classes.csv, a row a fine class; why it has no figures of the base, where there is a base to compare with.

    won: the winner's detections. `number` is its trial, as in trials.csv. What is wrong with the base costs its column
    alone. Raises InputError, OSError.
    """
    trials, known = study.get_trials(deepcopy=False), confirm.read_confirmation(folder, space, study)
    best = confirm.winner(space, trials, known)
    assert best is not None
    final = known.finals.get(best.number)
    config = leaving(space, best, final)
    videos = split(annotations, config.data).validation
    evaluator = Evaluator(truth(annotations, videos), len(annotations.fine_names), config.eval.tiou)
    base = base_of(space, trials, best)
    found: Detections | str | None = None
    if base is not None and base is not best:
        run = known.finals.get(base.number) if final is not None else None
        if (final is None) == (run is None) and (run or base).state == TrialState.COMPLETE:
            found = _detected(folder, space, base, run, source, annotations, videos)
        else:
            found = "it was not trained to the end on the same videos"
    columns: dict[str, Any] = {
        "number": best.number,
        "videos": OFFICIAL if final is not None else videos_of(space),
        "class": annotations.fine_names,
        "coarse": [annotations.coarse_names[number] for number in annotations.coarse_of_fine],
        "instances": evaluator.positives,
        "winner": evaluator.score(won).by_class,
        "base": evaluator.score(found).by_class if isinstance(found, Detections) else np.nan,
    }
    with whole(folder.classes_csv) as partial:
        pd.DataFrame(columns).assign(gain=lambda table: table["winner"] - table["base"]).to_csv(partial, index=False)
    return found if isinstance(found, str) else None


def _detected(
    folder: RunFolder,
    space: Space,
    base: FrozenTrial,
    final: FrozenTrial | None,
    source: FeatureSource,
    annotations: Annotations,
    videos: IntArray,
) -> Detections | str:
    """The base's detections, or why there are none. final: its run on all training videos."""
    config = replace(leaving(space, base, final), device="auto")
    with TemporaryDirectory() as scratch:
        weights = Path(scratch, WEIGHTS)
        try:
            if fetch_weights(folder, space, base, final, weights):
                return detections(config, source, annotations, videos, weights)
        except (InputError, OSError) as error:
            return str(error)
    return f"its weights were not found in {place(folder, space)}"
