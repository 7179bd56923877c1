"""What Ray Tune sees of studies in a row: a searcher, a scheduler, a stopper and a listener."""

import time
from collections.abc import Callable
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.trials import internals
from search.trials.bridge import no_room
from search.trials.failures import StudyTrial, reason
from search.trials.relay import Relay

_LOOK_S, _AGAIN_S = 5, 1  # between two looks at all trials; where one of them may wait


class StudySearcher(Searcher):
    """What to run next."""

    def __init__(self, relay: Relay):
        super().__init__()  # without a metric: Ray would end the search at a result that lacks it, as a failure's does
        self._relay = relay

    def suggest(self, trial_id: str) -> Any:  # Ray declares a dict, and takes FINISHED, a text, and None as well
        """A trial's config, None while there is none yet, or FINISHED once all budgets are spent."""
        self._relay.hand_over()
        return Searcher.FINISHED if self._relay.is_over else self._relay.ask(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: StudyListener tells the study, for it knows why a trial ended."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the only truth, a snapshot of Ray's is never restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called; see save."""
        raise NotImplementedError("a search goes on from its study, not from Ray's snapshot")


class StudyScheduler(FIFOScheduler):
    """When to stop a trial: at the pruner's word, at its last epoch, or when it says itself that it can't go on."""

    def __init__(self, relay: Relay, idle: internals.IdleProcesses):
        super().__init__()
        self._relay, self._idle = relay, idle
        self._ending = set[str]()  # told to stop, by their ids: two may be at once

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Makes a new trial one that tells losses from failures; Ray Tune has no other place to say so."""
        internals.become(trial, StudyTrial)
        self._keep_idle(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP or CONTINUE after the epochs of one message."""
        if not self._relay.now.judge(trial.trial_id, result):
            return TrialScheduler.CONTINUE
        self._ending.add(trial.trial_id)
        self._keep_idle(tune_controller, trial)
        return TrialScheduler.STOP

    def _keep_idle(self, tune_controller: Any, like: Trial) -> None:
        self._ending &= self._relay.now.by_id.keys()
        self._idle.keep(tune_controller, like, self._relay.idle(len(self._ending)))

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Keeps Ray Tune 2.60 from giving up a trial whose process died just as it was handed to it.

        It hears of such a death twice: at first it puts the trial back in line, and then takes it for one that failed
        in line. It also forgets that the process is not being handed over any more, and would wait for that for ever.
        """
        internals.forget_handover(tune_controller, trial)
        if trial.status == Trial.PENDING and internals.is_without_process(trial):
            self._relay.now.spared.add(trial.trial_id)
            if not getattr(trial, "was_lost", False):  # a loss wasn't counted
                internals.set_failures(trial, internals.failures(trial) - 1)
            trial.status = Trial.ERROR  # so Ray Tune finds nothing left to stop; StudyListener takes it back


class StudyStopper(Stopper):
    """When to stop all of it: at a halt. Ray then stops the trials under way without a word to the listener."""

    def __init__(self, relay: Relay):
        self._relay = relay

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never a single trial: StudyScheduler does."""
        return False

    def stop_all(self) -> bool:
        """Whether the search halts."""
        return self._relay.now.is_over()


class StudyListener(Callback):
    """Tells the study how each trial ended.

    idle: given back to trials that wait. request: what a trial is to ask for; asked anew after a loss, for the nodes
    may be others.
    """

    def __init__(
        self, relay: Relay, idle: internals.IdleProcesses, request: Callable[[dict[str, Any]], Any] | None = None
    ):
        self._relay, self._idle, self._request = relay, idle, request
        self._looked, self._pending = 0.0, set[str]()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called in each turn of Ray Tune's loop."""
        if time.monotonic() - self._looked > _LOOK_S:
            states = {trial.status for trial in trials}
            pending = {trial.trial_id for trial in trials if trial.status == Trial.PENDING}
            waits = not pending.isdisjoint(self._pending)  # and an idle process does not take it in this very moment
            if waits:
                self._idle.release()
            self._relay.now.look(Trial.RUNNING in states, bool(pending))
            soon_s = _LOOK_S - _AGAIN_S if pending and not waits else 0
            self._pending, self._looked = pending, time.monotonic() - soon_s

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called once the trial has stopped."""
        self._relay.now.end(trial.trial_id)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called when a trial broke and goes on from its last checkpoint."""
        self._broke(trial)
        self._relay.now.interrupt(trial.trial_id, reason(trial))
        if self._request is not None:
            trial.update_resources(self._request(trial.config))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called once a trial has failed more often than it may."""
        if trial.trial_id in self._relay.now.spared:
            self._relay.now.spared.remove(trial.trial_id)
            trial.status = Trial.PENDING
            return
        self._broke(trial)
        self._relay.now.end(trial.trial_id, failure=reason(trial))

    def _broke(self, trial: Trial) -> None:
        if no_room(reason(trial)):  # no fault of the trial's, and the next one would meet it as well
            self._relay.now.halt("disk", reason(trial))
