"""ASL, weakly supervised action selection learning (Ma et al., CVPR 2021), between its network and the training loop.

The clips of most evidence for a class are selected, by what they show of the class and by how much they look like an
action at all; their mean logits classify the video, and that they were selected for one of its labels is what
actionness learns, by a loss that bears wrong targets.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from haan.methods.asl.config import Asl, AslConfig
from haan.methods.asl.detector import Said, curves_of, detector_of, select
from haan.methods.asl.network import ASL
from haan.methods.base import Labelled
from haan.methods.ragged import Ragged, cross_entropy, generalised_cross_entropy, selected_mean
from haan.methods.videos import KEPT, VideoMethod, check_streams


def video_losses(
    heads: Sequence[Float[Tensor, "clips fine"]],
    actionness: Float[Tensor, "clips streams"],
    labels: Float[Tensor, "videos fine"],
    batch: Ragged,
    setting: Asl,
) -> tuple[Float[Tensor, "2 videos"], Bool[Tensor, "videos longest"]]:
    """Of each video's classes and of the actionness of all streams, 0 for a video without labels; what that learns.

    heads: logits of the classes, of each classifier. actionness: probabilities.
    """
    classes = torch.stack([logits.softmax(dim=1) for logits in heads]).mean(dim=0)
    said = Said(heads[0], classes, actionness.mean(dim=1))
    chosen = select(said.evidence(setting.class_share), batch, setting.pool_share)
    positive = (chosen & labels.bool()[:, None]).any(dim=2)
    of_heads = [cross_entropy(selected_mean(logits, batch, chosen), labels) for logits in heads]
    of_streams = [generalised_cross_entropy(p, positive, batch, setting.q) for p in actionness.unbind(dim=1)]
    losses = torch.stack([torch.stack(of_heads).mean(dim=0), torch.stack(of_streams).sum(dim=0)])
    return losses * labels.any(dim=1), positive


def read(numbers: Float[Tensor, "clips numbers"]) -> Said:
    """What the network's numbers say."""
    return Said(numbers[:, :-1], numbers[:, :-1].softmax(dim=1), numbers[:, -1])


class AslMethod(VideoMethod):
    """ASL on some videos."""

    section = "asl"
    losses = ("video", "actionness", "total")
    detector = staticmethod(detector_of(read))
    curves = staticmethod(curves_of(read))

    @classmethod
    def check(cls, config: AslConfig, known: Labelled) -> None:
        """Raises InputError when clips can't be parted into the streams, or no training video has a label."""
        super().check(config, known)
        check_streams(config, known)

    @classmethod
    def build(cls, config: AslConfig, dim: int, num_fine: int) -> ASL:
        return ASL(config.model, dim, num_fine, config.precision)

    @classmethod
    def numbers_of_clip(cls, config: AslConfig, known: Labelled) -> tuple[int, int]:
        fine = known.fine.shape[1]
        return (1 + config.model.streams) * config.model.width + fine, KEPT * (fine + 1)

    def sums(
        self, clips: Float[Tensor, "clips d"], labels: Float[Tensor, "videos fine"], batch: Ragged, labelled: Tensor
    ) -> list[Float[Tensor, ""]]:
        logits, actionness = self.network(clips)
        return list(video_losses([logits], actionness.sigmoid(), labels, batch, self.setting)[0].sum(dim=1))
