"""What test_lost_nodes.py asks of a Ray of several nodes: `python -m tests.search.trials.many_nodes CLUSTER FOLDER`.

It starts one of CLUSTERS and prints each answer as it comes: a line of JSON, its name and what was seen.
"""

import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import ray
from ray import cloudpickle, tune
from ray.cluster_utils import Cluster as Nodes
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from haan.errors import InputError
from search.driver import nodes, placement, session, storagecheck
from search.driver.job import preview
from search.driver.request import Request
from search.results.folder import RunFolder
from search.study.study import Study
from search.trials import internals
from search.trials.bridge import Bridge, Events
from search.trials.features import Copies, Opened, SharedTable, share
from search.trials.tuning import Stage, run_stage
from tests.search.curves import CURVES, EPOCHS
from tests.search.spaces import demo_space, tiny_space
from tests.search.trials import drawn, recorded
from tests.search.trials.drawn import MIB
from tests.search.trials.recorded import PARAMETERS, Replay

Answers = Iterator[tuple[str, Any]]


def rooms(cluster: Nodes, folder: Path) -> Answers:
    """A node with little room, later one with enough beside it."""
    small = cluster.add_node(num_cpus=4, object_store_memory=100 * MIB)
    yield "reach", reach(folder)
    yield "way", way(small.node_id)
    roomy = cluster.add_node(num_cpus=1, object_store_memory=200 * MIB)
    yield "room", room(folder, small.node_id, roomy.node_id)
    gc.collect()  # for the features of the one before
    yield "small", only_small(folder, small.node_id)


def losses(cluster: Nodes, folder: Path) -> Answers:
    """A node that dies, one of two that are about to, then two others, one with a GPU."""
    yield "lost", lost(cluster, folder)
    await_head_alone()  # its trials may have gone on before Ray takes the lost node for dead
    yield "left", left(cluster, folder)
    await_head_alone()
    cluster.add_node(num_cpus=4, object_store_memory=100 * MIB)
    gpu = cluster.add_node(num_cpus=4, num_gpus=1, object_store_memory=100 * MIB)
    yield "gpus", gpus(folder, gpu.node_id)


def await_head_alone() -> None:
    while len(nodes.alive()) > 1:
        time.sleep(0.1)


CLUSTERS: dict[str, Callable[[Nodes, Path], Answers]] = {"rooms": rooms, "losses": losses}


def search(
    place: Path, trainable: type, trials: int, request: Any, concurrent: int = 3, events: Events | None = None
) -> tuple[list[optuna.trial.FrozenTrial], Bridge]:
    """A search over recorded curves; its trials, none of which may fail, and its bridge."""
    study = Study.create(
        name="n",
        journal=None,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
        parameters=PARAMETERS,
        epochs=EPOCHS,
    )
    wanted = tune.with_resources(trainable, request)
    stage = Stage(str(place), 1, wanted, concurrent, 0, place / "log", request=request)
    bridge = Bridge(
        study,
        trials,
        lambda one: {"number": one.number, "epochs": EPOCHS, "restore": []},
        events or Events(),
        stage.checkpoints(),
    )
    run_stage(stage, bridge)
    return study.trials(), bridge


def notes_below(folder: Path, name: str) -> Path:
    notes = folder / name
    notes.mkdir()
    return notes


class Slow(Replay):
    def step(self) -> dict[str, Any]:
        (self.notes / f"{ray.get_runtime_context().get_node_id()}-{self.number}-{self.epoch}").touch()
        time.sleep(0.4)
        return super().step()


def lost(cluster: Nodes, folder: Path) -> Any:
    victim, notes = cluster.add_node(num_cpus=2, object_store_memory=100 * MIB), notes_below(folder, "lost")

    def lose() -> None:
        while not any(notes.glob(f"{victim.node_id}-*-6")):
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)

    threading.Thread(target=lose, daemon=True).start()
    trainable = tune.with_parameters(Slow, curves=CURVES, notes=str(notes))
    trials, _ = search(notes, trainable, 3, placement.request(placement.Share(3, 1, 0.0), 0))
    return [[trial.state.name, trial.user_attrs["retries"]] for trial in trials]


def left(cluster: Nodes, folder: Path) -> Any:
    """Where a search runs, of nodes that leave once it has seen them: one dies, one is about to be taken back."""
    dead, due = (cluster.add_node(num_cpus=1, object_store_memory=100 * MIB) for _ in range(2))
    seen, holds = nodes.alive(), folder / "holds"

    @ray.remote(scheduling_strategy=NodeAffinitySchedulingStrategy(due.node_id, False))
    def hold() -> None:
        holds.touch()
        time.sleep(600)  # a node that has nothing to do would be gone at once

    hold.remote()
    while not holds.exists():
        time.sleep(0.05)
    internals.drain(cluster.address, due.node_id, "it is taken back", 600)
    cluster.remove_node(dead, allow_graceful=False)
    asked = Request(tiny_space(folder, storage=str(folder / "nfs")), None, folder / "runs", None, None, (), False)
    job = replace(preview(asked, RunFolder(folder / "scratch" / "run")), address=cluster.address)
    lines: list[str] = []
    screen: Any = SimpleNamespace(line=lines.append)
    session.nodes.start_ray = lambda *about: nodes.Cluster(seen, False)
    with ExitStack() as service:
        found, share = session._find(job, screen, folder / "log", service)
    up = {node.id for node in nodes.alive()}
    cluster.remove_node(due)
    return [lines, [node.head for node in found.nodes], share.concurrent, due.node_id in up]


