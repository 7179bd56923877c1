"""HAAN between its network and the training loop: its losses of a batch (Eq. 10), its pseudo labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from haan import losses
from haan.config import Config
from haan.config import Loss as LossConfig
from haan.methods.haan import concepts
from haan.methods.haan import losses as haan_losses
from haan.methods.haan.network import HAAN
from haan.weights import below

CONCEPTS = "concepts"  # before the names of those tensors of a result that are no weights of its network
LOSSES = ("mil", "pseudo", "concept", "coarse", "total")


@dataclass(frozen=True)
class Batch:
    """One batch of videos on the device; shapes as in haan.losses and haan.methods.haan.concepts."""

    clips: Float[Tensor, "clips d"]
    labels: Tensor
    video: Tensor
    num_clips: Tensor
    fine: Tensor
    coarse: Tensor
    groups: concepts.Groups


@dataclass(frozen=True)
class Balance:
    """What the losses weigh by: BCE weights of both levels, frequency of each cluster; None for equal weights."""

    fine: Tensor | None
    coarse: Tensor | None
    frequency: Tensor | None


def batch_losses(
    model: HAAN, batch: Batch, hierarchy: concepts.Hierarchy, balance: Balance, config: Config
) -> Float[Tensor, "5"]:
    """The losses of one batch in the order of `LOSSES`, summed over its videos (Eq. 1-10)."""
    loss, setting = config.loss, config.concepts
    out = model(batch.clips)
    mil = losses.bce(losses.pool(out.cas, batch.video, batch.num_clips), batch.fine, balance.fine)
    pseudo = haan_losses.pseudo_loss(
        out.cluster_logits, batch.labels, batch.video, batch.num_clips, balance.frequency, loss.pseudo_per_clip
    )
    concept = coarse = mil.new_zeros(())
    if loss.concept > 0 or loss.coarse > 0:
        prototypes = model.classifier.weight
        formed = concepts.visual_concepts(out.hidden, batch.groups)
        fine = concepts.fine_representations(
            formed, prototypes, batch.groups, setting.clusters, setting.top_k, setting.distance
        )
        target = prototypes.detach() if loss.detach_prototypes else prototypes
        concept = haan_losses.concept_loss(fine, target, batch.fine, setting.distance, loss.concept_reduction)
        logits = model.coarse_logits(hierarchy.compose(fine, loss.coarse_pooling))
        coarse = losses.bce(logits, batch.coarse, balance.coarse)
    return _weigh(loss, mil, pseudo, concept, coarse)


def _weigh(loss: LossConfig, mil: Tensor, pseudo: Tensor, concept: Tensor, coarse: Tensor) -> Tensor:
    """The four losses and their weighted sum (Eq. 10); a weight of 0 takes its loss out, even an infinite one."""
    parts = {"mil": mil, "pseudo": pseudo, "concept": concept, "coarse": coarse}
    total = torch.stack([getattr(loss, name) * part for name, part in parts.items() if getattr(loss, name) > 0]).sum()
    # Detached, for even a gradient of 0 into an infinite loss is NaN.
    shown = [part if getattr(loss, name) > 0 else part.detach() for name, part in parts.items()]
    return torch.stack([*shown, total])


def parted(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the network, and `Best.concepts`, out of `Best.tensors`."""
    weights = {name: value for name, value in tensors.items() if not name.startswith(CONCEPTS + ".")}
    return weights, below(tensors, CONCEPTS)
