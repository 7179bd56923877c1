"""W-TALC (Paul, Roy and Roy-Chowdhury, ECCV 2018): multiple-instance learning, and co-activity of pairs of videos.

Two videos that share a class have clips that show it: what the class attends to in one should look like what it attends
to in the other, and unlike the rest of either.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from haan.data.table import IntArray
from haan.detectors import runs
from haan.errors import InputError
from haan.feed import BLOCK_CLIPS
from haan.methods.base import Labelled, Network, Numbers, mix_seed
from haan.methods.parts import exact_products, hidden_layer, unrounded
from haan.methods.ragged import Ragged, cross_entropy, num_top, softmax_over_time, top_mean
from haan.methods.videos import LabelMethod
from haan.methods.wtalc.config import WtalcConfig
from haan.schedule import Shape

_KEPT = 8  # numbers a clip and unit: a layer, its relu, dropout's mask and product, laid out by video, and gradients


class WTALC(Network):
    """A hidden layer as wide as the features, and the classifier."""

    def __init__(self, dim: int, num_fine: int, dropout: float, rounded: bool = False):
        """rounded: matrix products are bfloat16's; what comes out of them is float32 again."""
        super().__init__()
        self._rounded = rounded
        self.hidden = hidden_layer(dim, dim, dropout)
        self.classifier = nn.Linear(dim, num_fine)
        for layer in (self.hidden[0], self.classifier):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, clips: Float[Tensor, "clips d"]) -> tuple[Float[Tensor, "clips d"], Float[Tensor, "clips fine"]]:
        """The hidden feature of each clip, and its class scores, logits."""
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            hidden = self.hidden(clips)
            scores = self.classifier(hidden)
        return unrounded(hidden), unrounded(scores)

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips fine"]:
        """The class activation sequence."""
        return self(clips)[1]


def mil_loss(
    scores: Float[Tensor, "clips fine"], batch: Ragged, labels: Float[Tensor, "videos fine"], share: float
) -> Float[Tensor, " videos"]:
    """Of each video: cross entropy of the softmax of its pooled scores, labels sharing the target equally.

    share: of its clips, rounded up, whose scores for a class are averaged.
    """
    return cross_entropy(top_mean(scores, batch, num_top(batch.num_clips, share, up=True)), labels)


def co_activity_loss(
    hidden: Float[Tensor, "clips d"],
    scores: Float[Tensor, "clips fine"],
    batch: Ragged,
    labels: Float[Tensor, "videos fine"],
    margin: float,
) -> Float[Tensor, ""]:
    """Of videos two by two, those of each pair one after the other: a mean over the classes that a pair shares.

    Of a class, high is what its softmax over time attends to, low the mean of the rest. High and high should be nearer
    by `margin`, in cosine distance, than high and low of the other video. 0 where no pair shares a class.
    """
    attention = softmax_over_time(scores, batch)
    features = batch.pad(hidden)
    high = attention.transpose(1, 2) @ features  # [videos, fine, d]
    rest = batch.there[..., None].to(attention.dtype) - attention
    low = (rest.transpose(1, 2) @ features) / (batch.num_clips - 1).clamp_min(1)[:, None, None]
    apart = 1 - F.cosine_similarity(high[::2], high[1::2], dim=2)
    hinges = sum(
        torch.relu(apart - (1 - F.cosine_similarity(one, rest, dim=2)) + margin)
        for one, rest in ((high[::2], low[1::2]), (high[1::2], low[::2]))
    )
    shared = labels[::2] * labels[1::2]
    return (shared * hinges / 2).sum() / shared.sum().clamp_min(1)


class WtalcMethod(LabelMethod):
    """W-TALC on some videos."""

    section = "wtalc"
    losses = ("mil", "co_activity", "total")
    detector = staticmethod(runs.makers)
    curves = staticmethod(runs.curves)
    repeats = True

    @classmethod
    def check(cls, config: WtalcConfig, known: Labelled) -> None:
        """Raises InputError when no training video has a label, or none shares one with another."""
        super().check(config, known)
        if config.wtalc.pairs and known.fine.sum(axis=0).max() < 2:
            rule = "must be 0 where no class has two training videos"
            raise InputError(f"wtalc.pairs: {rule}, got {config.wtalc.pairs}")

    @classmethod
    def build(cls, config: WtalcConfig, dim: int, num_fine: int) -> WTALC:
        return WTALC(dim, num_fine, config.model.dropout, config.precision == "bfloat16")

    @classmethod
    def numbers(cls, config: WtalcConfig, known: Labelled, largest: Shape) -> Numbers:
        """Of a clip in the layer and the classifier, once more by video, and of each class of each pair."""
        fine, videos, pairs = known.fine.shape[1], config.optim.batch_videos, config.wtalc.pairs
        laid_out = largest.clips + videos * largest.longest
        return Numbers(
            step=laid_out * _KEPT * (known.dim + fine) + 2 * pairs * fine * known.dim * _KEPT,
            rows=(len(known.videos) + videos) * (1 + fine),
            block=BLOCK_CLIPS * (2 * known.dim + fine),
        )

    def order(self, epoch: int) -> IntArray:
        """Batch by batch, pairs first: a class, and two videos that have it; then single videos. All may repeat."""
        rng = np.random.default_rng(mix_seed(self.config.seed, epoch))
        size, pairs = self.config.optim.batch_videos, self.config.wtalc.pairs
        of_class = [np.flatnonzero(column) for column in self.known.fine.T]
        shared = [videos for videos in of_class if len(videos) > 1]
        labelled = np.flatnonzero(self.known.fine.any(axis=1))
        batches = []
        for _ in range(-(-len(self.known.videos) // size)):
            drawn = [rng.choice(shared[rng.integers(len(shared))], 2) for _ in range(pairs)]
            batches.append(np.concatenate([*drawn, rng.choice(labelled, size - 2 * pairs)]))
        return np.concatenate(batches)

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
        setting, num_clips, labels = self.setting, rows["num_clips"], rows["labels"]
        longest = int(num_clips.max()) if shape is None else shape.longest
        hidden, scores = self.network(clips)
        with exact_products():
            mil = mil_loss(scores, Ragged.of(num_clips, longest), labels, setting.pool_share).mean()
            paired = 2 * setting.pairs
            pairs = Ragged.of(num_clips[:paired], longest)
            co_activity = co_activity_loss(hidden, scores, pairs, labels[:paired], setting.margin)
        total = self.weighed((mil, co_activity))
        return torch.stack([mil, co_activity, total]).detach() * len(num_clips), total

    def weights(self) -> list[float]:
        balance = self.setting.balance
        return [balance, 1 - balance]
