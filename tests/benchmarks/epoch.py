"""A whole epoch with a clustering and an evaluation at 41 alphas, against the sum of its bare costs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from haan.methods.haan import clustering
from haan.train import Trainer
from tests.benchmarks import bare
from tests.benchmarks.measure import Rival, Row, compare
from tests.benchmarks.sizes import Size, make_trainer

MOST_ROUNDS = 3  # of several seconds each
Phases = dict[str, float]  # wall seconds of each phase


def rows(size: Size, repeats: int) -> Iterator[Row]:
    """The bare epoch: encode, k-means, assign; a step of the heads a batch; activations, and no detection."""
    torch.manual_seed(0)
    trainer = make_trainer(size)
    phases: dict[str, list[Phases]] = {"ours": [], "rival": []}
    epoch = _bare_epoch(size, trainer)
    rival = Rival("the bare products", lambda i: phases["rival"].append(epoch()))
    mine = lambda i: phases["ours"].append(trainer.train_epoch().seconds)  # noqa: E731  # as its rival's
    for row in compare("epoch", size.problem, mine, [rival], min(repeats, MOST_ROUNDS)):
        yield replace(row, phases={side: _by_phase(rounds[1:]) for side, rounds in phases.items()})


def _by_phase(rounds: list[Phases]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(one[name] for one in rounds) for name in rounds[0]}


def _bare_epoch(size: Size, trainer: Trainer) -> Callable[[], Phases]:
    """The same work with no more than products, on clips gathered beforehand."""
    split, offsets = trainer.split, np.concatenate([[0], np.cumsum(trainer.table.num_clips[trainer.split.train])])
    train, validation = bare.clips_of(trainer, split.train), bare.clips_of(trainer, split.validation)
    batches = [train[offsets[i] : offsets[min(i + 2, size.train)]] for i in range(0, size.train, 2)]
    heads = bare.Heads(size, size.dropout).to(trainer.device)
    step = bare.stepper(size, size.dropout, trainer.device)
    sampled = clustering.draw_sample(len(train), size.sample_rate, np.random.default_rng(0))

    def cluster() -> None:
        encoded = bare.encode(heads.encoder, train)
        centroids = bare.kmeans(encoded[torch.from_numpy(sampled)].cpu().numpy(), size.clusters, 0)
        bare.assign(encoded, torch.from_numpy(centroids).to(trainer.device)).cpu()

    def descend() -> None:
        for clips in batches:
            step(clips)

    def activations() -> None:
        with torch.inference_mode():
            heads.activations(validation).cpu()

    return lambda: {"cluster": _timed(cluster), "train": _timed(descend), "detect": _timed(activations)}


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
