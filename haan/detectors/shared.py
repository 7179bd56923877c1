"""What several detection settings need, made once and let go after the last; and which settings these are."""

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
KeyT = TypeVar("KeyT", bound=Hashable)


def alike(settings: Sequence[T], key: Callable[[T], KeyT]) -> dict[KeyT, list[int]]:
    """The places of settings that have a key in common, by that, in the order of each first."""
    found: dict[KeyT, list[int]] = {}
    for place, one in enumerate(settings):
        found.setdefault(key(one), []).append(place)
    return found


class Shared(Generic[T]):
    """Something that several settings need, one soon after the other: made for the first, let go after the last."""

    def __init__(self, make: Callable[[], T], uses: int):
        self._make, self._uses, self._lock = make, uses, Lock()
        self._made: T | None = None

    def take(self) -> T:
        with self._lock:
            made = self._make() if self._made is None else self._made
            self._uses -= 1
            self._made = made if self._uses > 0 else None
            return made
