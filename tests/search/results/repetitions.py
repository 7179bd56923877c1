"""Trials of a search and their repetitions, made up by what they scored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState, create_trial

from haan.yamlconfig import plain
from search.results import retraining
from search.space.model import Space
from search.space.read import read_kept, read_space
from search.study.record import WINNER_OF
from tests.planted import tiny_config

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
ALPHAS = (-0.4, -0.2, 0.0, 0.2, 0.4)


def space(folder: Path, validation: Any = None, kept: bool = False, **search: object) -> Space:
    """kept: as a run of before `holdouts` keeps it."""
    base = plain(tiny_config(Path("data")))
    base["data"]["validation"] = validation or {"holdout": 0.25, "seed": 0}
    parameters = {"concepts.clusters": {"int": [4, 16]}, "detect.alpha": {"sweep": "-0.4:0.4:0.2"}}
    found = {"sampler": {"name": "random"}, "parameters": parameters, "confirm": {"top": 2, "seeds": 2}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"base": base, "search": found | search}))
    return read_kept(path) if kept else read_space(path)


def searched(
    of: Space,
    *values: float | None,
    states: Mapping[int, TrialState] | None = None,
    won: Mapping[int, Sequence[str]] | None = None,
) -> list[FrozenTrial]:
    """Trials of a search; each chose the alpha of its own number, and its best epoch is its number + 1.

    won: earlier searches, by the trial that repeats their winner.
    """
    study = optuna.create_study(direction="maximize")
    for number, value in enumerate(values):
        state = (states or {}).get(number, COMPLETE)
        by_detect = [float(i == number % len(of.detects)) for i in range(len(of.detects))]
        attributes: dict[str, Any] = {}
        if value is not None:
            attributes |= {"avg_map_by_detect": by_detect, "best_epoch": number + 1}
        attributes |= {WINNER_OF: list(won[number])} if won and number in won else {}
        study.add_trial(
            create_trial(
                state=state,
                value=value if state == COMPLETE else None,
                params={"concepts.clusters": 4 + number},
                distributions=dict(of.parameters),
                user_attrs=attributes,
            )
        )
    return study.get_trials()


def run(again: retraining.Again, value: float | None, state: TrialState = COMPLETE, **known: Any) -> FrozenTrial:
    every = {**retraining.PARAMETERS, **retraining.TODAY}
    return create_trial(
        state=state,
        value=value,
        params=again,
        distributions={key: every[key] for key in again},
        user_attrs={"best_epoch": 5, "epochs": 9} | known,
    )


def scored(of: Space, again: retraining.Again, *epochs: dict[int, float]) -> FrozenTrial:
    """A repetition by what its epochs scored at detection settings, by their place; 0 elsewhere."""
    curve = [
        [number, [one.get(place, 0.0) for place in range(len(of.detects))]] for number, one in enumerate(epochs, 1)
    ]
    return run(again, max(max(values) for _, values in curve), by_epoch=curve)
