"""Nodes that are lost, or lack room, cost no trial: several nodes of a real Ray, in a process of its own a test."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.ray

START = """
import os, sys, time, json, threading
from pathlib import Path
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_raylet_start_wait_time_s": "240"}
import numpy as np, optuna, ray
from optuna.trial import TrialState
from ray import cloudpickle, tune
from ray.cluster_utils import Cluster as Nodes
from ray.exceptions import RayTaskError
from search.driver import nodes, placement
from search.trials.bridge import Bridge
from search.study.algorithms import component, make_pruner
from search.trials.features import FeaturesError, SharedTable, Copies, share
from search.trials.tuning import Stage, run_stage
from search.study.study import Study
from tests.search.trials import drawn, recorded
from tests.search.curves import CURVES, EPOCHS
from tests.search.trials.recorded import PARAMETERS, Replay

for module in (drawn, recorded):
    cloudpickle.register_pickle_by_value(module)
MIB = 2**20
folder = Path(sys.argv[1])
nodes = Nodes(True, True, {"num_cpus": 1, "object_store_memory": 200 * MIB, "include_dashboard": False})
"""

SEARCH = """
def search(trainable, trials, max_failures, request, place=folder, concurrent=3, halted=None, **more):
    study = Study.create(name="n", journal=None, sampler=optuna.samplers.RandomSampler(seed=0),
                         pruner=optuna.pruners.NopPruner(), parameters=PARAMETERS, epochs=EPOCHS)
    stage = Stage("trials", str(place), 1, tune.with_resources(trainable, request), concurrent, max_failures,
                  folder / "log", request=request)
    bridge = Bridge(study, trials, lambda one: {"number": one.number, "epochs": EPOCHS, "restore": []},
                    lambda running, state: None, stage.checkpoints, **more)
    run_stage(stage, bridge)
    if halted is not None and bridge.halted is not None:
        halted.append(bridge.halted.reason)
    return study
"""

END = """
sys.stdout.flush()
ray.shutdown()  # before its nodes end, for a driver whose node ends first is ended with it
nodes.shutdown()
"""


def python(tmp_path: Path, script: str) -> str:
    """What a script prints; each has a Ray of several nodes, which must not meet that of another test."""
    tmp = tempfile.mkdtemp(prefix="n", dir="/tmp")  # short, for the paths of Ray's sockets
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": tmp, "PYTHONWARNINGS": "default"}
    environment.pop("RAY_ADDRESS", None)
    words = [sys.executable, "-c", START + SEARCH + script + END, str(tmp_path)]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout


LOST = """
victim = nodes.add_node(num_cpus=2, object_store_memory=100 * MIB)

class Slow(Replay):
    def step(self):
        (self.notes / f"{ray.get_runtime_context().get_node_id()}-{self.number}-{self.epoch}").touch()
        time.sleep(0.4)
        return super().step()

def lose():
    where = victim.node_id
    while not any(folder.glob(f"{where}-*-6")):
        time.sleep(0.05)
    nodes.remove_node(victim, allow_graceful=False)

threading.Thread(target=lose, daemon=True).start()
trainable = tune.with_parameters(Slow, curves=CURVES, notes=str(folder))
study = search(trainable, 3, 0, placement.request(placement.Share(3, 1, 0.0), 0))
print(json.dumps([[t.state.name, t.user_attrs["retries"]] for t in study.trials()]))
"""


@pytest.mark.slow
def test_a_lost_node_counts_as_no_failure_and_the_study_says_from_where_its_trials_went_on(tmp_path: Path) -> None:
    (found,) = [line for line in python(tmp_path, LOST).splitlines() if line.startswith('[["')]  # Ray prints logs, too
    trials = json.loads(found)
    assert [state for state, _ in trials] == ["COMPLETE"] * 3
    retries = [reason for _, reasons in trials for reason in reasons]
    assert 1 <= len(retries) <= 2
    assert all(reason.startswith(("its node was lost: ", "its process was out of reach: ")) for reason in retries)
    assert all(reason.endswith(("; went on from epoch 5", "; began again")) for reason in retries)
    assert any(reason.endswith("; went on from epoch 5") for reason in retries)


ROOM = """
small = nodes.add_node(num_cpus=2, object_store_memory=100 * MIB)
roomy = nodes.add_node(num_cpus=1, object_store_memory=200 * MIB)
shared = share(drawn.Drawn(np.full(120, 128), 4096), drawn.annotate(120), "float16")
print(json.dumps(placement.warnings(nodes.Cluster(nodes.alive(), False), placement.Share(3, 1, 0), 120 * MIB)))

