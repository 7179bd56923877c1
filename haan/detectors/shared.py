"""What several detection settings need, made once and let go after the last."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


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
