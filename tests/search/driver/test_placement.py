"""Where a search runs: the object store that it starts, or finds."""

import os
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from haan.errors import InputError
from search.driver import nodes
from search.driver.nodes import Cluster, Node, NodeType, start_ray, startable
from search.driver.placement import Share, fit, spill_warning, warnings
from search.space.model import Resources
from tests.search.spaces import demo_space

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

MIB = 2**20


@pytest.mark.slow
@pytest.mark.ray
def test_features_that_fill_the_store_are_not_copied_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 200 of 240 MiB: above the 80 % from which Ray, left alone, writes all of it to disk within a second or two.
    monkeypatch.setattr(nodes, "_STORE_LEAST", 0)
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


@pytest.mark.parametrize("raised", [OSError("AF_UNIX path\nis too long"), PermissionError(13, "no"), SystemError()])
def test_a_ray_that_can_not_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def init(**_: Any) -> None:
        raise raised

    monkeypatch.setattr(nodes.ray, "init", init)
    with pytest.raises(InputError) as refused:
        start_ray("local", MIB, tmp_path / "log")
    words = " ".join(str(raised).split()) or "SystemError"
    rule = "a Ray of this search's own must start on this machine"
    assert str(refused.value) == f"{rule}, got: {words}; RAY_TMPDIR=FOLDER moves its files"


def test_what_rays_c_plus_plus_says_of_a_dead_address_stays_off_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def init(**_: Any) -> None:
        os.write(2, b"RpcError: Unavailable\n" * 20)
        raise ConnectionError("no GCS answers")

    monkeypatch.setattr(nodes.ray, "init", init)
    with socket.create_server(("127.0.0.1", 0)) as server:  # something else than Ray
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match="--address: must be a Ray cluster that answers, got .*: no GCS answers"):
            start_ray(address, MIB, tmp_path / "log")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
    assert (tmp_path / "log").read_text() == "RpcError: Unavailable\n" * 20