class Opens(Replay):
    def setup(self, config, curves=(), notes="", shared=None):
        self.table, self.opened = shared.arrive()
        super().setup(config, curves, notes)
    def step(self):
        time.sleep(0.1)
        return super().step() | {"opened": self.opened}

copies, seen, lines = Copies(), [], []
def opened(how):
    seen.append(how.node)
    line = copies.note(how)
    if line:
        lines.append(line)

trainable = tune.with_parameters(Opens, curves=CURVES, notes=str(folder), shared=shared)
study = search(trainable, 4, 0, placement.request(placement.Share(3, 1, 0.0), 120 * MIB), on_open=opened)
print(json.dumps([lines, [t.state.name for t in study.trials()], small.node_id in seen, roomy.node_id in seen,
                  copies.summary(), copies.copies.get(roomy.node_id)]))
"""


@pytest.mark.slow
def test_a_node_without_room_gets_no_trial_and_each_other_one_a_single_copy(tmp_path: Path) -> None:
    warned, found = (json.loads(one) for one in python(tmp_path, ROOM).splitlines() if one.startswith("["))
    assert len(warned) >= 1 and "gets no trial: its object store holds 0.10 GiB" in warned[0]
    (line,), states, in_small, in_roomy, summary, copies = found
    assert states == ["COMPLETE"] * 4
    assert (in_small, in_roomy, copies) == (False, True, 1)
    assert line.startswith("features: 120.0 MiB to ")
    assert summary == "features: one copy on each of 1 node(s), 120.0 MiB moved"


WAY = """
from dataclasses import replace
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
far = nodes.add_node(num_cpus=1, object_store_memory=100 * MIB)
shared = share(drawn.Drawn(np.full(6, 128), 4096), drawn.annotate(6), "float16", chunk_bytes=2 * MIB)

@ray.remote(scheduling_strategy=NodeAffinitySchedulingStrategy(far.node_id, False))
def fetch(part):
    ray.get(list(part.chunks))

def comes(wanted):
    limit = time.monotonic() + 10  # where a copy lies is heard of a little later
    while shared.on_their_way() != wanted and time.monotonic() < limit:
        time.sleep(0.05)
    return shared.on_their_way() == wanted

answers = [list(shared.sizes), comes({})]
for count, wanted in ((1, {far.node_id: 2 * MIB}), (2, {far.node_id: 4 * MIB}), (3, {})):
    ray.get(fetch.remote(replace(shared, chunks=shared.chunks[:count])))
    answers.append(comes(wanted))
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_features_that_have_come_in_part_are_known_by_node(tmp_path: Path) -> None:
    (found,) = [json.loads(line) for line in python(tmp_path, WAY).splitlines() if line.startswith("[[")]
    assert found == [[2 * 2**20] * 3, True, True, True, True]


GPUS = """
from dataclasses import replace
from haan.yamlconfig import plain
from tests.search.spaces import demo_space
nodes.add_node(num_cpus=4, object_store_memory=100 * MIB)
gpu = nodes.add_node(num_cpus=4, num_gpus=1, object_store_memory=100 * MIB)

class Where(Replay):
    def step(self):
        me = ray.get_runtime_context().get_node_id()
        (self.notes / f"{me}-{self.number}-{time.time()}").touch()
        time.sleep(0.2)
        return super().step()

def nodes_of(resources, trials):
    found = nodes.Cluster(nodes.alive(), False)
    share = placement.fit(demo_space(folder, resources=resources), found, 0)
    notes = folder / f"notes-{resources['gpu']}"
    notes.mkdir()
    study = search(tune.with_parameters(Where, curves=CURVES, notes=str(notes)), trials, 0, placement.request(share, 0),
                   concurrent=share.concurrent)
    assert {t.state.name for t in study.trials()} == {"COMPLETE"}
    seen = [path.name.split("-") for path in notes.glob("*-*-*")]  # Replay leaves notes of its own
    spans = [[float(at) for _, number, at in seen if number == str(n)] for n in range(trials)]
    most = max(sum(min(s) <= at <= max(s) for s in spans) for span in spans for at in span)
    return [str(found), share.concurrent, most, sorted({node for node, _, _ in seen})]

head = next(node.id for node in nodes.alive() if node.head)
print(json.dumps([nodes_of({"cpu": 1, "gpu": 0.25}, 8), nodes_of({"cpu": 1, "gpu": 0}, 24), gpu.node_id, head]))
"""


