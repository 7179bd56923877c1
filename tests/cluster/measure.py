"""Run on the head of a cluster by test_features.py: `python -m tests.cluster.measure MIB:TRIALS ...`.

Shares so many MiB of random features, trains so many real trials a node on them for an epoch, and prints as JSON, a
list for each word, what each trial's process holds for itself and what the store of each node holds.
"""

import json
import shutil
import sys
from dataclasses import asdict, dataclass

import numpy as np
import psutil
import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from haan.config import Data, Optim
from haan.data.table import Split
from haan.methods.haan.config import Concepts, HaanConfig, Model
from search.trials.features import num_bytes, share
from search.trials.trial import TrialRunner
from tests.search.trials.drawn import CLIPS, DIM, MIB, Drawn, annotate


@dataclass(frozen=True)
class Held:
    """Of one trial, in MiB. own: USS of its process. store: what is used of its node's shared memory."""

    node: str
    own: float
    store: float


class Measured(TrialRunner):
    """The real trial, which can also say what its process and its node hold."""

    def held(self) -> tuple[float, float]:
        """USS and used shared memory, in MiB."""
        return psutil.Process().memory_full_info().uss / MIB, shutil.disk_usage("/dev/shm").used / MIB


def measure(videos: int, trials: int) -> list[Held]:
    """Every trial after an epoch on features of `videos` MiB, so many on each node at once."""
    source = Drawn(np.full(videos, CLIPS), DIM)
    assert num_bytes(source, "float16") == videos * MIB
    config = HaanConfig(
        data=Data(root="none", features="none", train_videos=videos),
        model=Model(width=16),
        concepts=Concepts(clusters=8, top_k=2),
        optim=Optim(epochs=2),
        device="cpu",
        threads=1,
    )
    trainable = tune.with_parameters(
        Measured,
        base=config,
        detects=(config.detect,),
        splits={"official": Split(np.arange(videos - 4), np.arange(videos - 4, videos))},
        shared=share(source, annotate(videos), "float16"),
    )
    nodes = [node for node in ray.nodes() if node["Alive"] for _ in range(trials)]
    actors = []
    for number, node in enumerate(nodes):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        setting = {"number": number, "params": {}, "sweep": True, "restore": []}
        actors.append(ray.remote(num_cpus=1, scheduling_strategy=there)(trainable).remote(config=setting))
    epochs = ray.get([actor.train.remote() for actor in actors])
    assert {result["epochs"][0]["epoch"] for result in epochs} == {1}
    held = ray.get([actor.held.remote() for actor in actors])
    names = [str(node["NodeManagerHostname"]) for node in nodes]
    return [Held(name, own, store) for name, (own, store) in zip(names, held, strict=True)]


if __name__ == "__main__":
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    asked = [map(int, word.split(":")) for word in sys.argv[1:]]
    sys.stdout.write(json.dumps([[asdict(held) for held in measure(*one)] for one in asked]) + "\n")
