"""Why a trial broke, in words, and whose fault it was: its own, or that of a node or network that was lost."""

import re
import time
from typing import Any

from ray.exceptions import LocalRayletDiedError, NodeDiedError, RayActorError, RayTaskError
from ray.tune.experiment import Trial

from search.trials import internals
from search.trials.features import FeaturesError
from search.trials.leaving import NodeLeavesError

_NODE_DIED = ("its node has died", "actor's node was terminated")
_NOTICE_S = 2.0  # after a process, the death of its node is known this soon where its sockets closed with it
_MOST_LOSSES = 20  # of a trial; from then on they count, for a node that kills all it gets must not do so for ever
_KILLS = {
    "OutOfMemoryError": "out of memory",
    "NodeDiedError": "its node was lost",
    "its node has died": "its node was lost",
    "The actor died": "its process died",
    "ActorDiedError": "its process died",
    "ActorUnavailableError": "its process was out of reach",
    "is temporarily unavailable": "its process was out of reach",
}
_MEMORY = re.compile(r"Memory on the node \(IP: ([^,]+),.*?\) was (\S+) used / (\S+) limit")
_OF_A_PROCESS = ("The actor died", "ActorDiedError")


class StudyTrial(Trial):
    """A trial of Ray Tune that doesn't count what its node or the network did as a failure of its own.

    Ray's own count leaves out preemptions that the cloud announced, and no other loss. losses: how many there were.
    """

    losses = 0
    was_lost = False

    def handle_error(self, exc: Any = None) -> None:
        """Takes note of why it broke."""
        before = internals.failures(self)
        super().handle_error(exc)
        self.was_lost = is_loss(exc)
        if self.was_lost:
            self.losses += 1
            if self.losses <= _MOST_LOSSES:
                internals.set_failures(self, before)


def is_loss(error: object) -> bool:
    """Whether an exception that Ray Tune caught says so. A process that died alone, of memory also, is no loss."""
    if isinstance(error, RayTaskError):
        error = error.as_instanceof_cause()
    if isinstance(error, internals.UNREACHABLE | NodeDiedError | LocalRayletDiedError | NodeLeavesError):
        return True
    if not isinstance(error, RayActorError):
        return False
    if error.actor_init_failed:  # an exception of the trial's own, of which only the text is left
        return FeaturesError.__name__ in str(error)
    return error.preempted or any(words in str(error) for words in _NODE_DIED) or _node_is_gone(error.actor_id)


def _node_is_gone(actor_id: str | None) -> bool:
    """Whether the node of a process that died is dead as well, or dies in the next moment."""
    node_id = internals.node_of_actor(actor_id) if actor_id else None
    until = time.monotonic() + _NOTICE_S
    while node_id:
        if not any(node["NodeID"] == node_id for node in internals.nodes_up()):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return False


def reason(trial: Trial) -> str:
    """Why a trial broke, in a line: what its exception says, the last of the traceback that Ray wrote.

    A process that was killed leaves Ray's own paragraph about it.
    """
    text = internals.error_text(trial)
    memory = _MEMORY.findall(text.rpartition("Failure # ")[2])
    if memory:  # two pages of Ray's
        host, used, limit = memory[-1]
        return f"out of memory: Ray ended its process, for {used} of {limit} were in use on {host}"
    last = text.splitlines()[-1].strip() if text else "unknown; see log/search.log"
    last = last.partition(" Some common causes include: ")[0]  # a paragraph of Ray's
    if NodeLeavesError.__name__ in last:
        return f"preempted: {last.rpartition(': ')[2]}"
    if "raised in its creation task" in text:  # it died of an exception of ours, which is the last line
        return last
    known = next((words for words in _KILLS if words in text), None)
    if known in _OF_A_PROCESS and getattr(trial, "was_lost", False):
        known = "NodeDiedError"
    return f"{_KILLS[known]}: {last}" if known else last