@pytest.mark.parametrize(("length", "moved"), [(20, False), (100, True)])
def test_rays_files_move_where_their_path_is_too_long_for_sockets(
    monkeypatch: pytest.MonkeyPatch, length: int, moved: bool
) -> None:
    place = Path(tempfile.mkdtemp(prefix="x".ljust(length - 13, "x"), dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    nodes._make_room_for_sockets()
    found = os.environ.pop("RAY_TMPDIR", None)
    for folder in {place, Path(found or place)}:
        folder.rmdir()
    assert (found is not None) == moved
    assert len(f"{found or place}/ray") + len(nodes._BELOW) <= 107


def node(name: str, store: float = 1000, cpu: float = 4, gpu: float = 0, **about: Any) -> Node:
    resources = {"CPU": cpu, "object_store_memory": store} | ({"GPU": gpu} if gpu else {})
    return Node(name, f"host-{name}", resources, **about)


def test_a_cluster_of_others_that_would_copy_them_is_said() -> None:
    nodes = (node("a"), node("b", store=500))
    assert spill_warning(Cluster(nodes, local=False), 400) is None
    assert "82% of a node's object store" in (spill_warning(Cluster(nodes, local=False), 410) or "")
    assert spill_warning(Cluster(nodes, local=True), 410) is None


HEAD = node("head", head=True, here=True)
SPOT = NodeType("gpu_spot", {"CPU": 4, "GPU": 1}, more=8)


def test_gpu_auto_and_concurrent_auto_count_what_the_autoscaler_may_start(tmp_path: Path) -> None:
    space = demo_space(tmp_path, resources={"cpu": 2, "gpu": "auto"})
    grows = Cluster((HEAD,), False, (SPOT,), 8)
    assert fit(space, grows, 100) == Share(8, 2, 1.0, "head")
    assert str(grows).endswith("; may start 8 more of gpu_spot (4 CPUs, 1 GPUs each)")
    assert fit(space, Cluster((HEAD, node("w", gpu=2)), False, (SPOT,), 3), 100) == Share(2 + 3, 2, 1.0, "head")


def test_a_head_without_gpu_runs_no_trial_beside_gpu_workers_and_one_with_gpus_does(tmp_path: Path) -> None:
    on_cpu = demo_space(tmp_path, resources={"cpu": 2, "gpu": 0})
    mixed = (HEAD, node("cpu"), node("gpu", gpu=1))
    assert fit(on_cpu, Cluster(mixed, False), 100) == Share(4, 2, 0.0, "head")
    assert fit(on_cpu, Cluster((HEAD, node("cpu")), False), 100) == Share(4, 2, 0.0)
    quarter = demo_space(tmp_path, resources={"cpu": 1, "gpu": 0.25})
    assert fit(quarter, Cluster(mixed, False), 100) == Share(4, 1, 0.25, "head")
    own = (node("head", gpu=1, head=True, here=True), node("w", gpu=1))
    assert fit(quarter, Cluster(own, False), 100) == Share(8, 1, 0.25)


def test_a_base_that_says_cpu_takes_no_gpu_unless_it_is_asked_for(tmp_path: Path) -> None:
    auto = demo_space(tmp_path, resources={"cpu": 2, "gpu": "auto"})
    grows = Cluster((HEAD, node("w", gpu=1)), False)
    assert fit(auto, grows, 100).gpu == 1.0
    on_cpu = replace(auto, base=replace(auto.base, device="cpu"))
    share = fit(on_cpu, grows, 100)
    assert share.gpu == 0.0 and share.pinned(on_cpu.base).device == "cpu"
    asked = replace(on_cpu, plan=replace(on_cpu.plan, resources=Resources(cpu=2, gpu=0.5)))
    share = fit(asked, grows, 100)
    assert share.gpu == 0.5 and share.pinned(asked.base).device == "cpu" and share.pinned(auto.base).device == "cuda"


def test_a_share_of_a_gpu_that_no_node_has_is_refused_with_what_there_is(tmp_path: Path) -> None:
    space = demo_space(tmp_path, resources={"cpu": 1, "gpu": 0.25})
    wanted = r"must fit the cluster \(host-head: 4 CPUs, 0 GPUs\), got 1 CPU\(s\) and 0.25 GPU a trial"
    with pytest.raises(InputError, match=wanted):
        fit(space, Cluster((HEAD,), False), 100)
    wide = demo_space(tmp_path, resources={"cpu": 16, "gpu": 0.25})
    with pytest.raises(InputError, match=r"\(8 more of gpu_spot \(4 CPUs, 1 GPUs each\); none on the head host-head"):
        fit(wide, Cluster((HEAD,), False, (SPOT,), 8), 100)


def test_a_node_without_room_for_the_features_is_named_and_gets_no_trial(tmp_path: Path) -> None:
    space = demo_space(tmp_path, resources={"cpu": 2, "gpu": 0})
    found = Cluster((HEAD, node("small", store=99), node("w")), False)
    share = fit(space, found, 100)
    assert share.concurrent == 4
    (said,) = warnings(found, share, 100)[:1]
    assert said.startswith("node host-small gets no trial: its object store holds ")
    with pytest.raises(InputError, match=r"data.features: must fit a node's object store \(0.0 GiB on host-head\)"):
        fit(space, found, 1001)


def test_storage_is_asked_for_where_one_node_is_up_and_more_may_start(tmp_path: Path) -> None:
    space = demo_space(tmp_path, storage=None)
    with pytest.raises(InputError, match=r"search.storage: .* on a cluster of 1 node\(s\); 8 more may start, got null"):
        fit(space, Cluster((HEAD,), False, (SPOT,), 8), 100)


AWS = {
    "max_workers": 8,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 4}},
        "gpu_spot": {"resources": {"CPU": 4, "GPU": 1}, "min_workers": 0, "max_workers": 6},
        "cpu_spot": {"resources": {"CPU": 16}, "min_workers": 0, "max_workers": 8},
    },
}


def test_what_may_start_is_what_the_autoscaler_allows_less_what_is_up() -> None:
    types, more = startable(AWS, [HEAD])
    assert ([(one.name, one.more) for one in types], more) == ([("gpu_spot", 6), ("cpu_spot", 8)], 8)
    labelled = [node(f"g{i}", gpu=1, kind="gpu_spot") for i in range(5)]
    unlabelled = [node("c", cpu=16)]
    types, more = startable(AWS, [HEAD, *labelled, *unlabelled])
    assert ([(one.name, one.more) for one in types], more) == ([("gpu_spot", 1), ("cpu_spot", 2)], 2)
    assert startable(None, [HEAD]) == ((), 0)


def test_own_machines_that_are_still_coming_are_taken_to_be_as_those_that_are_up() -> None:
    kind = {"resources": {}, "min_workers": 2, "max_workers": 2}
    config = {"max_workers": 2, "head_node_type": "local", "available_node_types": {"local": kind}}
    (one,), more = startable(config, [HEAD, node("w", cpu=8)])
    assert (one.resources["CPU"], one.more, more) == (8, 1, 1)
