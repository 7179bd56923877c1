"""Workers that are jobs of Slurm's, as a search goes on: says how many there are, and gives back those too many."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection

from search.driver import nodes, placement
from search.driver.batchqueue import BatchQueue, Worker, lasting, surplus
from search.trials.bridge import Running

_LOG = logging.getLogger("search")
_SAY_S = 10  # between two lines on how many there are


class Staff:
    """share: what a trial takes. line: shows one."""

    def __init__(self, queue: BatchQueue, share: placement.Share, line: Callable[[str], None]):
        self._queue, self._share, self._line = queue, share, line
        self._said, self._words, self._released = -math.inf, "", set[str]()

    @classmethod
    def here(cls, share: placement.Share, line: Callable[[str], None]) -> "Staff | None":
        """That of the driver in this process, where Slurm starts its workers."""
        queue = BatchQueue.here()
        return None if queue is None else cls(queue, share, line)

    def look(self, under_way: Collection[Running], needed: int) -> None:
        """Says what is new, and releases jobs that the rest of the search can't fill. needed: trials from now on."""
        up = {node.id: node.job for node in nodes.alive() if node.job is not None}
        for line in self._queue.news(list(up.values())):
            _LOG.warning(line)
            self._line(f"warning: {line}")
        self._say(len(up))
        if not self._queue.plan["together"]:
            self._release(up, under_way, min(needed, self._share.concurrent))

    def dismiss(self) -> None:
        """Gives all jobs back at once: the search has nothing more for them, and its report may take a while."""
        alive = self._queue.alive()
        if alive and not self._queue.plan["together"]:
            self._queue.release([job.id for job in alive], [])

    def _say(self, up: int) -> None:
        """How many there are, where that has changed."""
        words, now = self._queue.words(up, self._released), time.monotonic()
        if lasting(words) != self._words and now - self._said > _SAY_S:
            if self._words or up < self._queue.most:
                self._line(words)
            self._said, self._words = now, lasting(words)

    def _release(self, up: dict[str, str], under_way: Collection[Running], needed: int) -> None:
        each = placement.places(self._queue.resources, self._share.cpu, self._share.gpu)
        alive = self._queue.alive()
        if alive is None or not each:
            return
        busy = Counter(running.node_id for running in under_way)
        workers = [Worker(job, busy[node]) for node, job in up.items() if job not in self._released]
        coming = [job for job in alive if job.id not in up.values() and job.id not in self._released]
        pending, idle = surplus(needed, each, workers, coming)
        if busy[None]:  # a trial has begun nobody knows where
            idle = []
        if pending or idle:
            self._queue.release(pending, idle)
            self._released.update(pending, idle)
            self._line(f"{len(pending) + len(idle)} worker(s) go: {needed} trial(s) are left for {each} on each")
