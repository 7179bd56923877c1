"""Where a search runs: the object store that it starts, or finds."""

import os
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import pytest
import ray

from search import cluster
from search.cluster import Cluster, spill_warning, start_ray

MIB = 2**20


@pytest.mark.ray
def test_features_that_fill_the_store_are_not_copied_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 200 of 240 MiB: above the 80 % from which Ray, left alone, writes all of it to disk within a second or two.
    monkeypatch.setattr(cluster, "_STORE_LEAST", 0)
    found = start_ray("local", 200 * MIB, tmp_path / "log")
    try:
        chunks = [ray.put(np.zeros(20 * MIB, dtype=np.uint8)) for _ in range(10)]
        assert 0.8 * found.total("object_store_memory") < 200 * MIB
        time.sleep(4)
        session = Path(ray._private.worker._global_node.get_session_dir_path())  # type: ignore[attr-defined]
        spilled = [file for folder in session.glob("ray_spilled_objects*") for file in folder.rglob("*")]
        assert spilled == [] and len(chunks) == 10
    finally:
        ray.shutdown()


def test_a_cluster_of_others_that_would_copy_them_is_said() -> None:
    nodes = ({"object_store_memory": 1000.0}, {"object_store_memory": 500.0})
    assert spill_warning(Cluster(nodes, local=False), 400) is None
    assert "82% of a node's object store" in (spill_warning(Cluster(nodes, local=False), 410) or "")
    assert spill_warning(Cluster(nodes, local=True), 410) is None
