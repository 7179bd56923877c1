"""One study seen by Ray Tune: as searcher (what to run), scheduler (when to stop) and listener (how it ended).

Ray's own OptunaSearch prunes nothing and tells every stopped trial as COMPLETE. Here the scheduler, which runs first,
reports each epoch and asks the pruner; a trial ends by the scheduler's word alone, so that its last epoch is reported
like every other; and the listener, which is told last and knows the whole trial, tells the study how it ended.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.study import Study

_LOG = logging.getLogger("search")


@dataclass
class Running:
    """What the driver knows of a trial under way."""

    number: int
    params: dict[str, Any]
    started: float = field(default_factory=time.monotonic)
    epochs: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    by_detect: list[float] = field(default_factory=list)
    best_by_detect: list[float] = field(default_factory=list)
    failure: str | None = None
    pruned: bool = False
    collapsed_epochs: int = 0
    device: str = ""

    def note(self, result: dict[str, Any]) -> None:
        """Takes in one epoch's result; not one that a trial repeats after going back to its checkpoint."""
        if result["epoch"] <= self.epochs:
            return
        self.epochs, self.device = result["epoch"], result.get("device", "")
        self.collapsed_epochs += bool(result["collapsed"])
        values = result["avg_map_by_detect"]
        if result["avg_map"] > self.best_value:
            self.best_epoch, self.best_value, self.by_detect = result["epoch"], result["avg_map"], values
        self.best_by_detect = [max(pair) for pair in zip(self.best_by_detect or values, values, strict=True)]


class Bridge:
    """The study and the trials under way; makes the three views."""

    def __init__(self, study: Study, budget: int, on_end: Callable[[Running, str], None]):
        self.study, self.budget, self._on_end = study, budget, on_end
        self.asked = 0
        self.by_id: dict[str, Running] = {}

    def ask(self, trial_id: str) -> dict[str, Any]:
        """The next trial as Ray Tune's config."""
        suggestion = self.study.ask()
        self.asked += 1
        self.by_id[trial_id] = Running(suggestion.number, dict(suggestion.params))
        return {"number": suggestion.number, "params": dict(suggestion.params)}

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Reports one epoch; whether the trial ends here."""
        running = self.by_id[trial_id]
        if "failure" in result:
            running.failure = result["failure"]
            return True
        running.note(result)
        again = self.study.report(running.number, result["epoch"], result["avg_map"])
        running.pruned = running.pruned or again  # a verdict stands when its epoch is repeated after a failure
        return running.pruned or result["epoch"] >= self.study.epochs

    def end(self, trial_id: str, node: str, failure: str | None = None) -> None:
        """Tells the study how a trial ended."""
        running = self.by_id.pop(trial_id)
        attributes = {
            "epochs": running.epochs,
            "best_epoch": running.best_epoch,
            "seconds": time.monotonic() - running.started,
            "node": node,
            "device": running.device,
            "avg_map_by_detect": running.by_detect,
            "best_avg_map_by_detect": running.best_by_detect,
            "collapsed_epochs": running.collapsed_epochs,
        }
        if running.failure is None:
            running.failure = failure
        if running.failure is None and not running.pruned and running.epochs < self.study.epochs:
            running.failure = "stopped before its last epoch"
        if running.failure is not None:
            state = "FAIL"
            self.study.fail(running.number, running.failure, attributes)
        elif running.pruned:
            state = "PRUNED"
            self.study.prune(running.number, attributes)
        else:
            state = "COMPLETE"
            self.study.complete(running.number, attributes)
        try:
            self._on_end(running, state)
        except OSError as error:  # a closed terminal or a full disk; Ray would run the trial again for it
            _LOG.warning("could not show trial %d: %s", running.number, error)


class StudySearcher(Searcher):
    """What to run next."""

    def __init__(self, bridge: Bridge):
        super().__init__()  # without a metric: Ray would end the search at a result that lacks it, as a failure's does
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:  # Ray declares a dict, and takes FINISHED, a text, as well
        """A trial's config, or FINISHED once the budget is spent."""
        return self._bridge.ask(trial_id) if self._bridge.asked < self._bridge.budget else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: StudyListener tells the study, for it knows why a trial ended."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the only truth, a snapshot of Ray's is never restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called; see save."""
        raise NotImplementedError("a search goes on from its study, not from Ray's snapshot")


class StudyScheduler(FIFOScheduler):
    """When to stop a trial: at the pruner's word, at its last epoch, or when it says itself that it can't go on."""

    def __init__(self, bridge: Bridge):
        super().__init__()
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP or CONTINUE after one epoch."""
        return TrialScheduler.STOP if self._bridge.judge(trial.trial_id, result) else TrialScheduler.CONTINUE


class StudyListener(Callback):
    """Tells the study how each trial ended, and removes checkpoints that nothing will read again."""

    def __init__(self, bridge: Bridge):
        self._bridge = bridge

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called once the trial has stopped."""
        pruned = self._bridge.by_id[trial.trial_id].pruned
        self._bridge.end(trial.trial_id, _node(trial))
        checkpoint = trial.checkpoint
        if pruned and checkpoint is not None and checkpoint.filesystem is not None:
            try:
                checkpoint.filesystem.delete_dir(checkpoint.path)
            except OSError as error:  # it only takes room; the search must not end for it
                _LOG.warning("could not remove %s: %s", checkpoint.path, error)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called once a trial has failed more often than it may."""
        self._bridge.end(trial.trial_id, _node(trial), failure=_last_line(trial.error_file))


def _last_line(path: str | None) -> str:
    """What an exception says, from the traceback that Ray wrote; read here, for `trial.get_error` looks elsewhere."""
    text = Path(path).read_text(encoding="utf-8", errors="replace").strip() if path and Path(path).exists() else ""
    return text.splitlines()[-1] if text else "unknown; see log/search.log"


def _node(trial: Trial) -> str:
    return str((trial.last_result or {}).get("hostname", ""))
