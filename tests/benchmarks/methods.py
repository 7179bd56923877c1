"""What an epoch of each method takes at FineAction's size, beside HAAN's: `python -m tests.benchmarks.methods`.

Counted: products of its steps (multiplications and additions of matrices and convolutions, forward and backward;
clustering has others), and a GPU's memory as `--dry-run` counts it. Measured, in one thread, on few videos, whose steps
cost what those of all do: CPU seconds of the steps, and of activations, detection and scores at one setting.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from haan.cli import say
from haan.config import Config, Data
from haan.data.table import ClipTable, Split
from haan.gpumemory import gpu_need
from haan.methods.base import told
from haan.methods.haan.config import HaanConfig
from haan.methods.names import CONFIGS, HAAN
from haan.train import Trainer
from haan.words import aligned, byte_size
from search.space.read import read_space
from tests.benchmarks.measure import threads
from tests.benchmarks.sizes import SIZES, Size, annotations_of, make_table
from tests.paths import ROOT

VIDEOS, SCORED, STEPS = 8440, 16, 4
TAUGHT = "student"  # which is what its teacher's detections make of ActionFormer


@dataclass(frozen=True)
class Cost:
    """Of one method. steps: of an epoch on all videos. flop: of one. step_s, scored_s: CPU seconds, the latter a video.

    memory: bytes.
    """

    method: str
    supervision: str
    videos: int
    steps: int
    flop: float
    step_s: float
    scored_s: float
    memory: int

    @property
    def epoch_flop(self) -> float:
        """Of all its steps."""
        return self.flop * self.steps

    @property
    def epoch_s(self) -> float:
        """CPU seconds of all its steps."""
        return self.step_s * self.steps


def base_of(method: str, size: Size) -> Config:
    """What the method's space on FineAction starts from, on made data in memory."""
    file = "fineaction.yaml" if method == HAAN else f"{method}-fineaction.yaml"
    base = read_space(ROOT / "spaces" / file).base
    base = replace(base, data=Data(root="memory", features="random", train_videos=size.train), threads=1, device="cpu")
    if isinstance(base, HaanConfig):  # so few videos have fewer clips than clusters at its own share
        return replace(base, concepts=replace(base.concepts, sample_rate=1.0))
    return base


def cost_of(config: Config, table: ClipTable, split: Split, memory: int) -> Cost:
    """One step is counted, the others are timed; the first warms up."""
    trainer = Trainer(config, table, split, detects=[config.detect])
    trainer.method.renew(1)
    size = config.optim.batch_videos
    order = np.resize(np.arange(len(split.train)), size * (STEPS + 2))
    trainer.begin(order)
    with FlopCounterMode(display=False) as counted:
        trainer.train_step(0)
    seconds = [_cpu_s(trainer, step) for step in range(1, STEPS + 2)][1:]
    start = time.process_time()
    found = trainer._scorer.score(trainer._scorer.activations(trainer.model, trainer._feed.blocks(split.validation)))
    scored_s = (time.process_time() - start) / len(split.validation)
    assert found.avg_map
    steps, flop = math.ceil(VIDEOS / size), counted.get_total_flops()
    return Cost(config.method, config.supervision, size, steps, flop, median(seconds), scored_s, memory)


def _cpu_s(trainer: Trainer, step: int) -> float:
    start = time.process_time()
    trainer.train_step(step)
    return time.process_time() - start


def memory_of(config: Config, size: Size) -> int:
    """Bytes of a GPU, trained on all of FineAction's training videos."""
    every, num_clips = replace(size, train=VIDEOS, validation=0), np.full(VIDEOS, size.clips[1])
    annotations = annotations_of(every, num_clips, np.random.default_rng(0))
    return gpu_need(config, told(config.supervision, annotations, np.arange(VIDEOS), num_clips, size.dim)).total


def costs(size: Size, methods: Sequence[str]) -> Iterator[Cost]:
    """Of each method, one after the other."""
    table, split = make_table(size)
    for method in methods:
        torch.manual_seed(0)
        config = base_of(method, size)
        yield cost_of(config, table, split, memory_of(config, size))


def rows(found: Sequence[Cost]) -> list[list[str]]:
    """A table, its times as multiples of HAAN's, the first one's."""
    head = ["method", "labels", "videos a step", "steps", "TFLOP an epoch", "CPU-s", "x HAAN", "scoring x HAAN", "GPU"]
    first = found[0]
    return [head] + [
        [
            one.method,
            one.supervision,
            str(one.videos),
            f"{one.steps:,}",
            f"{one.epoch_flop / 1e12:,.0f}",
            f"{one.epoch_s:,.0f}",
            f"{one.epoch_s / first.epoch_s:.1f}",
            f"{one.scored_s / first.scored_s:.1f}",
            byte_size(one.memory),
        ]
        for one in found
    ]


def main(size: Size = SIZES["fineaction"]) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    methods = [method for method in CONFIGS if method != TAUGHT]
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"default: all of {', '.join(methods)}")
    asked = parser.parse_args().methods or methods
    if unknown := [one for one in asked if one not in methods]:
        parser.error(f"METHOD must be one of {', '.join(methods)}, got {unknown[0]}")
    few = replace(size, train=64, validation=SCORED)
    with threads(1):
        found = list(costs(few, [HAAN, *(method for method in asked if method != HAAN)]))
    say("\n".join(aligned(rows(found), texts=2)))


if __name__ == "__main__":
    main()
