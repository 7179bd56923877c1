"""The losses as haan.train computes them, on the padded batches of the oracle: the one place that knows the wiring."""

import numpy as np
import torch
from torch import Tensor

from haan import losses
from haan.config import Concepts, Config, Data, Loss
from haan.methods.haan import concepts
from haan.methods.haan.method import Balance, Batch, batch_losses
from haan.methods.haan.network import HAAN
from tests.oracle import LOSSES, Padded

CPU = torch.device("cpu")


def unpadded(batch: Padded, clusters: int) -> Batch:
    """The batch as haan.train packs it: clips of all videos one after the other."""
    counts = np.array(batch.num_clips)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    labels = torch.cat([row[:count] for row, count in zip(batch.labels, counts, strict=True)])
    return Batch(
        clips=torch.cat([rows[:count] for rows, count in zip(batch.clips, counts, strict=True)]),
        labels=labels,
        video=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
        num_clips=torch.from_numpy(counts.astype(np.float32)[:, None]),
        fine=batch.fine,
        coarse=batch.coarse,
        groups=concepts.group(labels.numpy(), offsets, clusters, CPU),
    )


def fast_losses(model: HAAN, loss: Loss, setting: Concepts, batch: Padded) -> dict[str, Tensor]:
    """Same arguments and result as `oracle.losses`."""
    balanced = loss.class_weights == "balanced"
    balance = Balance(
        losses.balanced_weights(batch.train_fine) if balanced else None,
        losses.balanced_weights(batch.train_coarse) if balanced else None,
        batch.frequency if loss.pseudo_weights == "frequency" else None,
    )
    hierarchy = concepts.Hierarchy(np.array(batch.coarse_of_fine), CPU)
    config = Config(data=Data(root="none", features="none", train_videos=1), concepts=setting, loss=loss)
    values = batch_losses(model, unpadded(batch, setting.clusters), hierarchy, balance, config)
    return dict(zip(LOSSES, values, strict=True))
