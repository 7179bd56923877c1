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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search.results.checkpoints import Checkpoints
from search.study.record import NODE, RETRIES, RUNS, Summary, TrialRecord
from search.study.study import Study, Suggestion
from search.trials.features import NO_ROOM as NO_ROOM_FOR_FEATURES
from search.trials.features import Opened

_LOG = logging.getLogger("search")
_SAME_FAILURES = 3  # so many first trials that fail for one reason end the search
_WAIT_S, _WAIT_AGAIN_S = 20, 300  # without a running trial, until it is said, and said again
_QUEUE_S = 20  # that a trial waits, until something is done for it, and done again
_NO_ROOM = ("No space left on device", "Disk quota exceeded")


@dataclass
class Running:
    """What the driver knows of a trial under way.

    value: the avg.mAP of its last scored epoch. summary: of its epochs. stretches: when and where it ran, [start, end
    or None, node] in Unix seconds. retries: why it was taken up again, and, once `resumed`, from where it went on.
    node_id: of the Ray node that it runs on, once that is known.
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
    node_id: str | None = None

    @property
    def node(self) -> str:
        """Where it runs; "" before its first epoch has ended."""
        return str(self.stretches[-1][2]) if self.stretches else ""


@dataclass(frozen=True)
class Halt:
    """Why a search ends before its budget is spent. kind: time, disk or failures."""

    kind: str
    reason: str


class Events:
    """What a bridge tells its driver, and asks of it, as trials go on; here nothing is done.

    under_way: the trials that have not ended.
    """

    def opened(self, how: Opened) -> None:
        """How the features came to a trial's process."""

    def epoch(self, trial: Running, result: Mapping[str, Any]) -> None:
        """An epoch of a trial has ended; `result` as search.trials.trial reports it."""

    def reported(self, under_way: Collection[Running]) -> None:
        """Epochs of a trial have ended, one or several in a row."""

    def goes_on(self, under_way: Collection[Running]) -> None:
        """A trial runs; called every few seconds while one does."""

    def ended(self, trial: Running, state: str, under_way: Collection[Running]) -> None:
        """A trial has ended; `state` as Optuna names it."""

    def waits(self, seconds: float) -> None:
        """Trials wait, and none has run for so many seconds."""

    def queues(self, under_way: Collection[Running]) -> None:
        """A trial waits, however many run; called now and then while it does."""

    def is_late(self) -> bool:
        """Whether the time budget is spent."""
        return False

    def has_enough(self) -> bool:
        """Whether no further trial is to begin; those under way go on."""
        return False


