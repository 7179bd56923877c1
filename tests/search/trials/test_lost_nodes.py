"""Nodes that are lost, or lack room, cost no trial: two Rays of several nodes, each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0", "PYTHONWARNINGS": "default"}
SOON = {"RAY_health_check_period_ms": "500"}  # five refused checks make a node lost: 3 s for each by default


def answers(cluster: str, folder: Path) -> dict[str, Any]:
    """What tests/search/trials/many_nodes.py saw on a cluster, by question."""
    tmp = tempfile.mkdtemp(prefix="n", dir="/tmp")  # short, for the paths of Ray's sockets
    environment = os.environ | QUIET | SOON | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": tmp}
    environment.pop("RAY_ADDRESS", None)
    words = [sys.executable, "-m", "tests.search.trials.many_nodes", cluster, str(folder)]
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=550)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return dict(json.loads(line) for line in ended.stdout.splitlines() if line.startswith('["'))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return answers("rooms", tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return answers("losses", tmp_path_factory.mktemp("losses"))


def test_a_lost_node_counts_as_no_failure_and_the_study_says_from_where_its_trials_went_on(losses: Any) -> None:
    trials = losses["lost"]
    assert [state for state, _ in trials] == ["COMPLETE"] * 3
    retries = [reason for _, reasons in trials for reason in reasons]
    assert 1 <= len(retries) <= 2
    assert all(reason.startswith(("its node was lost: ", "its process was out of reach: ")) for reason in retries)
    assert all(reason.endswith(("; went on from epoch 5", "; began again")) for reason in retries)
    assert any(reason.endswith("; went on from epoch 5") for reason in retries)


def test_a_node_that_leaves_after_it_was_seen_is_done_without(losses: Any) -> None:
    lines, heads, concurrent, due_is_up = losses["left"]
    told = [line for line in lines if "has left since, or is about to; running on" in line]
    assert len(told) == 2 and told[1].count("the Ray cluster found: 1 node(s), 1 CPUs, ") == 1
    assert (heads, concurrent, due_is_up) == ([True], 1, True)


def test_shares_of_a_gpu_run_on_its_node_alone_and_without_one_on_all_but_the_head(losses: Any) -> None:
    (where, at_once, most, on_gpu), (_, on_cpu_at_once, _, on_cpu), gpu, head = losses["gpus"]
    assert where.startswith("the Ray cluster found: 3 node(s), 9 CPUs, 1 GPUs, ")
    assert (at_once, on_gpu) == (4, [gpu]) and 2 <= most <= 4, "a quarter of a GPU each"
    assert on_cpu_at_once == 4 and len(on_cpu) == 2 and gpu in on_cpu and head not in on_cpu


def test_a_node_without_room_gets_no_trial_and_each_other_one_a_single_copy(rooms: Any) -> None:
    warned, (line,), states, in_small, in_roomy, summary, copies = rooms["room"]
    assert len(warned) >= 1 and "gets no trial: its object store holds 100.0 MiB" in warned[0]
    assert states == ["COMPLETE"] * 4
    assert (in_small, in_roomy, copies) == (False, True, 1)
    assert line.startswith("features: 120.0 MiB to ")
    assert summary == "features: one copy on each of 1 node(s), 120.0 MiB moved"


def test_features_that_have_come_in_part_are_known_by_node(rooms: Any) -> None:
    assert rooms["way"] == [[2 * 2**20] * 3, True, True, True, True]


def test_nodes_that_start_too_small_for_the_features_end_the_search_with_the_reason(rooms: Any) -> None:
    halted, states = rooms["small"]
    assert halted.startswith("the nodes that start can't hold the features: node ")
    assert "its object store holds 100.0 MiB, and the features take 120.0 MiB" in halted
    assert set(states) == {"RUNNING"}, "they are taken up again by --resume"


def test_a_storage_place_that_a_node_does_not_have_is_refused_with_node_and_fix(rooms: Any) -> None:
    made, kept, said, left = rooms["reach"]
    assert (made, kept, left) == (False, ["kept"], ["kept"])
    assert said.startswith("search.storage: must be a place that all nodes reach") and "not-mounted" in said
    assert "; mount the same folder on " in said
