"""One study seen by Ray Tune: as searcher (what to run), scheduler (when to stop) and listener (how it ended).

Ray's own OptunaSearch prunes nothing and tells every stopped trial as COMPLETE. Here the scheduler, which runs first,
reports each epoch and asks the pruner; a trial ends by the scheduler's word alone, so that its last epoch is reported
like every other; and the listener, which is told last and knows the whole trial, tells the study how it ended. A trial
that is cut short, because the search halts, is told nothing: it stays RUNNING, and the next driver takes it up.

A trial may fail only so often, but what its node or the network did is no failure of its own, and doesn't count.
"""

import errno
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from search.checkpoints import Checkpoints
from search.features import NO_ROOM as NO_ROOM_FOR_FEATURES
from search.features import Opened
from search.losses import is_loss
from search.study import Study, Suggestion
from search.summary import Summary

_LOG = logging.getLogger("search")
_SAME_FAILURES = 3  # so many first trials that fail for one reason end the search
_MOST_LOSSES = 20  # of a trial; from then on they count, for a node that kills all it gets must not do so for ever
_LOOK_S = 5  # between two looks at all trials
_WAIT_S, _WAIT_AGAIN_S = 20, 300  # without a running trial, until it is said, and said again
_QUEUE_S = 20  # that a trial waits, until something is done for it, and done again
_NO_ROOM = ("No space left on device", "Disk quota exceeded")


@dataclass
class Running:
    """What the driver knows of a trial under way.

    value: the avg.mAP of its last scored epoch. summary: of its epochs. stretches: when and where it ran, [start, end
    or None, node] in Unix seconds. retries: why it was taken up again, and, once `resumed`, from where it went on.
    """

    number: int
    params: dict[str, Any]
    epochs: int
    epoch: int = 0
    value: float | None = None
    summary: Summary = field(default_factory=Summary)
    stretches: list[list[Any]] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    resumed: bool = True
    failure: str | None = None
    pruned: bool = False

    @property
    def node(self) -> str:
        """Where it runs; "" before its first epoch has ended."""
        return str(self.stretches[-1][2]) if self.stretches else ""


@dataclass(frozen=True)
class Halt:
    """Why a search ends before its budget is spent. kind: time, disk or failures."""

    kind: str
    reason: str


