"""CASE, revisiting foreground and background separation (Liu et al., ICCV 2023): ASL, and clusters of clips.

Optimal transport makes balanced clusters of the clips of a batch, which prototypes learn; and of the clusters it makes
foreground and background, by what was selected as action, which tells at inference how much of a clip is action.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from haan.data.table import IntArray
from haan.methods.asl.detector import Said, curves_of, detector_of
from haan.methods.asl.method import video_losses
from haan.methods.base import Labelled
from haan.methods.case.config import CaseConfig
from haan.methods.case.network import CASE, SCALE, OfStream
from haan.methods.case.transport import transport
from haan.methods.parts import exact_products
from haan.methods.ragged import Ragged
from haan.methods.videos import KEPT, VideoMethod, check_streams


def read(numbers: Float[Tensor, "clips numbers"]) -> Said:
    """What the network's numbers say."""
    logits, classes = numbers[:, :-1].chunk(2, dim=1)
    return Said(logits, classes, numbers[:, -1])


def cluster_losses(
    said: Sequence[OfStream],
    positive: Bool[Tensor, "videos longest"],
    labelled: Bool[Tensor, " videos"],
    batch: Ragged,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, "clusters 2"]]:
    """The losses of clusters (a mean over clips) and of their foreground (over clusters), and what the latter learns.

    positive: the clips that were selected as action. Those of videos without labels, which may show any, don't count.
    """
    counts = (batch.there & labelled[:, None]).flatten().to(said[0].encoded.dtype)
    action = positive.flatten() * counts
    number = counts.sum().clamp_min(1)
    logits = [batch.pad(one.clusters).flatten(0, 1) for one in said]
    even = torch.full_like(logits[0][0], 1 / logits[0].shape[1])
    targets = transport(torch.stack(logits).mean(dim=0), even, counts)
    clusters = torch.stack([-(targets * one.log_softmax(dim=1)).sum() for one in logits]).sum() / number
    sides = torch.stack([action, counts - action])
    cosines = [_cosines(batch.pad(one.encoded).flatten(0, 1), targets, sides) for one in said]
    every = torch.ones_like(even)
    foreground = transport(torch.stack(cosines).mean(dim=0), sides.sum(dim=1) / number, every)
    losses = [-(foreground * one.log_softmax(dim=1)).sum(dim=1).mean() for one in cosines]
    return clusters, torch.stack(losses).sum(), foreground


def _cosines(
    encoded: Float[Tensor, "n width"], targets: Float[Tensor, "n clusters"], sides: Float[Tensor, "2 n"]
) -> Float[Tensor, "clusters 2"]:
    """Of the mean clips of clusters with those of foreground and background, as logits."""
    return SCALE * F.normalize(targets.T @ encoded) @ F.normalize(sides @ encoded).T


class CaseMethod(VideoMethod):
    """CASE on some videos."""

    section = "case"
    losses = ("video", "actionness", "clusters", "foreground", "total")
    detector = staticmethod(detector_of(read))
    curves = staticmethod(curves_of(read))

    @classmethod
    def check(cls, config: CaseConfig, known: Labelled) -> None:
        """Raises InputError when clips can't be parted into the streams, or no training video has a label."""
        super().check(config, known)
        check_streams(config, known)

    @classmethod
    def build(cls, config: CaseConfig, dim: int, num_fine: int) -> CASE:
        return CASE(config.model, config.case.clusters, dim, num_fine, config.precision)

    @classmethod
    def numbers_of_clip(cls, config: CaseConfig, known: Labelled) -> tuple[int, int]:
        fine = known.fine.shape[1]
        streams, width, clusters = config.model.streams, config.model.width, config.case.clusters
        return streams * (2 * width + clusters + fine), streams * (KEPT * (fine + clusters) + 2 * width)

    def order(self, epoch: int) -> IntArray:
        """Without a last batch that isn't full, whose few clips would make other clusters."""
        order, batch_videos = super().order(epoch), self.config.optim.batch_videos
        return order[: len(order) // batch_videos * batch_videos] if len(order) > batch_videos else order

    def sums(
        self, clips: Float[Tensor, "clips d"], labels: Float[Tensor, "videos fine"], batch: Ragged, labelled: Tensor
    ) -> list[Float[Tensor, ""]]:
        network, setting = self.network, self.setting
        assert isinstance(network, CASE)
        said = network(clips)
        actionness = torch.stack([one.actionness for one in said], dim=1)
        with exact_products():
            videos, positive = video_losses([one.logits for one in said], actionness, labels, batch, setting)
            clusters, foreground, shares = cluster_losses(said, positive, labels.any(dim=1), batch)
        network.foreground.copy_(shares)
        return [*videos.sum(dim=1), clusters * labelled, foreground * labelled]

    def weights(self) -> list[float]:
        return [1.0, 1.0, self.setting.cluster_weight, self.setting.foreground_weight]
