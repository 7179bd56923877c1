"""Where the benchmarks reach into `haan.train`: the one place to change when it does."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from haan import losses
from haan.train import Balance, Trainer, batch_losses


def stepper(trainer: Trainer, labels: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], object]:
    """A function that trains on one batch: from the table to Adam's step. labels: [training clips] pseudo labels."""
    trainer.model.train()
    share = np.bincount(labels, minlength=trainer.config.concepts.clusters) / len(labels)
    frequency = torch.from_numpy(share.astype(np.float32)).to(trainer.device)
    weights = losses.balanced_weights(trainer._fine), losses.balanced_weights(trainer._coarse)
    balance = Balance(*weights, frequency)

    def step(members: NDArray[np.int64]) -> object:
        values = batch_losses(
            trainer.model, trainer._batch(members, labels), trainer._hierarchy, balance, trainer.config
        )
        trainer._adam.zero_grad(set_to_none=True)
        values[-1].backward()
        trainer._adam.step()
        return values.detach()

    return step


def encoded(trainer: Trainer) -> Iterator[NDArray[np.float32]]:
    """Encoded training clips, block by block; a block may be overwritten by the next."""
    return trainer._encoded()
