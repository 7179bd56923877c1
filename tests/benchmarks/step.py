"""One training step, from the shared table to Adam's step."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from haan.train import Trainer
from tests import oracle
from tests.benchmarks import bare
from tests.benchmarks.measure import Rival, Row, Work, compare, threads
from tests.benchmarks.sizes import Size, make_trainer

ROUNDS = 6  # for every repeat asked for: a step is short
LIMITS = {"middle": 1.5, "finegym": 1.5}  # elsewhere none is set
HEADS, PRODUCTS, ORACLE = "bare heads", "bare heads, no dropout", "padded oracle"


def rows(size: Size, repeats: int) -> Iterator[Row]:
    """With all cores, as one training has them, and at the middle size with one thread, as trials mostly do."""
    against_oracle = size.name in ("small", "middle")  # elsewhere it takes minutes
    yield from _rows(size, ROUNDS * repeats, against_oracle)
    if size.name == "middle" and torch.get_num_threads() > 1:
        with threads(1):
            yield from _rows(size, ROUNDS * repeats, against_oracle)


def _rows(size: Size, rounds: int, against_oracle: bool) -> Iterator[Row]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    trainer = make_trainer(size)
    trainer.method.renew(1)  # which gives pseudo labels
    batches = [rng.choice(size.train, 2, replace=False) for _ in range(rounds)]
    clips = [bare.clips_of(trainer, trainer.split.train[members]) for members in batches]
    trainer.begin(np.concatenate(batches))
    rivals = [
        Rival(HEADS, _on(clips, bare.stepper(size, size.dropout, trainer.device)), LIMITS.get(size.name)),
        Rival(PRODUCTS, _on(clips, bare.stepper(size, 0.0, trainer.device))),
    ]
    if against_oracle:
        rivals.append(Rival(ORACLE, oracle_step(size, trainer)))
    yield from compare("step", size.problem, trainer.train_step, rivals, rounds)
    rounded = make_trainer(size, "bfloat16")
    rounded.method.renew(1)
    rounded.begin(np.concatenate(batches))
    exact = Rival("in float32", trainer.train_step)
    yield from compare("step in bfloat16", size.problem, rounded.train_step, [exact], rounds)
    averaged = make_trainer(size, ema_epochs=2.0)
    averaged.method.renew(1)
    averaged.begin(np.concatenate(batches))
    without = Rival("without", trainer.train_step)
    yield from compare("step, weights averaged", size.problem, averaged.train_step, [without], rounds)


def _on(clips: list[Float[Tensor, "clips d"]], step: bare.Step) -> Work:
    return lambda i: step(clips[i])


def oracle_step(size: Size, trainer: Trainer) -> Work:
    """The oracle's step on two videos of about the mean length, with the network of a trainer of its own."""
    batch = oracle.random_batch(
        0, [size.clips[1]] * 2, clusters=size.clusters, dim=size.dim, fine=size.fine, coarse=size.coarse,
        dtype=torch.float32,
    )  # fmt: skip
    model = make_trainer(size).model.cpu()
    adam = torch.optim.Adam(model.parameters(), lr=3e-5, fused=True)

    def step(i: int) -> None:
        adam.zero_grad(set_to_none=True)
        oracle.losses(model, trainer.config.loss, trainer.config.concepts, batch)["total"].backward()
        adam.step()

    return step