@pytest.mark.slow
def test_shares_of_a_gpu_run_on_its_node_alone_and_without_one_on_all_but_the_head(tmp_path: Path) -> None:
    (found,) = [line for line in python(tmp_path, GPUS).splitlines() if line.startswith('[["')]
    (where, at_once, most, on_gpu), (_, on_cpu_at_once, _, on_cpu), gpu, head = json.loads(found)
    assert where.startswith("the Ray cluster found: 3 node(s), 9 CPUs, 1 GPUs, ")
    assert (at_once, on_gpu) == (4, [gpu]) and 2 <= most <= 4, "a quarter of a GPU each"
    assert on_cpu_at_once == 8 and len(on_cpu) == 2 and gpu in on_cpu and head not in on_cpu


SMALL = """
small = nodes.add_node(num_cpus=4, object_store_memory=100 * MIB)
shared = share(drawn.Drawn(np.full(120, 128), 4096), drawn.annotate(120), "float16")

class Opens(Replay):
    def setup(self, config, curves=(), notes="", shared=None):
        shared.arrive()
        super().setup(config, curves, notes)

# As an autoscaler does that starts such a node again and again: the request never avoids it.
only_there = tune.PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[{"ray.io/node-id": small.node_id}])
halted = []
study = search(tune.with_parameters(Opens, curves=CURVES, notes=str(folder), shared=shared), 4, 0,
               lambda config: only_there, halted=halted)
print(json.dumps([halted, [t.state.name for t in study.trials()]]))
"""


@pytest.mark.slow
def test_nodes_that_start_too_small_for_the_features_end_the_search_with_the_reason(tmp_path: Path) -> None:
    (found,) = [line for line in python(tmp_path, SMALL).splitlines() if line.startswith('[["')]
    (halted,), states = json.loads(found)
    assert halted.startswith("the nodes that start can't hold the features: node ")
    assert "its object store holds 0.10 GiB, and the features take 0.12 GiB" in halted
    assert set(states) == {"RUNNING"}, "they are taken up again by --resume"


REACH = """
worker = nodes.add_node(num_cpus=1, object_store_memory=100 * MIB)
from haan.errors import InputError
from search.driver import storagecheck
there = [node for node in nodes.alive()]
place = folder / "nfs"
storagecheck.check(str(place), there)
print(json.dumps(place.exists()))
place.mkdir()
(place / "kept").touch()
storagecheck.check(str(place), there)
print(json.dumps(sorted(path.name for path in place.iterdir())))

def elsewhere(place, mark):  # what a host sees that has no such folder
    return answer(str(folder / "not-mounted"), mark)

answer, storagecheck._answer = storagecheck._answer, elsewhere
try:
    storagecheck.check(str(place), there)
except InputError as error:
    print(json.dumps(str(error)))
print(json.dumps(sorted(path.name for path in place.iterdir())))
"""


@pytest.mark.slow
def test_a_storage_place_that_a_node_does_not_have_is_refused_with_node_and_fix(tmp_path: Path) -> None:
    made, kept, said, left = (json.loads(one) for one in python(tmp_path, REACH).splitlines() if one[0] in 'tf["')
    assert (made, kept, left) == (False, ["kept"], ["kept"])
    assert said.startswith("search.storage: must be a place that all nodes reach") and "not-mounted" in said
    assert "; mount the same folder on " in said
