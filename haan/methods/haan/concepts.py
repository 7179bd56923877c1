"""Clips -> visual concepts -> fine classes -> coarse classes (Eq. 4-6 and 8), for a ragged batch of videos.

Only concepts present in a video are formed, in as many rows for each video of a batch. An absent one is the zero
vector (Eq. 4): it adds nothing to a sum, but can take a place among the k nearest, so its distance takes part in the
choice. Between a present and an absent concept at the same distance the present one is chosen; among present ones the
lower cluster number. Distances are compared as computed, so that of concepts which differ in length alone rounding may
choose.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from haan.losses import members

Distance = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class Groups:
    """Which clips form which concept: known before the step, so that nothing waits for the device.

    of_clip: [clips] the concept of each clip, a row of [videos x ranks] concepts, in which those of a video stand in
    the order of their labels and are followed by absent ones. present: [videos, 1] how many each video has. ranks: rows
    a video. A clip that is of no video is of a concept behind the last.
    """

    of_clip: Int[Tensor, " clips"]
    present: Int[Tensor, "videos 1"]
    ranks: int


def group(labels: NDArray[np.int64], offsets: NDArray[np.int64], clusters: int, device: torch.device) -> Groups:
    """Groups the clips of a batch by (video, pseudo label), ordered by video and then by label.

    labels: [clips] pseudo label of each clip, < clusters. offsets: [videos + 1] first clip of each video.
    """
    within, present = ranked(labels, offsets, clusters)
    ranks = int(present.max())
    of_clip = np.repeat(np.arange(len(present)) * ranks, np.diff(offsets)) + within
    return Groups(torch.from_numpy(of_clip).to(device), torch.from_numpy(present[:, None]).to(device), ranks)


def ranked(
    labels: NDArray[np.int64], offsets: NDArray[np.int64], clusters: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rank of each clip's label among those of its video, from 0, and how many labels each video has."""
    num_videos = len(offsets) - 1
    video_of_clip = np.repeat(np.arange(num_videos), np.diff(offsets))
    keys, of_clip = np.unique(video_of_clip * clusters + labels, return_inverse=True)
    first = np.searchsorted(keys, np.arange(num_videos + 1) * clusters)
    return of_clip - first[video_of_clip], np.diff(first)


def visual_concepts(hidden: Float[Tensor, "clips width"], groups: Groups) -> Float[Tensor, "videos ranks width"]:
    """Mean feature of the clips of each present concept (Eq. 4); an absent one is the zero vector."""
    num_videos = len(groups.present)
    member = members(groups.of_clip, num_videos * groups.ranks, hidden.dtype)
    mean = member / member.sum(dim=1, keepdim=True).clamp_min(1)
    return (mean @ hidden).view(num_videos, groups.ranks, -1)


def _distances(
    concepts: Float[Tensor, "videos ranks width"], prototypes: Float[Tensor, "fine width"], distance: Distance
) -> tuple[Float[Tensor, "fine videos ranks"], Float[Tensor, "fine 1 1"]]:
    """D of Eq. 5 from each class to each concept, and to an absent one (the zero vector).

    Cosine distance is given less its constant 1, which would only round small differences away, and times the length of
    the prototype, which changes no order. A zero vector's cosine counts as 0.
    """
    rows = concepts.flatten(0, 1)
    if distance == "cosine":
        length = torch.linalg.vector_norm(rows, dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
        near, absent = (prototypes @ rows.T).neg_().div_(length), prototypes.new_zeros(len(prototypes), 1)
    else:
        # The zero vector goes through the same call, so that a present concept at zero is exactly as far as an absent.
        both = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
        near = torch.cdist(prototypes, both, compute_mode="donot_use_mm_for_euclid_dist")
        near, absent = near[:, :-1], near[:, -1:]
    return near.unflatten(1, concepts.shape[:2]), absent[:, :, None]


def fine_representations(
    concepts: Float[Tensor, "videos ranks width"],
    prototypes: Float[Tensor, "fine width"],
    groups: Groups,
    clusters: int,
    top_k: int,
    distance: Distance,
) -> Float[Tensor, "videos fine width"]:
    """e^j of every video and class (Eq. 5-6): the sum of the k nearest concepts, absent ones included, over k.

    The choice of the k nearest passes no gradient; the chosen concepts do.
    """
    chosen, taken = nearest(concepts, prototypes, groups, clusters, top_k, distance)
    shape = (len(prototypes), *concepts.shape[:2])
    pick = concepts.new_zeros(shape).scatter(2, chosen, taken.to(concepts.dtype) / top_k)
    return pick.transpose(0, 1) @ concepts


@torch.no_grad()
def nearest(
    concepts: Float[Tensor, "videos ranks width"],
    prototypes: Float[Tensor, "fine width"],
    groups: Groups,
    clusters: int,
    top_k: int,
    distance: Distance,
) -> tuple[Int[Tensor, "fine videos k"], Bool[Tensor, "fine videos k"]]:
    """Ranks of each video's concepts, the nearest to each class first (Eq. 5), and whether each is among the k nearest.

    Absent concepts take part in the count, but are not named. Where a video has fewer concepts than k, the rest holds
    any, which is not taken.
    """
    near, absent = _distances(concepts, prototypes, distance)
    rank = torch.arange(groups.ranks, device=concepts.device)
    far = torch.where(rank < groups.present, near, torch.inf)
    value, chosen = far.sort(dim=2, stable=True)
    most = min(top_k, groups.ranks)
    value, chosen, rank = value[..., :most], chosen[..., :most], rank[:most]
    # A present concept further away than the zero vector queues behind all absent ones.
    taken = ~(value > absent) | (clusters - groups.present + rank < top_k)
    return chosen, taken & (rank < groups.present)


class Hierarchy:
    """The class hierarchy as index tensors, built once.

    coarse_of_fine: [fine] coarse class of each fine class; every coarse class has at least one.
    """

    def __init__(self, coarse_of_fine: NDArray[np.int64], device: torch.device):
        self.num_coarse = int(coarse_of_fine.max()) + 1
        self.coarse_of_fine = torch.from_numpy(coarse_of_fine).to(device)
        self._member = members(self.coarse_of_fine, self.num_coarse, torch.float32)
        self._mean = self._member / self._member.sum(dim=1, keepdim=True)

    def compose(
        self, fine: Float[Tensor, "videos fine width"], pooling: Literal["max", "mean"]
    ) -> Float[Tensor, "videos coarse width"]:
        """e'_u: the maximum or mean of the coarse class's fine representations (Eq. 8)."""
        if pooling == "mean":
            return self._mean.to(fine.dtype) @ fine
        return _Maximum.apply(fine, self.coarse_of_fine, self._member.to(fine.dtype))


class _Maximum(Function):
    """The maximum of each coarse class; classes that share it share its gradient."""

    @staticmethod
    def forward(fine: Tensor, coarse_of_fine: Tensor, member: Tensor) -> Tensor:
        index = coarse_of_fine[None, :, None].expand_as(fine)
        most = fine.new_full((len(fine), len(member), fine.shape[2]), -torch.inf)
        return most.scatter_reduce_(1, index, fine, reduce="amax")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grad = grad_outputs[0]
        fine, coarse_of_fine, member, most = ctx.saved_tensors
        reached = (fine == most.index_select(1, coarse_of_fine)).to(fine.dtype)
        share = grad / (member @ reached).clamp_min(1)
        return reached.mul_(share.index_select(1, coarse_of_fine)), None, None
