"""D2-Net, discriminability and denoising (Narayan et al., ICCV 2021).

A clip is foreground as far as it shows any class, and background else. Foregrounds of the batch are to look alike and
unlike backgrounds, or its classification counts more. Later, probabilities are to tell labels from each other, and in
a video clips unlike the background seen so far from the others, as well as can be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from haan.config import Precision
from haan.data.table import IntArray
from haan.detectors import grid, runs
from haan.detectors.curves import Curves
from haan.feed import BLOCK_CLIPS
from haan.methods.base import Labelled, Network, Numbers, mix_seed
from haan.methods.d2net import losses
from haan.methods.d2net.config import D2NetConfig, D2NetDetect, Model
from haan.methods.parts import Dropout, exact_products, one_row, unrounded
from haan.methods.ragged import Ragged
from haan.methods.videos import KEPT, LabelMethod, check_streams, drawing
from haan.metrics import Detections
from haan.schedule import Column, Schedule, Shape

_DRAWS = 4  # a video: of foregrounds, of backgrounds, and of both once more


class D2Net(Network):
    """Two residual convolutions over a clip and its neighbours, and a classifier, of each stream by itself.

    background: [d / streams] the feature of background, as steps have seen it.
    """

    background: Float[Tensor, " width"]

    def __init__(self, config: Model, dim: int, num_fine: int, precision: Precision = "float32"):
        """precision: bfloat16 rounds the matrix products; what comes out of them is float32 again."""
        super().__init__()
        self._rounded, self._streams = precision == "bfloat16", config.streams
        self.blocks = nn.ModuleList(nn.Conv1d(dim, dim, 3, padding=1, groups=config.streams) for _ in range(2))
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Conv1d(dim, config.streams * num_fine, 1, groups=config.streams)
        for layer in (*self.blocks, self.classifier):
            assert isinstance(layer, nn.Conv1d) and layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.register_buffer("background", torch.zeros(dim // config.streams))

    def forward(
        self, clips: Float[Tensor, "videos longest d"], there: Bool[Tensor, "videos longest"]
    ) -> tuple[Float[Tensor, "videos longest fine"], Float[Tensor, "videos longest width"]]:
        """Probabilities of classes, and features, 0 behind a video's last clip; clips are 0 there, too."""
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            hidden, among = clips.transpose(1, 2), there[:, None]
            for block in self.blocks:
                hidden = (F.leaky_relu(block(hidden), 0.2) + hidden) * among
            hidden = self.dropout(hidden)
            logits = self.classifier(hidden)
        logits, hidden = unrounded(logits), unrounded(hidden)
        probability, features = (of.unflatten(1, (self._streams, -1)) for of in (logits.sigmoid(), hidden))
        return probability.mean(dim=1).transpose(1, 2), features.mean(dim=1).transpose(1, 2)

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips fine"]:
        """Of one video: probabilities of classes, less the more a clip looks like background."""
        return self.of_videos(clips, np.array([len(clips)]))

    def of_videos(self, clips: Float[Tensor, "clips d"], num_clips: IntArray) -> Float[Tensor, "clips fine"]:
        row, there, place = one_row(clips, num_clips)
        probability, features = self(row, there)
        return (probability * losses.unlikeness(features, self.background)[..., None])[0, place]


def sequences(numbers: NDArray[np.float32], offsets: IntArray, top_clips: float) -> grid.Sequences:
    """The probabilities themselves; of each video's classes as parts of the most probable one's."""
    pooled = np.stack([runs.top_mean(numbers[first:last], top_clips) for first, last in pairwise(offsets)])
    most = pooled.max(axis=1, keepdims=True)
    return grid.Sequences(numbers, pooled / np.where(most > 0, most, 1))


