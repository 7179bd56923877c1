"""One training step, ours against the plain padded oracle and against the bare products: forward, backward and Adam.

`python -m tests.benchmarks.step`: 2 videos of 100 clips, 512-d, width 512, N = 500, 99 fine and 14 coarse classes.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from haan.config import Concepts, Loss, Model
from haan.model import HAAN
from tests import fast, oracle

DIM, CLUSTERS, FINE, COARSE, CLIPS = 512, 500, 99, 14, [100, 100]


def timed(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each step, taken in turns so that a busy machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}


def run() -> dict[str, float]:
    """Seconds a step of each, and the ratios."""
    torch.manual_seed(0)
    loss, setting = Loss(coarse=0.1, coarse_pooling="mean"), Concepts(clusters=CLUSTERS, top_k=5)
    sizes = {"dim": DIM, "fine": FINE, "coarse": COARSE}
    batch = oracle.random_batch(0, CLIPS, clusters=CLUSTERS, **sizes, dtype=torch.float32)
    model = HAAN(Model(width=DIM, dropout=0.0), DIM, FINE, CLUSTERS)
    adam = torch.optim.Adam(model.parameters(), lr=3e-5, fused=True)

    def descend(value: Tensor) -> None:
        adam.zero_grad(set_to_none=True)
        value.backward()
        adam.step()

    def bare() -> None:
        # The four heads and nothing else: no pooling, no concepts, no loss.
        out = model(batch.clips.flatten(0, 1))
        coarse = model.coarse_classifier(out.hidden[: len(CLIPS) * COARSE])
        descend(out.cas.sum() + out.cluster_logits.sum() + coarse.sum())

    steps = {
        "fast": lambda: descend(fast.fast_losses(model, loss, setting, batch)["total"]),
        "bare": bare,
        "oracle": lambda: descend(oracle.losses(model, loss, setting, batch)["total"]),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = timed(steps, rounds=12)
    finally:
        torch.set_num_threads(threads)
    ratios = {"oracle/fast": seconds["oracle"] / seconds["fast"], "fast/bare": seconds["fast"] / seconds["bare"]}
    return {f"{name}_s": value for name, value in seconds.items()} | ratios


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
