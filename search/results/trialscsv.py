"""trials.csv: a row a trial."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from haan.files import whole
from haan.yamlconfig import METHOD
from search.results.folder import RunFolder
from search.results.winner import seed_of
from search.space.model import Space, detect_values, row_of, with_method
from search.space.studies import scores_of
from search.study.record import TrialRecord

_LAST = ["method", "supervision"]  # behind the columns that were there before them


def _row(space: Space, trial: FrozenTrial) -> Mapping[str, Any]:
    record = TrialRecord.of(trial)
    scores = scores_of(space, trial, record)
    row: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state.name,
        "avg_map": scores.avg_map,
        "best_epoch": record.best_epoch,
        "epochs": trial.last_step if record.epochs is None else record.epochs,
        "seconds": record.seconds,
        "node": record.node,
        "seed": seed_of(space, trial),
        "failure": record.failure,
        "retries": len(record.retries),
        "empty_clusters": record.empty_clusters,
    }
    if space.rows:
        row["row"] = row_of(space, trial.params)
    row |= {f"params.{key}": trial.params.get(key) for key in space.parameters}
    if scores.chosen is not None:
        row |= detect_values(space, scores.chosen)
    config = with_method(space.base, trial.params.get(METHOD, space.base.method))
    return row | {"method": config.method, "supervision": config.supervision}


def table(space: Space, trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """A row a trial; `avg_map` and what the sweep chose are of the epoch that counts, in every state."""
    made = pd.DataFrame([_row(space, trial) for trial in trials if trial.state != TrialState.WAITING])
    if not len(made):
        return made
    return made.reindex(columns=[*made.columns.drop(_LAST), *_LAST])  # not every trial has a detection setting


def write_trials(folder: RunFolder, space: Space, trials: Sequence[FrozenTrial]) -> None:
    """The same as trials.csv."""
    with whole(folder.trials_csv) as partial:
        table(space, trials).to_csv(partial, index=False)
