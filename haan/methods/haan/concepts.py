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

    within: [clips] the rank of each clip's concept among those of its video, which stand in the order of their labels
    and are followed by absent ones. part: [clips, videos] what each clip is of its concept's mean, 0 in other videos.
    present: [videos, 1] how many concepts each video has. rank: [ranks] from 0, the rows of a video, at least so many.
    """

    within: Int[Tensor, " clips"]
    part: Float[Tensor, "clips videos"]
    present: Int[Tensor, "videos 1"]
    rank: Int[Tensor, " ranks"]


def group(labels: NDArray[np.int64], offsets: NDArray[np.int64], clusters: int, device: torch.device) -> Groups:
    """Groups the clips of a batch by (video, pseudo label), ordered by video and then by label.

    labels: [clips] pseudo label of each clip, < clusters. offsets: [videos + 1] first clip of each video.
    """
    within, part, present = ranked(labels, offsets, clusters)
    video = torch.from_numpy(np.repeat(np.arange(len(present)), np.diff(offsets)))
    parts = members(video, len(present)) * torch.from_numpy(part)[:, None]  # in float64 until it is used
    return Groups(
        within=torch.from_numpy(within).to(device),
        part=parts.to(device),
        present=torch.from_numpy(present[:, None]).to(device),
        rank=torch.arange(int(present.max()), device=device),
    )


def ranked(
    labels: NDArray[np.int64], offsets: NDArray[np.int64], clusters: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Of each clip the rank of its label among those of its video, from 0, and 1 / (clips of that label there).

    Then how many labels each video has.
    """
    num_videos = len(offsets) - 1
    video_of_clip = np.repeat(np.arange(num_videos), np.diff(offsets))
    keys, of_clip, count = np.unique(video_of_clip * clusters + labels, return_inverse=True, return_counts=True)
    first = np.searchsorted(keys, np.arange(num_videos + 1) * clusters)
    return of_clip - first[video_of_clip], (1 / count)[of_clip], np.diff(first)


def visual_concepts(hidden: Float[Tensor, "clips width"], groups: Groups) -> Float[Tensor, "videos ranks width"]:
    """Mean feature of the clips of each present concept (Eq. 4); an absent one is the zero vector."""
    mean = hidden.new_empty(len(groups.present), len(groups.rank), len(hidden))
    torch.mul(groups.within == groups.rank[:, None], groups.part.T[:, None], out=mean)
    return (mean.flatten(0, 1) @ hidden).unflatten(0, mean.shape[:2])


def _closeness(
    concepts: Float[Tensor, "videos ranks width"], prototypes: Float[Tensor, "fine width"], distance: Distance
) -> tuple[Float[Tensor, "fine videos ranks"], Float[Tensor, "fine 1 1"] | float]:
    """Minus D of Eq. 5 from each class to each concept, and to an absent one (the zero vector).

    Cosine distance is given less its constant 1, which would only round small differences away, and times the length of
    the prototype, which changes no order. A zero vector's cosine counts as 0.
    """
    rows = concepts.flatten(0, 1)
    if distance == "cosine":
        length = torch.linalg.vector_norm(rows, dim=1).clamp_min_(torch.finfo(rows.dtype).tiny)
        return (prototypes @ rows.T).div_(length).unflatten(1, concepts.shape[:2]), 0.0
    # The zero vector goes through the same call, so that a present concept at zero is exactly as far as an absent.
    both = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    near = torch.cdist(prototypes, both, compute_mode="donot_use_mm_for_euclid_dist").neg_()
    return near[:, :-1].unflatten(1, concepts.shape[:2]), near[:, -1:, None]


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
    share = torch.mul(taken, 1 / top_k, out=concepts.new_empty(taken.shape))
    pick = concepts.new_zeros(len(prototypes), *concepts.shape[:2]).scatter_(2, chosen, share)
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
    near, absent = _closeness(concepts, prototypes, distance)
    behind = groups.rank - groups.present  # from 0 on: absent ones
    value, chosen = near.masked_fill_(behind >= 0, -torch.inf).sort(dim=2, stable=True, descending=True)
    value, chosen = value[..., :top_k], chosen[..., :top_k]
    # A present concept further away than the zero vector queues behind all absent ones.
    return chosen, (value >= absent) | (behind[:, :top_k] < top_k - clusters)


class Hierarchy:
    """The class hierarchy as index tensors, built once.

    coarse_of_fine: [fine] coarse class of each fine class; every coarse class has at least one.
    """

    def __init__(self, coarse_of_fine: NDArray[np.int64], device: torch.device):
        self.num_coarse = int(coarse_of_fine.max()) + 1
        self.coarse_of_fine = torch.from_numpy(coarse_of_fine).to(device)
        self._member = members(self.coarse_of_fine, self.num_coarse).T.contiguous()
        self._mean = self._member / self._member.sum(dim=1, keepdim=True)
        counts = np.bincount(coarse_of_fine)
        first = np.cumsum(counts) - counts
        # The fine classes of each coarse one, the first of them again where it has fewer than another.
        rank = np.arange(counts.max())
        rank = np.where(rank < counts[:, None], rank, 0)
        table = np.argsort(coarse_of_fine, kind="stable")[first[:, None] + rank]
        self._fine_of_coarse = torch.from_numpy(table).to(device)

    def compose(
        self, fine: Float[Tensor, "videos fine width"], pooling: Literal["max", "mean"]
    ) -> Float[Tensor, "videos coarse width"]:
        """e'_u: the maximum or mean of the coarse class's fine representations (Eq. 8)."""
        if pooling == "mean":
            return self._mean.to(fine.dtype) @ fine
        return _Maximum.apply(fine, self._fine_of_coarse, self.coarse_of_fine, self._member.to(fine.dtype))


class _Maximum(Function):
    """The maximum of each coarse class; classes that share it share its gradient."""

    @staticmethod
    def forward(fine: Tensor, fine_of_coarse: Tensor, coarse_of_fine: Tensor, member: Tensor) -> Tensor:
        return fine.index_select(1, fine_of_coarse.flatten()).unflatten(1, fine_of_coarse.shape).amax(2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], *inputs[2:], output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grad = grad_outputs[0]
        fine, coarse_of_fine, member, most = ctx.saved_tensors
        reached = most.index_select(1, coarse_of_fine).eq_(fine)  # 1 or 0
        share = grad / (member @ reached)
        return reached.mul_(share.index_select(1, coarse_of_fine)), None, None, None