class Bridge:
    """The study and the trials under way; its views below are what Ray Tune sees.

    budget: how many trials this driver is to run, those it takes up again among them. to_config: what a trial needs to
    know, with `epochs` among it. on_end, on_report: called after a trial has ended and after each epoch. last_seen:
    when the driver before this one last wrote. is_late: whether the time budget is spent. on_open: called with what a
    process said of its node's features. on_wait: called while trials wait and none has run for so many seconds.
    on_queue: called now and then while a trial waits, however many run.
    """

    def __init__(
        self,
        study: Study,
        budget: int,
        to_config: Callable[[Suggestion], dict[str, Any]],
        on_end: Callable[[Running, str], None],
        checkpoints: Checkpoints,
        on_report: Callable[[], None] = lambda: None,
        last_seen: float | None = None,
        is_late: Callable[[], bool] = lambda: False,
        on_open: Callable[[Opened], None] = lambda opened: None,
        on_wait: Callable[[float], None] = lambda seconds: None,
        on_queue: Callable[[], None] = lambda: None,
    ):
        self.study, self.budget, self._to_config = study, budget, to_config
        self._on_end, self._on_report = on_end, on_report
        self._checkpoints, self._last_seen, self._is_late = checkpoints, last_seen, is_late
        self._on_open, self._on_wait, self._on_queue = on_open, on_wait, on_queue
        self._idle_since, self._said = time.monotonic(), 0.0
        self._queue_since = time.monotonic()
        self.asked = 0
        self.by_id: dict[str, Running] = {}
        self.spared: set[str] = set()  # trials that Ray Tune gives up by mistake; see StudyScheduler
        self.halted: Halt | None = None
        self._reasons: list[str] = []  # of the first trials that ended; kept while all of them failed alike
        self._healthy = False
        self._too_small = 0  # processes that met a node without room for the features, before any epoch ended
        self._trains = False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune writes snapshots of what it is given, and none is ever restored."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Bridge":
        """Itself: there is one truth."""
        return self

    def ask(self, trial_id: str) -> dict[str, Any]:
        """The next trial as Ray Tune's config."""
        suggestion = self.study.ask()
        self.asked += 1
        config = self._to_config(suggestion)
        known = suggestion.attributes
        self.by_id[trial_id] = running = Running(
            number=suggestion.number,
            params=dict(suggestion.params),
            epochs=config["epochs"],
            stretches=[[start, end or self._last_seen or start, node] for start, end, node in known.get("runs", [])],
            retries=list(known.get("retries", [])),
        )
        if suggestion.interrupted:
            self._retry(running, "its driver ended")
        return config

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Reports one epoch; whether the trial ends here."""
        running = self.by_id[trial_id]
        if "opened" in result:
            self._on_open(result["opened"])
        if not running.stretches or running.stretches[-1][1] is not None:
            self._begin(running, result)
        if "failure" in result:
            running.failure = result["failure"]
            return True
        self._trains = True
        running.epoch, running.summary = result["epoch"], result["summary"]
        if result["avg_map"] is not None:
            running.value = result["avg_map"]
            again = self.study.report(running.number, result["epoch"], result["avg_map"])
            running.pruned = running.pruned or again  # a verdict stands when its epoch is repeated after a failure
        self._on_report()
        return running.pruned or result["epoch"] >= running.epochs

    def _begin(self, running: Running, result: dict[str, Any]) -> None:
        began = time.time() - float(result.get("time_this_iter_s", 0.0))
        running.stretches.append([began, None, str(result.get("hostname", ""))])
        self.study.note(running.number, "runs", running.stretches)
        if running.retries and not running.resumed and "failure" not in result:
            epoch = result.get("from_epoch", result["epoch"] - 1)
            running.resumed = True
            running.retries[-1] += f"; went on from epoch {epoch}" if epoch else "; began again"
            self.study.note(running.number, "retries", running.retries)

    def interrupt(self, trial_id: str, reason: str) -> None:
        """A trial broke and is to be taken up again."""
        running = self.by_id[trial_id]
        _close(running)
        self._retry(running, reason)
        self._too_small += NO_ROOM_FOR_FEATURES in reason and not self._trains
        if self._too_small >= _SAME_FAILURES:
            what = reason.rpartition("FeaturesError: ")[2]
            self.halt("failures", f"the nodes that start can't hold the features: {what}")

    def _retry(self, running: Running, reason: str) -> None:
        running.retries.append(reason)
        running.resumed = False
        self.study.note(running.number, "retries", running.retries)  # at once, for this driver may end, too

    def end(self, trial_id: str, failure: str | None = None) -> None:
        """Tells the study how a trial ended; nothing of one that was cut short as the search halted."""
        running = self.by_id[trial_id]
        running.failure = running.failure or failure
        finished = running.pruned or running.epoch >= running.epochs or running.failure is not None
        if self.halted and (not finished or no_room(running.failure)):
            return
        del self.by_id[trial_id]
        _close(running)
        if not finished:
            running.failure = "stopped before its last epoch"
        state = self._tell(running)
        self._tidy(running.number, keep=1 if state == "COMPLETE" else 0)
        self._watch(running)
        try:
            self._on_end(running, state)
        except OSError as error:  # a closed terminal; Ray would run the trial again for it
            if no_room(error):
                raise
            _LOG.warning("could not show trial %d: %s", running.number, error)

    def _tell(self, running: Running) -> str:
        where = {"node": running.node, "runs": running.stretches, "retries": running.retries}
        attributes = running.summary.attributes() | where
        if running.failure is not None:
            self.study.fail(running.number, running.failure, attributes)
            return "FAIL"
        if running.pruned:
            self.study.prune(running.number, attributes)
            return "PRUNED"
        self.study.complete(running.number, attributes)
        return "COMPLETE"

    def _tidy(self, number: int, keep: int) -> None:
        """Removes the checkpoints that nothing will read again."""
        try:
            self._checkpoints.remove(number, keep)
        except OSError as error:  # they only take room; the search must not end for it
            _LOG.warning("could not remove checkpoints of trial %d: %s", number, error)

    def _watch(self, running: Running) -> None:
        """Halts the search where its first trials all failed for one reason: so would the rest."""
        self._healthy = self._healthy or running.failure is None
        if self._healthy or running.failure is None:
            return
        self._reasons.append(re.sub(r"\d+", "#", running.failure))
        if len(set(self._reasons)) > 1:
            self._healthy = True
        elif len(self._reasons) == _SAME_FAILURES:
            self.halt("failures", f"the first {_SAME_FAILURES} trials all failed for one reason: {running.failure}")

    def halt(self, kind: str, reason: str) -> None:
        """Ends the search before its budget is spent; the first reason stands."""
        self.halted = self.halted or Halt(kind, reason)

    def is_over(self) -> bool:
        """Whether nothing more may be done."""
        if self._is_late():
            self.halt("time", "the time budget is spent")
        return self.halted is not None

    def look(self, running: bool, waiting: bool) -> None:
        """Says so where trials have waited for a while and none runs: their nodes are still starting, or are gone."""
        now = time.monotonic()
        if not waiting:
            self._queue_since = now
        elif now - self._queue_since > _QUEUE_S:
            self._queue_since = now
            self._on_queue()
        if running or not waiting:
            self._idle_since, self._said = now, 0.0
        elif now - self._idle_since > _WAIT_S and (not self._said or now - self._said > _WAIT_AGAIN_S):
            self._said = now
            self._on_wait(now - self._idle_since)


def _close(running: Running) -> None:
    """Notes that the trial has stopped running."""
    if running.stretches and running.stretches[-1][1] is None:
        running.stretches[-1][1] = time.time()


def no_room(failure: object) -> bool:
    """Whether a failure, in words or as an exception with all that led to it, comes of a full disk."""
    if isinstance(failure, BaseException):
        full = isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
        return full or no_room(str(failure)) or no_room(failure.__cause__ or failure.__context__)
    return any(words in str(failure) for words in _NO_ROOM)


class StudySearcher(Searcher):
    """What to run next."""

    def __init__(self, bridge: Bridge):
        super().__init__()  # without a metric: Ray would end the search at a result that lacks it, as a failure's does
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:  # Ray declares a dict, and takes FINISHED, a text, as well
        """A trial's config, or FINISHED once the budget is spent."""
        over = self._bridge.is_over() or self._bridge.asked >= self._bridge.budget
        return Searcher.FINISHED if over else self._bridge.ask(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: StudyListener tells the study, for it knows why a trial ended."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the only truth, a snapshot of Ray's is never restored."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called; see save."""
        raise NotImplementedError("a search goes on from its study, not from Ray's snapshot")


class StudyTrial(Trial):
    """A trial of Ray Tune that doesn't count what its node or the network did as a failure of its own.

    Ray's own count leaves out preemptions that the cloud announced, and no other loss. losses: how many there were.
    """

    losses = 0
    was_lost = False

    def handle_error(self, exc: Any = None) -> None:
        """Takes note of why it broke."""
        before = self.run_metadata.num_failures
        super().handle_error(exc)
        self.was_lost = is_loss(exc)
        if self.was_lost:
            self.losses += 1
            if self.losses <= _MOST_LOSSES:
                self.run_metadata.num_failures = before


class StudyScheduler(FIFOScheduler):
    """When to stop a trial: at the pruner's word, at its last epoch, or when it says itself that it can't go on."""

    def __init__(self, bridge: Bridge):
        super().__init__()
        self._bridge = bridge

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Makes a new trial one that tells losses from failures; Ray Tune has no other place to say so."""
        trial.__class__ = StudyTrial

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP or CONTINUE after one epoch."""
        return TrialScheduler.STOP if self._bridge.judge(trial.trial_id, result) else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Keeps Ray Tune 2.60 from giving up a trial whose process died just as it was handed to it.

        It hears of such a death twice: at first it puts the trial back in line, and then takes it for one that failed
        in line. It also forgets that the process is not being handed over any more, and would wait for that for ever.
        """
        tune_controller._resetting_trials.discard(trial)
        if trial.status == Trial.PENDING and trial.temporary_state.ray_actor is None:
            self._bridge.spared.add(trial.trial_id)
            if not getattr(trial, "was_lost", False):  # a loss wasn't counted
                trial.run_metadata.num_failures -= 1
            trial.status = Trial.ERROR  # so Ray Tune finds nothing left to stop; StudyListener takes it back


class StudyStopper(Stopper):
    """When to stop all of it: at a halt. Ray then stops the trials under way without a word to the listener."""

    def __init__(self, bridge: Bridge):
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never a single trial: StudyScheduler does."""
        return False

    def stop_all(self) -> bool:
        """Whether the search halts."""
        return self._bridge.is_over()


class StudyListener(Callback):
    """Tells the study how each trial ended.

    request: what a trial is to ask for; asked anew after a loss, for the nodes may be others.
    """

    def __init__(self, bridge: Bridge, request: Callable[[dict[str, Any]], Any] | None = None):
        self._bridge, self._request = bridge, request
        self._looked = 0.0

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called in each turn of Ray Tune's loop."""
        if time.monotonic() - self._looked > _LOOK_S:
            states = {trial.status for trial in trials}
            self._bridge.look(Trial.RUNNING in states, Trial.PENDING in states)
            self._looked = time.monotonic()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called once the trial has stopped."""
        self._bridge.end(trial.trial_id)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called when a trial broke and goes on from its last checkpoint."""
        self._broke(trial)
        self._bridge.interrupt(trial.trial_id, _reason(trial))
        if self._request is not None:
            trial.update_resources(self._request(trial.config))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called once a trial has failed more often than it may."""
        if trial.trial_id in self._bridge.spared:
            self._bridge.spared.remove(trial.trial_id)
            trial.status = Trial.PENDING
            return
        self._broke(trial)
        self._bridge.end(trial.trial_id, failure=_reason(trial))

    def _broke(self, trial: Trial) -> None:
        if no_room(_reason(trial)):  # no fault of the trial's, and the next one would meet it as well
            self._bridge.halt("disk", _reason(trial))


def _reason(trial: Trial) -> str:
    """Why a trial broke, in a line: what its exception says, the last of the traceback that Ray wrote.

    Read here, for `trial.get_error` looks elsewhere. A process that was killed leaves Ray's own paragraph about it.
    """
    path = Path(trial.error_file) if trial.error_file else None
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path and path.exists() else ""
    last = text.splitlines()[-1].strip() if text else "unknown; see log/search.log"
    last = last.partition(" Some common causes include: ")[0]  # a paragraph of Ray's
    if "raised in its creation task" in text:  # it died of an exception of ours, which is the last line
        return last
    known = next((words for words in _KILLS if words in text), None)
    if known in _OF_A_PROCESS and getattr(trial, "was_lost", False):
        known = "NodeDiedError"
    return f"{_KILLS[known]}: {last}" if known else last


_KILLS = {
    "OutOfMemoryError": "out of memory",
    "NodeDiedError": "its node was lost",
    "its node has died": "its node was lost",
    "The actor died": "its process died",
    "ActorDiedError": "its process died",
    "ActorUnavailableError": "its process was out of reach",
    "is temporarily unavailable": "its process was out of reach",
}
_OF_A_PROCESS = ("The actor died", "ActorDiedError")
