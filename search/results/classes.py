"""What the winner and the base score on each fine class: classes.csv.

Both as they were trained last, on the same videos: on the official validation videos where the winner was trained on
all training videos, else on those that the search is scored on; each at the detection setting that the search chose.
"""

from dataclasses import dataclass, replace
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
from search.results import confirm, winner
from search.results.checkpoints import place
from search.results.folder import RunFolder
from search.results.retraining import HOLDOUT, OFFICIAL, VALIDATION, videos_of
from search.space.model import Space

_FIGURES = ("winner", "base", "gain")  # columns in percent; empty where not known


@dataclass(frozen=True)
class Classes:
    """classes.csv, read. number: the winner's trial. videos: in the words of confirm.csv.

    rows: class, coarse (names), instances (ground-truth segments), winner and base (average precision in percent, mean
    over eval.tiou) and gain, a row a fine class; NaN where not known.
    """

    number: int
    videos: str
    rows: pd.DataFrame


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
    config = winner.leaving(space, best, final)
    videos = split(annotations, config.data).validation
    evaluator = Evaluator(truth(annotations, videos), len(annotations.fine_names), config.eval.tiou)
    base = winner.base_of(space, trials, best)
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
    config = replace(winner.leaving(space, base, final), device="auto")
    with TemporaryDirectory() as scratch:
        weights = Path(scratch, WEIGHTS)
        try:
            if winner.fetch_weights(folder, space, base, final, weights):
                return detections(config, source, annotations, videos, weights)
        except (InputError, OSError) as error:
            return str(error)
    return f"its weights were not found in {place(folder, space)}"


def read(folder: RunFolder) -> Classes | None:
    """classes.csv; None where there is none. Raises ValueError and KeyError where it is not what was written."""
    if not folder.classes_csv.exists():
        return None
    # A class may be called NA or None, which pandas would take for nothing.
    empty = {key: [""] for key in _FIGURES}
    kinds: Any = {"class": str, "coarse": str, "instances": int} | dict.fromkeys(_FIGURES, float)
    rows = pd.read_csv(folder.classes_csv, dtype=kinds, keep_default_na=False, na_values=empty)
    ((number, videos),) = set(zip(rows["number"], rows["videos"], strict=True))
    if videos not in (HOLDOUT, VALIDATION, OFFICIAL):
        raise ValueError(f"videos must be {HOLDOUT}, {VALIDATION} or {OFFICIAL}, got {videos!r}")
    return Classes(int(number), videos, rows.loc[:, ["class", "coarse", "instances", *_FIGURES]])
