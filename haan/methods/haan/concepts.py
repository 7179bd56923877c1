"""Clips -> visual concepts -> fine classes -> coarse classes (Eq. 4-6 and 8), for a ragged batch of videos.

Only concepts present in a video are formed. An absent one is the zero vector (Eq. 4): it adds nothing to a sum, but can
take a place among the k nearest, so its distance takes part in the choice. Between a present and an absent concept at
the same distance the present one is chosen; among present ones the lower cluster number. Distances are compared as
computed, so that of concepts which differ in length alone rounding may choose.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from haan.schedule import Schedule

Distance = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class Groups:
    """Which clips form which concept: known on the host before the step, so that nothing waits for the device.

    of_clip: [clips] the concept (a row of the packed concepts) of each clip.
    size: [concepts, 1] clips in each, float. offsets: [videos + 1] first concept of each video, NumPy.
    video: [concepts] the video of each.
    """

    of_clip: Int[Tensor, " clips"]
    size: Float[Tensor, "concepts 1"]
    offsets: NDArray[np.int64]
    video: Int[Tensor, " concepts"]


@dataclass(frozen=True)
class EpochGroups:
    """`Groups` of all batches of an epoch, its videos and clips in the order of training.

    of_clip: [clips] and video: [concepts] count within their batch. offsets: [videos + 1] first concept of each video.
    """

    of_clip: Int[Tensor, " clips"]
    size: Float[Tensor, "concepts 1"]
    offsets: NDArray[np.int64]
    video: Int[Tensor, " concepts"]

    def of(self, videos: slice, clips: slice) -> Groups:
        """Those of one batch, by the places of its videos and clips."""
        offsets = self.offsets[videos.start : videos.stop + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        return Groups(self.of_clip[clips], self.size[rows], offsets - offsets[0], self.video[rows])


def group(labels: NDArray[np.int64], offsets: NDArray[np.int64], clusters: int, device: torch.device) -> Groups:
    """Groups the clips of a batch by (video, pseudo label), ordered by video and then by label.

    labels: [clips] pseudo label of each clip, < clusters. offsets: [videos + 1] first clip of each video.
    """
    of_clip, size, first, video = _grouped(labels, offsets, clusters)
    return Groups(
        of_clip=torch.from_numpy(of_clip).to(device, non_blocking=True),
        size=torch.from_numpy(size).to(device, non_blocking=True),
        offsets=first,
        video=torch.from_numpy(video).to(device, non_blocking=True),
    )


def group_batches(labels: NDArray[np.int64], schedule: Schedule, clusters: int) -> EpochGroups:
    """`group` for every batch of an epoch at once; labels: [clips] in the schedule's order."""
    of_clip, size, offsets, video = _grouped(labels, schedule.offsets, clusters)
    place = np.arange(len(schedule.order))
    first = offsets[place - place % schedule.batch_videos]  # of the batch of each video
    return EpochGroups(
        of_clip=schedule.on_device(of_clip - np.repeat(first, np.diff(schedule.offsets))),
        size=schedule.on_device(size),
        offsets=offsets,
        video=schedule.on_device(video % schedule.batch_videos),
    )


