"""The losses as haan.train computes them, on the padded batches of the oracle: the one place that knows the wiring."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from haan import losses
from haan.config import Data
from haan.methods.haan import concepts
from haan.methods.haan.config import Concepts, HaanConfig, Loss
from haan.methods.haan.losses import class_shares, clip_weights
from haan.methods.haan.method import Known, batch_losses, loss_weights
from haan.methods.haan.network import HAAN
from tests.oracle import LOSSES, Padded

CPU = torch.device("cpu")


def unpadded(batch: Padded, loss: Loss, clusters: int) -> tuple[Tensor, Known, int]:
    """The batch as haan.train packs it, clips of all videos one after the other: clips, what is known, and ranks."""
    dtype, counts = batch.clips.dtype, np.array(batch.num_clips)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    labels = np.concatenate([row[:count] for row, count in zip(batch.labels.numpy(), counts, strict=True)])
    within, part, present = concepts.ranked(labels, offsets, clusters)
    member = losses.members(torch.from_numpy(np.repeat(np.arange(len(counts)), counts)), len(counts)).to(dtype)
    frequency = batch.frequency.numpy() if loss.pseudo_weights == "frequency" else None

    def weights(of_batch: Tensor, of_training: Tensor) -> Tensor:
        balance = losses.balanced_weights(of_training) if loss.class_weights == "balanced" else None
        return losses.label_weights(of_batch, balance).to(dtype)

    known = Known(
        labels=torch.from_numpy(labels),
        pseudo=torch.from_numpy(clip_weights(labels, offsets, frequency, loss.pseudo_per_clip)).to(dtype),
        member=member,
        within=torch.from_numpy(within),
        part=member * torch.from_numpy(part)[:, None].to(dtype),
        present=torch.from_numpy(present[:, None]),
        num_clips=torch.from_numpy(counts[:, None]).to(dtype),
        fine=batch.fine.to(dtype),
        fine_weights=weights(batch.fine, batch.train_fine),
        shares=class_shares(batch.fine.to(dtype), loss.concept_reduction),
        coarse=batch.coarse.to(dtype),
        coarse_weights=weights(batch.coarse, batch.train_coarse),
    )
    clips = torch.cat([rows[:count] for rows, count in zip(batch.clips, counts, strict=True)])
    return clips, known, int(present.max())


def filled(clips: Tensor, known: Known, more_videos: int, more_clips: int) -> tuple[Tensor, Known]:
    """The same batch with rows that only fill it up: so many videos and clips more."""

    def rows(values: Tensor, name: str, pad: float = 0) -> Tensor:
        count = more_clips if name in of_clips else more_videos
        across = [0, more_videos] if name in ("member", "part") else [0, 0] * (values.dim() - 1)
        return F.pad(values, [*across, 0, count], value=pad)

    of_clips = {"clips", "labels", "pseudo", "member", "within", "part"}
    wide = {name: rows(v, name, name == "num_clips") for name, v in vars(known).items()}
    return rows(clips, "clips", 7.0), Known(**wide)


def fast_losses(
    model: HAAN, loss: Loss, setting: Concepts, batch: Padded, more: tuple[int, int, int] = (0, 0, 0)
) -> dict[str, Tensor]:
    """Same arguments and result as `oracle.losses`; filled up by so many videos, clips and ranks."""
    hierarchy = concepts.Hierarchy(np.array(batch.coarse_of_fine), CPU)
    config = HaanConfig(data=Data(root="none", features="none", train_videos=1), concepts=setting, loss=loss)
    clips, known, ranks = unpadded(batch, loss, setting.clusters)
    clips, known = filled(clips, known, *more[:2])
    values, total = batch_losses(model, clips, known, ranks + more[2], hierarchy, loss_weights(loss, CPU), config)
    assert torch.equal(values[-1], total)
    return dict(zip(LOSSES, [*values[:-1], total], strict=True))
