"""Learning curves to replay in place of training, and a setting of every pruner that bites on them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import TrialState

EPOCHS = 12
TRIALS = 30
COLLAPSED_EPOCH = 6
_REFRESH = 5  # epochs between two clusterings

Curve = tuple[float, ...]


def record(trials: int = TRIALS, epochs: int = EPOCHS, seed: int = 0) -> tuple[Curve, ...]:
    """avg.mAP in percent by epoch, one curve a trial, trial number by trial number.

    Each saturates, is noisy, and jumps up or down in the first epoch after the clips are clustered again. A few trials
    learn next to nothing, as those with a poor learning rate do.
    """
    rng = np.random.default_rng(seed)
    epoch = np.arange(1, epochs + 1)
    curves = []
    for _ in range(trials):
        ceiling = rng.uniform(3, 12) * (0.1 if rng.random() < 0.15 else 1)
        rising = ceiling * (1 - np.exp(-rng.uniform(0.15, 0.8) * epoch))
        clusterings = (epoch > 1) & (epoch % _REFRESH == 1)
        jumps = np.cumsum(np.where(clusterings, rng.normal(0, 0.08 * ceiling, epochs), 0))
        values = rising + jumps + rng.normal(0, 0.03 * ceiling, epochs)
        curves.append(tuple(float(v) for v in np.round(np.maximum(values, 0), 6)))
    return tuple(curves)


CURVES = record()

# One setting for every name of PRUNERS. On CURVES each but `none` prunes some trials and spares some.
PRUNER_ARGUMENTS: dict[str, Mapping[str, Any]] = {
    "none": {},
    "median": {"n_startup_trials": 4, "n_warmup_steps": 2},
    "percentile": {"percentile": 30.0, "n_startup_trials": 4, "n_warmup_steps": 1},
    "successive_halving": {"min_resource": 2, "reduction_factor": 2},
    "hyperband": {"min_resource": 1, "reduction_factor": 3},
    "threshold": {"lower": 2.5, "n_warmup_steps": 4},
    "patient": {"wrapped_pruner": {"name": "median", "n_startup_trials": 3}, "patience": 0},
}

# The same in step with the clusterings; each prunes some trials, and only in epochs 5 and 10.
ALIGNED: dict[str, Mapping[str, Any]] = {
    name: {**arguments, "interval": _REFRESH} for name, arguments in PRUNER_ARGUMENTS.items() if name != "none"
}


def result(epoch: int, value: float, settings: int = 2) -> dict[str, Any]:
    """What search.trials.trial reports of an epoch: at so many detection settings, of which the first is the best."""
    return {
        "epoch": epoch,
        "avg_map": value,
        "avg_map_by_detect": [value / (i + 1) for i in range(settings)],
        "map_by_tiou": [value + 1, value - 1],
        "losses": {"total": 1.0},
        "seconds": {"train": 0.25},
        "collapsed": epoch == COLLAPSED_EPOCH,
        "empty_clusters": 0,
        "detections": 1,
        "device": "cpu",
    }


class Outcome(NamedTuple):
    """What became of one trial."""

    number: int
    state: TrialState
    epochs: int
    value: float | None


def outcomes(study: optuna.Study) -> list[Outcome]:
    """What became of every trial, by number."""
    return [Outcome(t.number, t.state, len(t.intermediate_values), t.value) for t in study.get_trials(deepcopy=False)]