def _grouped(
    labels: NDArray[np.int64], offsets: NDArray[np.int64], clusters: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The fields of `Groups` on the host."""
    num_videos = len(offsets) - 1
    video_of_clip = np.repeat(np.arange(num_videos), np.diff(offsets))
    keys, of_clip, size = np.unique(video_of_clip * clusters + labels, return_inverse=True, return_counts=True)
    video = keys // clusters
    return of_clip, size.astype(np.float32)[:, None], np.searchsorted(video, np.arange(num_videos + 1)), video


def visual_concepts(hidden: Float[Tensor, "clips width"], groups: Groups) -> Float[Tensor, "concepts width"]:
    """Mean feature of the clips of each present concept (Eq. 4)."""
    total = hidden.new_zeros(len(groups.size), hidden.shape[1]).index_add(0, groups.of_clip, hidden)
    return total / groups.size


def unit(vectors: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
    """Rows scaled to length 1; a zero row stays zero, which makes its cosine to anything 0."""
    square = vectors.square().sum(dim=-1, keepdim=True)
    nonzero = square > 0
    return torch.where(nonzero, vectors * torch.where(nonzero, square, 1.0).rsqrt(), 0.0)


def _distances(
    concepts: Float[Tensor, "concepts width"], prototypes: Float[Tensor, "fine width"], distance: Distance
) -> tuple[Float[Tensor, "fine concepts"], Float[Tensor, "fine 1"]]:
    """D of Eq. 5 from each class to each present concept, and to an absent one (the zero vector).

    Cosine distance is given less its constant 1, which would only round small differences away.
    """
    if distance == "cosine":
        return -(unit(prototypes) @ unit(concepts).T), prototypes.new_zeros(len(prototypes), 1)
    # The zero vector goes through the same call, so that a present concept at zero is exactly as far as an absent one.
    both = torch.cat([concepts, concepts.new_zeros(1, concepts.shape[1])])
    near = torch.cdist(prototypes, both, compute_mode="donot_use_mm_for_euclid_dist")
    return near[:, :-1], near[:, -1:]


def fine_representations(
    concepts: Float[Tensor, "concepts width"],
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
    num_fine, num_videos, _ = chosen.shape
    bags = chosen.transpose(0, 1).reshape(num_videos * num_fine, -1)
    weight = (taken.to(concepts.dtype) / top_k).transpose(0, 1).reshape(num_videos * num_fine, -1)
    summed = F.embedding_bag(bags, concepts, mode="sum", per_sample_weights=weight)
    return summed.view(num_videos, num_fine, -1)


@torch.no_grad()
def nearest(
    concepts: Float[Tensor, "concepts width"],
    prototypes: Float[Tensor, "fine width"],
    groups: Groups,
    clusters: int,
    top_k: int,
    distance: Distance,
) -> tuple[Int[Tensor, "fine videos ranks"], Bool[Tensor, "fine videos ranks"]]:
    """Concepts of each video by their distance from each class (Eq. 5), and whether each is among the k nearest.

    Absent concepts take part in the count, but are not named. Where a video has fewer concepts than there are ranks,
    the rest holds any concept, which is not taken.
    """
    near, absent = _distances(concepts, prototypes, distance)
    order = _order_by_distance(near, groups.video)
    present = np.diff(groups.offsets)  # [videos]
    rank = np.arange(min(top_k, int(present.max())))
    exists = rank < present[:, None]  # [videos, ranks]
    position = np.where(exists, groups.offsets[:-1, None] + rank, 0).ravel()
    # A present concept further away than the zero vector queues behind all absent ones.
    behind = np.where(exists, (clusters - present)[:, None] + rank, top_k).ravel()
    ahead = np.where(exists, rank, top_k).ravel()
    position, behind, ahead = (
        torch.from_numpy(host).to(concepts.device, non_blocking=True) for host in (position, behind, ahead)
    )
    chosen = order[:, position]  # [fine, videos x ranks]
    place = torch.where(near.gather(1, chosen) > absent, behind, ahead)
    shape = (len(prototypes), len(present), len(rank))
    return chosen.view(shape), (place < top_k).view(shape)


def _order_by_distance(
    near: Float[Tensor, "fine concepts"], video: Int[Tensor, " concepts"]
) -> Int[Tensor, "fine concepts"]:
    """For each class the concepts video by video, the nearest first within each."""
    by_distance = near.argsort(dim=1, stable=True)
    by_video = video[by_distance].argsort(dim=1, stable=True)
    return by_distance.gather(1, by_video)


class Hierarchy:
    """The class hierarchy as index tensors, built once.

    coarse_of_fine: [fine] coarse class of each fine class; every coarse class has at least one.
    """

    def __init__(self, coarse_of_fine: NDArray[np.int64], device: torch.device):
        self.num_coarse = int(coarse_of_fine.max()) + 1
        self.coarse_of_fine = torch.from_numpy(coarse_of_fine).to(device)
        size = np.bincount(coarse_of_fine, minlength=self.num_coarse)
        self.size = torch.from_numpy(size.astype(np.float32)[:, None]).to(device)

    def compose(
        self, fine: Float[Tensor, "videos fine width"], pooling: Literal["max", "mean"]
    ) -> Float[Tensor, "videos coarse width"]:
        """e'_u: the maximum or mean of the coarse class's fine representations (Eq. 8)."""
        shape = (fine.shape[0], self.num_coarse, fine.shape[2])
        if pooling == "mean":
            return fine.new_zeros(shape).index_add(1, self.coarse_of_fine, fine) / self.size
        index = self.coarse_of_fine[None, :, None].expand_as(fine)
        # From -inf: the backward pass would take an initial 0 for one more maximum where the maximum is 0.
        return fine.new_full(shape, -torch.inf).scatter_reduce(1, index, fine, reduce="amax", include_self=False)
