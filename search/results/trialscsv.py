"""trials.csv: a row a trial."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from haan.files import whole
from search.results.confirm import chosen_detect
from search.results.folder import RunFolder
from search.results.winner import seed_of
from search.space.model import Space, row_of


def _row(space: Space, trial: FrozenTrial) -> Mapping[str, Any]:
    known = trial.user_attrs
    counted = known.get("avg_map_by_detect")
    row: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state.name,
        "avg_map": max(counted) if counted else None,
        "best_epoch": known.get("best_epoch"),
        "epochs": known.get("epochs", trial.last_step),
        "seconds": known.get("seconds"),
        "node": known.get("node"),
        "seed": seed_of(space, trial),
        "failure": known.get("failure"),
        "retries": len(known.get("retries", [])),
        "empty_clusters": known.get("empty_clusters"),
    }
    if space.rows:
        row["row"] = row_of(space, trial.params)
    row |= {f"params.{key}": trial.params.get(key) for key in space.parameters}
    if counted:
        row |= {f"detect.{key}": value for key, value in vars(chosen_detect(space, trial)).items()}
    return row


def write_trials(folder: RunFolder, space: Space, trials: list[FrozenTrial]) -> None:
    """trials.csv: a row a trial; `avg_map` and what the sweep chose are of the epoch that counts, in every state."""
    rows = [_row(space, trial) for trial in trials if trial.state != TrialState.WAITING]
    with whole(folder.trials_csv) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False)
