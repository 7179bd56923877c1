"""A run as a replay finds it: made-up curves, a pool of them, a run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml

from haan.yamlconfig import plain
from search.replays.pool import Pool, read_pool
from search.space.model import Space, front
from search.space.read import read_space
from search.study.algorithms import PRUNERS as KNOWN_PRUNERS
from search.study.algorithms import Component, component, make_pruner, make_sampler
from search.study.study import Study
from tests.planted import tiny_config
from tests.search.curves import PRUNER_ARGUMENTS, Curve, record

EPOCHS = 12
PARAMETERS = {
    "concepts.clusters": {"int": [4, 16], "log": True},
    "loss.pseudo": {"float": [1e-4, 1.0], "log": True},
    "loss.coarse_pooling": {"choice": ["max", "mean"]},
}
PRUNERS = {
    name: component({"name": name} | dict(arguments), KNOWN_PRUNERS) for name, arguments in PRUNER_ARGUMENTS.items()
}
NONE = Component("none", {})
optuna.logging.set_verbosity(optuna.logging.WARNING)


def write_space(folder: Path, **search: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    base = plain(tiny_config(folder / "data")) | {"seed": 3}
    base["optim"] |= {"epochs": EPOCHS}
    found = {"trials": 30, "sampler": {"name": "random"}, "parameters": PARAMETERS}
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"base": base, "search": found | search}))
    return path


def create(space: Space, journal: Path | None = None, cls: type[Study] = Study) -> Study:
    return cls.create(
        name="recorded",
        journal=journal,
        sampler=make_sampler(space.sampler, space.base.seed, space.parameters),
        pruner=make_pruner(space.pruner, EPOCHS),
        parameters=space.parameters,
        epochs=EPOCHS,
        objective=space.plan.objective,
    )


def search_one_by_one(study: Study, space: Space, curves: Sequence[Curve], seconds: float = 2.0) -> None:
    """A real search with one worker, by plain calls."""
    study.start_with(front(space))
    for curve in curves:
        number = study.ask().number
        for epoch, value in enumerate(curve, start=1):
            if study.report(number, epoch, value):
                study.prune(number, {"seconds": seconds * epoch, "epochs": epoch})
                break
        else:
            study.complete(number, {"seconds": seconds * EPOCHS, "epochs": EPOCHS})


def record_run(folder: Path, pruner: Component = NONE, trials: int = 30, **search: Any) -> Space:
    """A run folder as one worker leaves it."""
    chosen = {"name": pruner.name} | _plain(pruner.arguments)
    space = read_space(write_space(folder, pruner=chosen, trials=trials, **search))
    search_one_by_one(create(space, folder / "study.journal"), space, record(trials, EPOCHS, seed=4))
    return space


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {"name": value.name} | _plain(value.arguments) if isinstance(value, Component) else value
        for key, value in arguments.items()
    }


def pool_of(space: Space, curves: Sequence[Curve], seconds: Any = 2.0) -> Pool:
    """Trials at random places that all ran to their end."""
    study = create(replace(space, sampler=Component("random", {}), pruner=NONE))
    search_one_by_one(study, space, curves)
    pool = read_pool(study.trials(), space, "here")
    return replace(pool, seconds=np.broadcast_to(np.asarray(seconds, dtype=float), len(pool)).copy())
