"""Whether a trial broke by its own fault, or because its node or the network was lost."""

import time
from typing import Any

import ray
from ray._private.state import actors
from ray.exceptions import ActorUnavailableError, LocalRayletDiedError, NodeDiedError, RayActorError, RayTaskError
from ray.tune.experiment import Trial

from search.trials.features import FeaturesError

_NODE_DIED = ("its node has died", "actor's node was terminated")
_NOTICE_S = 2.0  # after a process, the death of its node is known this soon where its sockets closed with it


_MOST_LOSSES = 20  # of a trial; from then on they count, for a node that kills all it gets must not do so for ever


def is_loss(error: object) -> bool:
    """Whether an exception that Ray Tune caught says so. A process that died alone, of memory also, is no loss."""
    if isinstance(error, RayTaskError):
        error = error.as_instanceof_cause()
    if isinstance(error, ActorUnavailableError | NodeDiedError | LocalRayletDiedError):
        return True
    if not isinstance(error, RayActorError):
        return False
    if error.actor_init_failed:  # an exception of the trial's own, of which only the text is left
        return FeaturesError.__name__ in str(error)
    return error.preempted or any(words in str(error) for words in _NODE_DIED) or _node_is_gone(error.actor_id)


def _node_is_gone(actor_id: str | None) -> bool:
    """Whether the node of a process that died is dead as well, or dies in the next moment."""
    known = actors(actor_id) if actor_id else {}
    node_id = known.get("Address", {}).get("NodeID")
    until = time.monotonic() + _NOTICE_S
    while node_id:
        if not any(node["Alive"] for node in ray.nodes() if node["NodeID"] == node_id):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return False


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
