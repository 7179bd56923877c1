"""A made-up run folder with everything a report can show, the same every time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from haan.yamlconfig import plain
from search.results import confirm, export, retraining
from search.results.folder import RunFolder
from search.space.model import Space, base_value
from search.space.read import read_space
from search.study import record
from tests.planted import tiny_config

EPOCHS = 18
T0 = 1_790_000_000.0
NODES = ("node-a", "node-b")
PARAMETERS: dict[str, Any] = {
    "concepts.clusters": {"int": [4, 200], "log": True},
    "concepts.top_k": {"int": [1, 4]},
    "loss.pseudo": {"float": [1e-4, 1.0], "log": True},
    "loss.coarse": {"float": [1e-2, 10.0], "log": True},
    "model.dropout": {"float": [0.0, 0.9]},
    "loss.coarse_pooling": {"choice": ["max", "mean"]},
    "detect.alpha": {"sweep": "-0.6:0.6:0.1"},
}


def write_space(root: Path, parameters: Mapping[str, Any] = PARAMETERS, **search: Any) -> Space:
    """space.yaml of a run folder, read back."""
    root.mkdir(parents=True, exist_ok=True)
    base = plain(tiny_config(Path("data"), epochs=EPOCHS))
    plan = {"trials": 60, "resources": {"cpu": 1, "gpu": 0}, "parameters": dict(parameters)} | search
    path = root / "space.yaml"
    path.write_text(yaml.safe_dump({"base": base, "search": plan}))
    return read_space(path)


def new_study(root: Path, name: str = "made") -> optuna.Study:
    """An empty study in the run folder's journal."""
    storage = JournalStorage(JournalFileBackend(str(root / "study.journal")))
    return optuna.create_study(storage=storage, study_name=name, direction="maximize")


@dataclass
class Maker:
    """Makes trials of a space: scores follow the parameters, so that there is something to find.

    won: earlier searches, by the trial that repeats their winner.
    """

    space: Space
    seed: int = 0
    won: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=self.seed))

    def params(self, number: int) -> dict[str, Any]:
        """The base's for trial 0, else drawn."""
        if number == 0:
            return {key: base_value(self.space.base, key) for key in self.space.parameters}
        return self.drawn.ask(dict(self.space.parameters)).params

    def scores(self, params: Mapping[str, Any], epochs: int) -> list[float]:
        """avg.mAP after each epoch."""
        pseudo = float(params.get("loss.pseudo", 1e-3))
        top = 25.0 - 2.2 * (math.log10(pseudo) + 1.5) ** 2 + (2.0 if params.get("loss.coarse_pooling") == "max" else 0)
        top = max(top - 3.0 * abs(float(params.get("model.dropout", 0.3)) - 0.4), 2.0)
        noise = self.random.normal(0, 0.5, epochs)
        return [max(top * (1 - math.exp(-(e + 1) / 5)) + noise[e], 0.0) for e in range(epochs)]

    def by_detect(self, best: float) -> list[float]:
        """A hill over the detection settings whose top is `best`."""
        peak = 0.2 + 0.1 * self.random.integers(-1, 2)
        hill = [math.exp(-(((detect.alpha - peak) / 0.5) ** 2)) for detect in self.space.detects]
        return [best * height / max(hill) for height in hill]

    def attributes(self, scores: list[float], start: float, pace: float, node: str) -> dict[str, Any]:
        """What the search keeps of a trial that has ended."""
        best = max(scores)
        by_detect = self.by_detect(best)
        return {
            "epochs": len(scores),
            "best_epoch": scores.index(best) + 1,
            "seconds": pace * len(scores),
            "node": node,
            "device": "cpu",
            "avg_map_by_detect": by_detect,
            "best_avg_map_by_detect": [value * 1.02 for value in by_detect],
            "map_by_tiou": [best * (1.7 - 0.17 * i) for i in range(len(self.space.base.eval.tiou))],
            "losses": {"mil": 0.3, "pseudo": 2.1, "concept": 0.4, "coarse": 0.2, "total": 3.0},
            "collapsed_epochs": 0,
            "runs": [[start, start + pace * len(scores), node]],
        }

    def trial(self, number: int, state: TrialState, epochs: int, start: float, pace: float, node: str) -> FrozenTrial:
        """One trial as the study keeps it."""
        params = self.params(number)
        scores = self.scores(params, epochs)
        known = self.attributes(scores, start, pace, node) if scores else {"runs": [[start, start + pace, node]]}
        if state == TrialState.FAIL:
            known["failure"] = "loss is nan in epoch 1, step 3" if not scores else f"worker died after epoch {epochs}"
        if state == TrialState.RUNNING:
            known = {"runs": [[start, None, node]]}
        if number in self.won:
            known[record.WINNER_OF] = [self.won[number]]
        return create_trial(
            state=state,
            value=max(scores) if state == TrialState.COMPLETE else None,
            params=params,
            distributions=dict(self.space.parameters),
            user_attrs=known,
            intermediate_values=dict(enumerate(scores, 1)),
        )


