"""Several configurations trained as one batch against as many processes: `python -m tests.benchmarks.fusion`.

A measurement alone; the trainer does nothing of the kind. K configurations that differ in their loss weights and k have
heads of the same sizes, so their weights can be stacked and every product of the step becomes one batched product
(torch.func). The losses go one configuration after the other, from slices. Rival: processes of one thread each, one a
core, which take the configurations in turns. Prints training steps of a configuration a second.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from haan.config import Data
from haan.methods.haan import concepts
from haan.methods.haan.config import Concepts, HaanConfig, Loss, Model
from haan.methods.haan.method import Known, batch_losses, loss_weights
from haan.methods.haan.network import HAAN, ClipOutputs
from tests import oracle
from tests.fast import unpadded

CPU = torch.device("cpu")
SIZES = {  # feature size and width, clusters, fine, coarse, clips of each video
    "small": (128, 50, 12, 3, [70, 70]),
    "middle": (512, 500, 99, 14, [100, 100]),
}
SECONDS = 4.0


Batch = tuple[Tensor, Known, int]  # as tests.fast gives it


def problem(size: str) -> tuple[Batch, concepts.Hierarchy, HaanConfig, int]:
    """A batch, its hierarchy, a configuration, and the feature size."""
    dim, clusters, fine, coarse, clips = SIZES[size]
    made = oracle.random_batch(0, clips, dim=dim, clusters=clusters, fine=fine, coarse=coarse, dtype=torch.float32)
    config = HaanConfig(
        data=Data(root="none", features="none", train_videos=1),
        model=Model(width=dim, dropout=0.0),  # vmap can't draw as Dropout does
        concepts=Concepts(clusters=clusters),
        loss=Loss(coarse_pooling="mean", class_weights="none", pseudo_weights="none"),
    )
    return unpadded(made, config.loss, clusters), concepts.Hierarchy(np.array(made.coarse_of_fine), CPU), config, dim


def variant(config: HaanConfig, k: int) -> HaanConfig:
    """One of the configurations."""
    loss = replace(config.loss, pseudo=0.001 * (k + 1), concept=0.01 * (k + 1))
    return replace(config, loss=loss, concepts=replace(config.concepts, top_k=1 + k % 8))


def rate(step: Callable[[], None], seconds: float = SECONDS) -> float:
    """Calls a second."""
    for _ in range(3):
        step()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - began)


def build(config: HaanConfig, dim: int, fine: int) -> HAAN:
    """A network in training."""
    return HAAN(config.model, dim, fine, config.concepts.clusters).train()


def alone(size: str, seconds: float = SECONDS) -> float:
    """Steps a second of one configuration in this process."""
    batch, hierarchy, config, dim = problem(size)
    model = build(config, dim, batch[1].fine.shape[1])
    adam = torch.optim.Adam(model.parameters(), lr=3e-5, fused=True)

    def step() -> None:
        _, total = batch_losses(model, *batch, hierarchy, loss_weights(config.loss, CPU), config)
        adam.zero_grad(set_to_none=True)
        total.backward()
        adam.step()

    return rate(step, seconds)


def _worker(pipe: Connection, size: str) -> None:
    torch.set_num_threads(1)
    alone(size, 0.5)
    pipe.send("ready")
    pipe.recv()
    pipe.send(alone(size))


def processes(size: str, count: int) -> float:
    """Steps a second of all, in so many processes of one thread."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(count)]
    workers = [context.Process(target=_worker, args=(theirs, size)) for _, theirs in pairs]
    for worker in workers:
        worker.start()
    for ours, _ in pairs:
        ours.recv()
    for ours, _ in pairs:
        ours.send("go")
    total = sum(ours.recv() for ours, _ in pairs)
    for worker in workers:
        worker.join()
    return total


class _Slice:
    """One configuration of a stack, as `batch_losses` sees a network."""

    def __init__(self, out: tuple[Tensor, ...], weight: Tensor, coarse_logits: Callable[[Tensor], Tensor], k: int):
        self.classifier = SimpleNamespace(weight=weight)
        self.coarse_logits = coarse_logits
        self._out = ClipOutputs(*(part[k] for part in out))

    def __call__(self, clips: Tensor) -> ClipOutputs:
        return self._out


def stacked(size: str, count: int, with_losses: bool) -> float:
    """Steps a second of all, as one batch of so many configurations; without the losses the heads alone."""
    batch, hierarchy, config, dim = problem(size)
    models = [build(config, dim, batch[1].fine.shape[1]) for _ in range(count)]
    weights, _ = stack_module_state(models)  # type: ignore[arg-type]
    adam = torch.optim.Adam(weights.values(), lr=3e-5, fused=True)
    skeleton = models[0]

    def heads(one: dict[str, Tensor]) -> tuple[Tensor, ...]:
        out = functional_call(skeleton, one, (batch[0],))
        return out.encoded, out.hidden, out.cas, out.cluster_logits

    all_heads = vmap(heads)
    coarse = vmap(lambda one, x: functional_call(skeleton.coarse_classifier, one, (x,)))
    below = {n.removeprefix("coarse_classifier."): w for n, w in weights.items() if n.startswith("coarse_classifier.")}

    def loss(k: int, out: tuple[Tensor, ...]) -> Tensor:
        def coarse_logits(composed: Tensor) -> Tensor:
            return functional_call(skeleton.coarse_classifier, {n: w[k] for n, w in below.items()}, (composed,))[..., 0]

        model: Any = _Slice(out, weights["classifier.weight"][k], coarse_logits, k)
        one = variant(config, k)
        return batch_losses(model, *batch, hierarchy, loss_weights(one.loss, CPU), one)[-1]

    def step() -> None:
        out = all_heads(weights)
        if with_losses:
            total = torch.stack([loss(k, out) for k in range(count)]).sum()
        else:
            composed = out[1][:, : 2 * hierarchy.num_coarse]
            total = out[2].sum() + out[3].sum() + coarse(below, composed).sum()
        adam.zero_grad(set_to_none=True)
        total.backward()
        adam.step()

    return count * rate(step)


def main() -> None:
    """Prints a row a size and count."""
    cores = torch.get_num_threads()
    print(f"{'size':>8} {'K':>3} {f'{cores} processes':>14} {'stacked':>10} {'ratio':>6} {'stacked, heads alone':>22}")
    for size in SIZES:
        rival = processes(size, cores)
        for count in (2, 4, 8, 16):
            ours, bare = (stacked(size, count, losses) for losses in (True, False))
            print(f"{size:>8} {count:3} {rival:12.1f}/s {ours:8.1f}/s {ours / rival:6.2f} {bare:20.1f}/s", flush=True)


if __name__ == "__main__":
    main()