class Opens(Replay):
    """Opens the features as a trial does, and says how."""

    def setup(
        self, config: dict[str, Any], curves: Any = (), notes: str = "", shared: SharedTable | None = None
    ) -> None:
        assert shared is not None
        self.table, self.opened = shared.arrive()
        super().setup(config, curves, notes)

    def step(self) -> dict[str, Any]:
        time.sleep(0.1)
        return super().step() | {"opened": self.opened}


def shared_mib(videos: int, **how: Any) -> SharedTable:
    """So many MiB of features."""
    return share(drawn.Drawn(np.full(videos, drawn.CLIPS), drawn.DIM), drawn.annotate(videos), "float16", **how)


def room(folder: Path, small: str, roomy: str) -> Any:
    notes, shared = notes_below(folder, "room"), shared_mib(120)
    asked = placement.Share(3, 1, 0.0)
    warned = placement.warnings(nodes.Cluster(nodes.alive(), False), asked, 120 * MIB)
    copies, seen, lines = Copies(), [], []

    class Noted(Events):
        def opened(self, how: Opened) -> None:
            seen.append(how.node)
            line = copies.note(how)
            if line:
                lines.append(line)

    trainable = tune.with_parameters(Opens, curves=CURVES, notes=str(notes), shared=shared)
    trials, _ = search(notes, trainable, 4, placement.request(asked, 120 * MIB), events=Noted())
    states = [trial.state.name for trial in trials]
    return [warned, lines, states, small in seen, roomy in seen, copies.summary(), copies.copies.get(roomy)]


def only_small(folder: Path, small: str) -> Any:
    """As with an autoscaler that starts such a node again and again: the request never avoids it."""
    notes = notes_below(folder, "small")
    there = tune.PlacementGroupFactory([{"CPU": 1}], bundle_label_selector=[{"ray.io/node-id": small}])
    trainable = tune.with_parameters(Opens, curves=CURVES, notes=str(notes), shared=shared_mib(120))
    trials, bridge = search(notes, trainable, 4, lambda config: there)
    return [bridge.halted and bridge.halted.reason, [trial.state.name for trial in trials]]


def way(far: str) -> Any:
    shared = shared_mib(6, chunk_bytes=2 * MIB)

    @ray.remote(scheduling_strategy=NodeAffinitySchedulingStrategy(far, False))
    def fetch(part: SharedTable) -> None:
        ray.get(list(part.chunks))

    def comes(wanted: dict[str, int]) -> bool:
        limit = time.monotonic() + 10  # where a copy lies is heard of a little later
        while shared.on_their_way() != wanted and time.monotonic() < limit:
            time.sleep(0.05)
        return shared.on_their_way() == wanted

    answers = [list(shared.sizes), comes({})]
    for count, wanted in ((1, {far: 2 * MIB}), (2, {far: 4 * MIB}), (3, {})):
        ray.get(fetch.remote(replace(shared, chunks=shared.chunks[:count])))
        answers.append(comes(wanted))
    return answers


class Where(Replay):
    def step(self) -> dict[str, Any]:
        (self.notes / f"{ray.get_runtime_context().get_node_id()}-{self.number}-{time.time()}").touch()
        time.sleep(0.2)
        return super().step()


def gpus(folder: Path, gpu: str) -> Any:
    def nodes_of(resources: dict[str, float], trials: int) -> Any:
        found = nodes.Cluster(nodes.alive(), False)
        asked = placement.fit(demo_space(folder, resources=resources), found, 0)
        notes = notes_below(folder, f"gpu-{resources['gpu']}")
        trainable = tune.with_parameters(Where, curves=CURVES, notes=str(notes))
        ended, _ = search(notes, trainable, trials, placement.request(asked, 0), asked.concurrent)
        assert {trial.state.name for trial in ended} == {"COMPLETE"}
        seen = [path.name.split("-") for path in notes.glob("*-*-*")]  # Replay leaves notes of its own
        spans = [[float(at) for _, number, at in seen if number == str(n)] for n in range(trials)]
        most = max(sum(min(one) <= at <= max(one) for one in spans) for span in spans for at in span)
        return [str(found), asked.concurrent, most, sorted({node for node, _, _ in seen})]

    head = next(node.id for node in nodes.alive() if node.head)
    return [nodes_of({"cpu": 1, "gpu": 0.25}, 4), nodes_of({"cpu": 2, "gpu": 0}, 8), gpu, head]


def reach(folder: Path) -> Any:
    there, place, answer = nodes.alive(), folder / "nfs", storagecheck._answer
    storagecheck.check(str(place), there)
    made = place.exists()
    place.mkdir()
    (place / "kept").touch()
    storagecheck.check(str(place), there)
    kept = sorted(path.name for path in place.iterdir())
    absent = str(folder / "not-mounted")
    storagecheck._answer = lambda place, mark: answer(absent, mark)  # what a host sees that has no such folder
    try:
        storagecheck.check(str(place), there)
        said = "nothing"
    except InputError as error:
        said = str(error)
    finally:
        storagecheck._answer = answer
    return [made, kept, said, sorted(path.name for path in place.iterdir())]


def main(name: str, folder: Path) -> None:
    for module in (drawn, recorded):
        cloudpickle.register_pickle_by_value(module)  # workers can't import the tests
    about = {"num_cpus": 1, "object_store_memory": 200 * MIB, "include_dashboard": False}
    cluster = Nodes(True, True, about)
    for question, answer in CLUSTERS[name](cluster, folder):
        sys.stdout.write("\n" + json.dumps([question, answer]) + "\n")  # Ray prints logs between them
    sys.stdout.flush()
    ray.shutdown()  # before its nodes end, for a driver whose node ends first is ended with it
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
