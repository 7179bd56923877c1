"""A local Ray of the benchmarks' own."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"


@contextmanager
def started(store_bytes: int | None = None) -> Iterator[None]:
    """Two CPUs, and shared memory of so many bytes or of Ray's choice."""
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()
