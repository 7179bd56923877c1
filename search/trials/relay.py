"""Studies one after the other, which Ray Tune takes for one search: a process lives through all of them.

A process that trains takes seconds to start, on a GPU more than ten, and Ray Tune ends all of them with each search.
"""

from collections.abc import Callable
from typing import Any

from search.trials.bridge import Bridge


class Relay:
    """The bridge whose trials run `now`, and how the next one takes over once its last trial has ended.

    concurrent: trials at once. follow: called where a bridge has `more` behind it; makes the next one, or None where
    nothing is left to do.
    """

    def __init__(self, first: Bridge, concurrent: int, follow: Callable[[], Bridge | None]):
        self.now, self._concurrent, self._follow = first, concurrent, follow
        self._ended = False

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune writes snapshots of what it is given, and none is ever restored."""
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Relay":
        """Itself: there is one truth."""
        return self

    def hand_over(self) -> None:
        """Goes on to the next bridge, where the last trial of this one has ended."""
        if self.now.more and self.now.is_spent and not self.now.by_id and not self.now.is_over() and not self._ended:
            following = self._follow()
            self._ended = following is None
            self.now = following or self.now

    @property
    def is_over(self) -> bool:
        """Whether no further trial comes."""
        return self.now.is_over() or (self.now.is_spent and (self._ended or not self.now.more))

    def ask(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial as Ray Tune's config; None while what follows waits for the last trials of a study."""
        return None if self.now.is_spent else self.now.ask(trial_id)

    def idle(self, ending: int = 0) -> int:
        """How many processes may be without a trial at the moment, and still have one before them.

        ending: of the trials under way, how many are about to end.
        """
        to_come = self.now.budget - self.now.asked or self.now.more
        return max(min(to_come, self._concurrent - len(self.now.by_id) + ending), 0)

    @property
    def was_cut(self) -> bool:
        """Whether it ended, by the user's interrupt, with something left to do and no reason to halt."""
        left = not self.now.is_spent or bool(self.now.by_id) or (bool(self.now.more) and not self._ended)
        return self.now.halted is None and left
