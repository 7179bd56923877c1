"""A run's recorded trials as a replay lends them.

- A proposed trial gets the curve and the seconds per epoch of the recorded trial nearest to it: each number scaled to
  [0, 1] over its range (by its logarithm on a log scale), a choice at distance 0 or 1, Euclidean.
- A PRUNED trial's curve ends early. It goes on as that of the nearest COMPLETE trial c does: from its last value v at
  epoch e it gains min(1, v / c_e) times what c gains after epoch e, for a trial pruned at half the height of another
  is not to gain all that the other gained.
- FAIL trials, and those with no epoch, are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from optuna.trial import FrozenTrial, TrialState

from haan.data.table import IntArray
from haan.errors import InputError
from search.space.model import Space, base_point, epochs_of, most_epochs
from search.study.alike import Scale
from search.study.record import TrialRecord

_SAMPLED = 400  # trials that the miss is estimated on


@dataclass(frozen=True, eq=False)
class Pool:
    """Recorded trials, as a replay lends them; a row a trial, by its number.

    curves: avg.mAP in percent by epoch, NaN where none was scored; those of PRUNED trials continued. epochs: of the
    whole trial. seconds: of one epoch. complete: whether the whole curve was recorded. values: of the whole curve, by
    the run's objective. left_out: trials that FAILed or have no epoch.
    """

    scale: Scale
    points: Float[np.ndarray, "trials axes"]
    curves: Float[np.ndarray, "trials epochs"]
    epochs: IntArray
    seconds: Float[np.ndarray, " trials"]
    complete: np.ndarray
    values: Float[np.ndarray, " trials"]
    left_out: int

    @property
    def best(self) -> float:
        """The best value that was recorded: of a COMPLETE trial, for the others' are partly made up."""
        return float(self.values[self.complete].max())

    def nearest(self, params: Mapping[str, Any]) -> int:
        """The row of the recorded trial nearest to these parameters, the first of equals."""
        return nearest_row(self.points, self.scale.point(params))

    def __len__(self) -> int:
        return len(self.points)


def read_pool(trials: Sequence[FrozenTrial], space: Space, where: str) -> Pool:
    """The pool of a study's trials. Raises InputError, naming `where`, when it lacks what a replay needs."""
    usable = [one for one in trials if _is_usable(one)]
    complete = np.array([one.state == TrialState.COMPLETE for one in usable], dtype=bool)
    if not complete.any():
        raise InputError(f"{where}: must have a COMPLETE trial to replay, got none of {len(trials)}")
    scale = Scale(space.parameters, base_point(space))
    points = np.stack([scale.point(one.params) for one in usable])
    epochs = np.array([epochs_of(space, one.params) for one in usable])
    curves = np.stack([_curve(one, most_epochs(space)) for one in usable])
    donors = np.flatnonzero(complete)
    for row in np.flatnonzero(~complete):
        donor = donors[nearest_row(points[donors], points[row])]
        curves[row] = continued(curves[row], curves[donor])
        curves[row, epochs[row] :] = np.nan
    values = np.nanmax(curves, axis=1) if space.plan.objective == "best" else _last_values(curves)
    seconds = _epoch_seconds(usable, where)
    return Pool(scale, points, curves, epochs, seconds, complete, values, len(trials) - len(usable))


def _is_usable(trial: FrozenTrial) -> bool:
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return ended and bool(trial.intermediate_values)


def _curve(trial: FrozenTrial, epochs: int) -> Float[np.ndarray, " epochs"]:
    curve = np.full(epochs, np.nan)
    for epoch, value in trial.intermediate_values.items():
        if 1 <= epoch <= epochs:
            curve[epoch - 1] = value
    return curve


def continued(curve: Float[np.ndarray, " epochs"], donor: Float[np.ndarray, " epochs"]) -> Float[np.ndarray, " epochs"]:
    """A curve that ends early (NaN from there on), with min(1, v / c) of what the donor gains from there on.

    v: its last value; c: the donor's in that epoch (before it, where that one was not scored).
    """
    last = int(np.flatnonzero(~np.isnan(curve))[-1])
    value, beside = curve[last], donor[: last + 1]
    scored = beside[~np.isnan(beside)]
    start = scored[-1] if scored.size else 0.0
    share = min(1.0, value / start) if start > 0 else 1.0
    whole = curve.copy()
    whole[last + 1 :] = value + share * (donor[last + 1 :] - start)
    return whole


def _last_values(curves: Float[np.ndarray, "trials epochs"]) -> Float[np.ndarray, " trials"]:
    return np.array([curve[~np.isnan(curve)][-1] for curve in curves])


def _epoch_seconds(trials: Sequence[FrozenTrial], where: str) -> Float[np.ndarray, " trials"]:
    """Seconds of one epoch; the median of the others where a trial has none."""
    records = [TrialRecord.of(one) for one in trials]
    known = [one.seconds / one.epochs if one.seconds and one.epochs else np.nan for one in records]
    seconds = np.array(known, dtype=float)
    if np.isnan(seconds).all():
        raise InputError(f"{where}: must have trials with their `seconds` and `epochs`, got none")
    return np.where(np.isnan(seconds), np.nanmedian(seconds), seconds)


def nearest_row(points: Float[np.ndarray, "trials axes"], point: Float[np.ndarray, " axes"]) -> int:
    """The row of the point nearest to one, the first of equals."""
    return int(np.argmin(np.square(points - point).sum(axis=1)))


@dataclass(frozen=True)
class Trust:
    """How far a recorded trial speaks for its neighbours, in avg.mAP, estimated on the COMPLETE trials.

    nearest: how far a trial's value lies from that of the nearest other one, on average. random: from any other one.
    """

    nearest: float
    random: float


def trust(pool: Pool) -> Trust | None:
    """None with fewer than three COMPLETE trials."""
    rows = np.flatnonzero(pool.complete)
    if len(rows) < 3:
        return None
    rows = np.random.default_rng(0).permutation(rows)[:_SAMPLED]
    points, values = pool.points[rows], pool.values[rows]
    distance = np.square(points[:, None] - points).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    apart = np.abs(values[:, None] - values)
    return Trust(
        nearest=float(np.abs(values - values[distance.argmin(axis=1)]).mean()),
        random=float(apart.sum() / (len(rows) * (len(rows) - 1))),
    )