class Bridge:
    """The study and the trials under way; its views in search.trials.hooks are what Ray Tune sees.

    budget: how many trials this driver is to run, those it takes up again among them. to_config: what a trial needs to
    know, with `epochs` among it. last_seen: when the driver before this one last wrote. more: how many trials of
    another study may follow; see search.trials.relay.
    """

    def __init__(
        self,
        study: Study,
        budget: int,
        to_config: Callable[[Suggestion], dict[str, Any]],
        events: Events,
        checkpoints: Checkpoints,
        last_seen: float | None = None,
        more: int = 0,
    ):
        self.study, self.budget, self.more, self._to_config, self._events = study, budget, more, to_config, events
        self._checkpoints, self._last_seen = checkpoints, last_seen
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

    @property
    def is_spent(self) -> bool:
        """Whether all trials of its budget have begun."""
        return self.asked >= self.budget

    def ask(self, trial_id: str) -> dict[str, Any]:
        """The next trial as Ray Tune's config."""
        suggestion = self.study.ask()
        self.asked += 1
        config = self._to_config(suggestion)
        known = TrialRecord.read(suggestion.attributes)
        self.by_id[trial_id] = running = Running(
            number=suggestion.number,
            params=dict(suggestion.params),
            epochs=config["epochs"],
            stretches=[[start, end or self._last_seen or start, node] for start, end, node in known.runs or ()],
            retries=list(known.retries),
        )
        if suggestion.interrupted:
            self._retry(running, "its driver ended")
        return config

    def judge(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Reports epochs, one by one; whether the trial ends here.

        result: `epochs`, each as search.trials.trial has it, and perhaps the `failure` that came after them. A trial
        that is pruned at one of them ends there: what it trained beyond is dropped.
        """
        running = self.by_id[trial_id]
        if "opened" in result:
            running.node_id = result["opened"].node
            self._events.opened(result["opened"])
        epochs = result["epochs"]
        if not running.stretches or running.stretches[-1][1] is not None:
            self._begin(running, result, epochs)
        over = any(self._ends(running, epoch) for epoch in epochs)  # none is looked at after the first that does
        if "failure" in result and not over:
            running.failure = result["failure"]
            return True
        self._events.reported(self.by_id.values())
        return over

    def _ends(self, running: Running, result: dict[str, Any]) -> bool:
        """Whether a trial ends with this epoch, which is reported."""
        self._trains = True
        running.epoch, running.summary = result["epoch"], result["summary"]
        if result["avg_map"] is not None:
            running.value = result["avg_map"]
            again = self.study.report(running.number, result["epoch"], result["avg_map"])
            running.pruned = running.pruned or again  # a verdict stands when its epoch is repeated after a failure
        self._events.epoch(running, result)
        return running.pruned or result["epoch"] >= running.epochs

    def _begin(self, running: Running, result: dict[str, Any], epochs: Sequence[dict[str, Any]]) -> None:
        began = time.time() - float(result.get("time_this_iter_s", 0.0))
        running.stretches.append([began, None, str(result.get("hostname", ""))])
        self.study.note(running.number, RUNS, running.stretches)
        if running.retries and not running.resumed and epochs:
            epoch = result.get("from_epoch", epochs[0]["epoch"] - 1)
            running.resumed = True
            running.retries[-1] += f"; went on from epoch {epoch}" if epoch else "; began again"
            self.study.note(running.number, RETRIES, running.retries)

    def interrupt(self, trial_id: str, reason: str) -> None:
        """A trial broke and is to be taken up again."""
        running = self.by_id[trial_id]
        _close(running)
        running.node_id = None
        self._retry(running, reason)
        self._too_small += NO_ROOM_FOR_FEATURES in reason and not self._trains
        if self._too_small >= _SAME_FAILURES:
            what = reason.rpartition("FeaturesError: ")[2]
            self.halt("failures", f"the nodes that start can't hold the features: {what}")

    def _retry(self, running: Running, reason: str) -> None:
        running.retries.append(reason)
        running.resumed = False
        self.study.note(running.number, RETRIES, running.retries)  # at once, for this driver may end, too

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
            self._events.ended(running, state, self.by_id.values())
        except OSError as error:  # a closed terminal; Ray would run the trial again for it
            if no_room(error):
                raise
            _LOG.warning("could not show trial %d: %s", running.number, error)
        if self._events.has_enough():
            self.budget = min(self.budget, self.asked + self.study.num_interrupted)

    def _tell(self, running: Running) -> str:
        where = {NODE: running.node, RUNS: running.stretches, RETRIES: running.retries}
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
        if self._events.is_late():
            self.halt("time", "the time budget is spent")
        return self.halted is not None

    def look(self, running: bool, waiting: bool) -> None:
        """Says that a trial runs, or that some have waited for a while and none does: their nodes start or are gone."""
        now = time.monotonic()
        if running:
            self._events.goes_on(self.by_id.values())
        if not waiting:
            self._queue_since = now
        elif now - self._queue_since > _QUEUE_S:
            self._queue_since = now
            self._events.queues(self.by_id.values())
        if running or not waiting:
            self._idle_since, self._said = now, 0.0
        elif now - self._idle_since > _WAIT_S and (not self._said or now - self._said > _WAIT_AGAIN_S):
            self._said = now
            self._events.waits(now - self._idle_since)


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