def fill(study: optuna.Study, space: Space, trials: int, maker: Maker | None = None, running: bool = True) -> None:
    """Adds trials of every state, two at a time on each of two nodes."""
    maker = maker or Maker(space)
    free = {(node, lane): T0 for node in NODES for lane in range(2)}
    for number in range(trials):
        node, lane = min(free, key=lambda place: (free[place], place))
        start, pace = free[node, lane] + 2.0, 20.0 + 5 * (number % 3)
        state, epochs = _fate(number, trials, running)
        trial = maker.trial(number, state, epochs, start, pace, node)
        if number % 17 == 5 and state == TrialState.COMPLETE:  # its first node died; the other went on with it
            again = start + pace * epochs + 30
            trial.set_user_attr("runs", [[start, start + 4 * pace, node], [again - pace * epochs + 60, again, node]])
            trial.set_user_attr("retries", ["the actor died: worker node-b was lost"])
        free[node, lane] = max((end or start for _, end, _ in trial.user_attrs["runs"]), default=start)
        study.add_trial(trial)


def _fate(number: int, trials: int, running: bool) -> tuple[TrialState, int]:
    if running and number == trials - 1:
        return TrialState.RUNNING, 5
    if number % 13 == 7:
        return TrialState.FAIL, 0 if number % 2 else 3
    if number and number % 5 in (1, 3, 4) and number > 4:
        return TrialState.PRUNED, (3, 6, 9)[number % 3]
    return TrialState.COMPLETE, EPOCHS


def confirm_study(root: Path) -> optuna.Study:
    """An empty study in the run folder's confirm.journal."""
    storage = JournalStorage(JournalFileBackend(str(root / "confirm.journal")))
    return optuna.create_study(storage=storage, study_name="made confirmation", direction="maximize")


def fill_confirmation(again: optuna.Study, space: Space, study: optuna.Study) -> None:
    """The best and the base with new seeds, of which one failed, and the winner and the base on the official videos."""
    random = np.random.default_rng(1)
    trials = study.get_trials()
    wanted = retraining.repeats(space, trials)
    broken = wanted[2 + len(wanted) // space.plan.confirm.seeds] if space.plan.confirm else None
    runs = [_run(space, trials[asked["trial"]], asked, random, asked == broken) for asked in wanted]
    again.add_trials(runs)
    for asked in confirm.finals(space, trials, confirm.summarise(space, trials, runs), has_official=True):
        again.add_trial(_run(space, trials[asked["trial"]], asked, random, False))


def distributions_of(space: Space, asked: retraining.Again) -> dict[str, BaseDistribution]:
    """Those of a repetition's parameters."""
    known = retraining.parameters(space)
    return {key: known[key] for key in asked}


def by_epoch(space: Space, avg_map: float) -> list[tuple[int, list[float]]]:
    """A curve whose best is in epoch 15, at the detection setting behind the base's own, which has four fifths."""
    own = space.detects.index(space.base.detect)
    shares = [0.8 if i == own else 1.0 if i == own + 1 else 0.5 for i in range(len(space.detects))]
    return [(e, [avg_map * share * (1 - abs(e - 15) / 30) for share in shares]) for e in range(1, EPOCHS + 1)]


def _run(
    space: Space, trial: FrozenTrial, asked: retraining.Again, random: np.random.Generator, failed: bool
) -> FrozenTrial:
    avg_map = float((trial.value or 0) - 1.5 + random.normal(0, 0.6))
    known: dict[str, Any] = {"epochs": EPOCHS, "seconds": 400.0, "node": "node-a"}
    if failed:
        known |= {"failure": "the node was lost three times"}
    else:
        known |= {"best_epoch": 15, "device": "cpu", "best_avg_map_by_detect": [avg_map, avg_map * 0.8]}
        if asked["videos"] != retraining.OFFICIAL:
            known["by_epoch"] = by_epoch(space, avg_map)
        known |= {"map_by_tiou": [avg_map * (1.7 - 0.17 * i) for i in range(len(space.base.eval.tiou))]}
    return create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        value=None if failed else avg_map,
        params=asked,
        distributions=distributions_of(space, asked),
        user_attrs=known,
    )


def full_run(
    root: Path, trials: int = 60, won: Mapping[int, str] | None = None, **search: Any
) -> tuple[RunFolder, Space, optuna.Study]:
    """A run with everything: all states, retries, two sessions, a confirmation and its winner. won: as in `Maker`."""
    space = write_space(root, **{"confirm": {"top": 3, "seeds": 3}} | search)
    study = new_study(root)
    study.set_user_attr(record.FINGERPRINT, "cc30f720bbcfaa2eda8eec4c089a05c752c2b03421e12adb58af805339aee999")
    session = {"nodes": 2, "concurrent": 4, "cpu": 1, "gpu": 0.0, "where": "the Ray cluster found"}
    study.set_user_attr(record.SESSIONS, [{"started": T0, "ended": T0 + 7000, **session}])
    fill(study, space, trials, Maker(space, won=won or {}))
    fill_confirmation(confirm_study(root), space, study)
    folder = RunFolder(root)
    confirm.write_csv(folder, space, confirm.read_confirmation(folder, space, study))
    export.write_config(folder, space, study)
    return folder, space, study