def detector(
    numbers: NDArray[np.float32], offsets: IntArray, clips_per_s: NDArray[np.float64], settings: Sequence[D2NetDetect]
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """See haan.methods.base.Detector."""

    def shared(one: D2NetDetect) -> float:
        return one.top_clips

    return grid.grouped(settings, shared, lambda share: sequences(numbers, offsets, share), offsets, clips_per_s)


def curves(numbers: NDArray[np.float32], offsets: IntArray, setting: D2NetDetect) -> Curves:
    """See haan.methods.base.Reading."""
    what = "the class's probability, less the more a clip looks like background"
    return grid.curves(sequences(numbers, offsets, setting.top_clips), setting, what)


class D2NetMethod(LabelMethod):
    """D2-Net on some videos."""

    section = "d2"
    losses = ("discriminative", "clip_denoising", "video_denoising", "total")
    detector = staticmethod(detector)
    curves = staticmethod(curves)
    repeats = True
    repeatable = False  # singular values of a batch's table aren't found in steps that are always the same
    _epoch = 1

    @classmethod
    def check(cls, config: D2NetConfig, known: Labelled) -> None:
        """Raises InputError when clips can't be parted into the streams, or no training video has a label."""
        super().check(config, known)
        check_streams(config, known)

    @classmethod
    def build(cls, config: D2NetConfig, dim: int, num_fine: int) -> D2Net:
        return D2Net(config.model, dim, num_fine, config.precision)

    @classmethod
    def numbers(cls, config: D2NetConfig, known: Labelled, largest: Shape) -> Numbers:
        """Of a clip in both convolutions, the dropout and the classifiers, laid out by video."""
        fine, videos, streams = known.fine.shape[1], config.optim.batch_videos, config.model.streams
        of_clip = 3 * known.dim + (1 + streams) * fine
        return Numbers(
            step=videos * largest.longest * KEPT * of_clip,
            rows=(len(known.videos) + videos) * (fine + 2 + _DRAWS),
            block=BLOCK_CLIPS * 2 * of_clip,
        )

    def renew(self, epoch: int) -> None:
        """Only takes note of the epoch: the first ones are without denoising."""
        self._epoch = epoch

    def order(self, epoch: int) -> IntArray:
        """Labelled videos at random, batch by batch; all may repeat."""
        rng = np.random.default_rng(mix_seed(self.config.seed, epoch))
        labelled, size = np.flatnonzero(self.known.fine.any(axis=1)), self.config.optim.batch_videos
        return rng.choice(labelled, -(-len(self.known.videos) // size) * size)

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Also what is drawn of each video, and whether its step is one of every other that denoises."""
        step = np.arange(len(schedule.order)) // schedule.batch_videos + (self._epoch - 1) * len(schedule)
        late = (step % 2 == 0) & (self._epoch >= self.setting.start_epoch)
        draws = drawing().random((len(schedule.order), _DRAWS), dtype=np.float32)
        more = {"late": late.astype(np.int32), "draws": draws}
        columns = {name: Column(schedule.on_device(values), of_clips=False) for name, values in more.items()}
        return super().columns(schedule) | columns

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "4"], Float[Tensor, ""]]:
        network, num_clips, labels = self.network, rows["num_clips"], rows["labels"]
        assert isinstance(network, D2Net)
        batch = Ragged.of(num_clips, int(num_clips.max()) if shape is None else shape.longest)
        probability, features = network(batch.pad(clips), batch.there)
        with exact_products():
            p = losses.pooled(probability, batch, self.setting.pool_share)
            sides = losses.attention(probability, batch, self.setting)
            first = self._discriminative(p, features, sides, labels, rows["draws"])
            network.background.copy_(losses.moved(network.background, features, sides[1]))
            found = [first, first.new_zeros(()), first.new_zeros(())]
            if rows["late"].any():
                unlike = losses.unlikeness(features.detach(), network.background)
                found[1] = losses.clip_denoising(probability, unlike, labels, batch)
                found[2] = losses.video_denoising(p, labels)
        total = self.weighed(found)
        return torch.stack([*found, total]).detach() * len(num_clips), total

    def _discriminative(
        self,
        p: Float[Tensor, "videos fine"],
        features: Float[Tensor, "videos longest width"],
        sides: Sequence[Float[Tensor, "videos longest"]],
        labels: Float[Tensor, "videos fine"],
        draws: Float[Tensor, "videos 4"],
    ) -> Float[Tensor, ""]:
        """A mean over videos. sides: how much foreground, and how much background clips are."""
        foreground, background = (losses.weighted_mean(features, side) for side in sides)
        have, drawn = [side.any(dim=1) for side in sides], draws.unbind(dim=1)
        foregrounds, backgrounds = (
            losses.unlike(mean, of, draw)
            for mean, of, draw in zip((foreground, background), have, drawn[:2], strict=True)
        )
        like = losses.mistaken(foreground, background, (have[0], have[1]), (drawn[2], drawn[3]))
        return losses.discriminative(p, labels, foregrounds, backgrounds, like, self.setting.grouping).mean()

    def weights(self) -> list[float]:
        return [1.0, self.setting.clip_weight, self.setting.video_weight]
