"""What a trial gets of the nodes, and where it may run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from haan.errors import InputError
from search.driver.nodes import Cluster, Node, NodeType, startable
from search.driver.placement import Share, fit, spill_warning, warnings
from search.space.model import Resources
from tests.search.spaces import demo_space


def node(name: str, store: float = 1000, cpu: float = 4, gpu: float = 0, **about: Any) -> Node:
    resources = {"CPU": cpu, "object_store_memory": store} | ({"GPU": gpu} if gpu else {})
    return Node(name, f"host-{name}", resources, **about)


def test_a_cluster_of_others_that_would_copy_them_is_said() -> None:
    nodes = (node("a"), node("b", store=500))
    assert spill_warning(Cluster(nodes, local=False), 400) is None
    assert "82 % of a node's object store" in (spill_warning(Cluster(nodes, local=False), 410) or "")
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
