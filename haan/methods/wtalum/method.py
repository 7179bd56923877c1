"""WTAL-UM, weakly supervised action localisation by uncertainty modelling (Lee et al., AAAI 2021).

How long a clip's feature is says how much it is action. The mean feature of a video's longest ones is to be long, that
of the shortest ones short, and the latter's classes are to be as likely as each other.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from haan.config import Precision
from haan.data.table import IntArray, runs
from haan.detectors import grid
from haan.detectors.curves import Curves
from haan.methods.base import Labelled, Network
from haan.methods.parts import Dropout, exact_products, one_row, unrounded
from haan.methods.ragged import Ragged, num_top, top_places
from haan.methods.videos import KEPT, VideoMethod
from haan.methods.wtalum.config import Model, Um, UmConfig, UmDetect
from haan.metrics import Detections

_AT_ONCE = 1 << 12  # clips of which sequences are made at once


class WTALUM(Network):
    """A convolution over a clip and its neighbours in the same video, and the classifier."""

    def __init__(self, config: Model, clip_dropout: float, dim: int, num_fine: int, precision: Precision = "float32"):
        """clip_dropout: share of clips that `kept` passes over. precision: bfloat16 rounds the matrix products."""
        super().__init__()
        self._rounded = precision == "bfloat16"
        self.encoder = nn.Conv1d(dim, config.width, kernel_size=3, padding=1)
        self.dropout, self._clips = Dropout(config.dropout), Dropout(clip_dropout)
        self.classifier = nn.Linear(config.width, num_fine, bias=False)

    def forward(
        self, clips: Float[Tensor, "videos longest d"], there: Bool[Tensor, "videos longest"]
    ) -> tuple[Float[Tensor, "videos longest width"], Float[Tensor, "videos longest fine"]]:
        """Features, 0 behind a video's last clip, and class logits; clips are 0 there, too."""
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            features = self.encoder(clips.transpose(1, 2)).transpose(1, 2).relu() * there[..., None]
            logits = self.classifier(self.dropout(features))
        return unrounded(features), unrounded(logits)

    def kept(self, there: Bool[Tensor, "videos longest"]) -> Float[Tensor, "videos longest"]:
        """1 for each clip, or 0 where dropout passes it over."""
        return self._clips(torch.ones(there.shape, device=there.device)).sign()

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips numbers"]:
        """Of one video: the logits of the classes, and last the length of the feature."""
        return self.of_videos(clips, np.array([len(clips)]))

    def of_videos(self, clips: Float[Tensor, "clips d"], num_clips: IntArray) -> Float[Tensor, "clips numbers"]:
        row, there, place = one_row(clips, num_clips)
        features, logits = self(row, there)
        return torch.cat([logits, features.norm(dim=2, keepdim=True)], dim=2)[0, place]


def extremes(
    magnitude: Float[Tensor, "videos longest"],
    kept: Float[Tensor, "videos longest"],
    there: Bool[Tensor, "videos longest"],
    k: tuple[Int[Tensor, " videos"], Int[Tensor, " videos"]],
) -> tuple[Bool[Tensor, "videos longest"], Bool[Tensor, "videos longest"]]:
    """The clips of action, which are longest, and of background, which are shortest, so many of each.

    kept: 1, or 0 for a clip that is passed over, so long as there are others.
    """
    magnitude = magnitude.detach()
    most = magnitude.masked_fill(~there, 0).amax(dim=1, keepdim=True)
    of_kind = zip((magnitude, most - magnitude), k, strict=True)
    action, background = (top_places((score * kept)[..., None], there, n)[..., 0] for score, n in of_kind)
    return action, background


def chosen_mean(
    values: Float[Tensor, "videos longest d"], chosen: Bool[Tensor, "videos longest"]
) -> Float[Tensor, "videos d"]:
    """Mean over the chosen clips of each video."""
    weights = chosen.to(values.dtype)
    return (weights[:, None] @ values)[:, 0] / weights.sum(dim=1).clamp_min(1)[:, None]


def pooled(logits: Float[Tensor, "videos longest fine"], batch: Ragged, r_act: int) -> Float[Tensor, "videos fine"]:
    """Mean of each class's own highest logits."""
    top = top_places(logits, batch.there, num_top(batch.num_clips, 1 / r_act))
    return (logits * top).sum(dim=1) / top.sum(dim=1).clamp_min(1)


def video_losses(
    features: Float[Tensor, "videos longest width"],
    logits: Float[Tensor, "videos longest fine"],
    kept: Float[Tensor, "videos longest"],
    labels: Float[Tensor, "videos fine"],
    batch: Ragged,
    setting: Um,
) -> tuple[Float[Tensor, " videos"], Float[Tensor, " videos"], Float[Tensor, " videos"]]:
    """Of each video's classes, of its background's, and of magnitudes, unweighted; 0 for a video without labels."""
    k = num_top(batch.num_clips, 1 / setting.r_act), num_top(batch.num_clips, 1 / setting.r_bkg)
    action, background = extremes(features.norm(dim=2), kept, batch.there, k)
    shares = labels / labels.sum(dim=1, keepdim=True).clamp_min(1)
    of_classes = _bce(pooled(logits, batch, setting.r_act), shares)
    of_background = _bce(chosen_mean(logits, background), torch.full_like(shares, 1 / shares.shape[1]))
    long, short = (chosen_mean(features, chosen).norm(dim=1) for chosen in (action, background))
    magnitude = ((setting.margin - long).clamp_min(0) + short) ** 2
    counts = labels.any(dim=1)
    return of_classes * counts, of_background * counts, magnitude * counts


def _bce(logits: Float[Tensor, "videos fine"], target: Float[Tensor, "videos fine"]) -> Float[Tensor, " videos"]:
    """Mean over classes of the binary cross entropy of their softmax, whose logarithms are at least -100.

    PyTorch's own checks what it reads, and so stops at NaN before training can say which loss that is.
    """
    log_p = logits.log_softmax(dim=1)
    rest = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny).log()
    return -(target * log_p.clamp_min(-100) + (1 - target) * rest).mean(dim=1)


def sequences(numbers: NDArray[np.float32], offsets: IntArray, r_act: int, r_bkg: int) -> grid.Sequences:
    """Classes by softmax and magnitude, from 0 to 1 in each video, and the magnitude itself, from 0 to 1, too."""
    num_clips = np.diff(offsets)
    scores, probability, magnitudes = [], [], []
    for first, last in runs(num_clips, _AT_ONCE):
        sizes = num_clips[first:last]
        batch = Ragged.of(torch.from_numpy(sizes), int(sizes.max()))
        said = batch.pad(torch.from_numpy(numbers[offsets[first] : offsets[last]]))
        logits, magnitude = said[..., :-1], said[..., -1]
        k = num_top(batch.num_clips, 1 / r_act), num_top(batch.num_clips, 1 / r_bkg)
        chosen = extremes(magnitude, torch.ones_like(magnitude), batch.there, k)
        high, low = (chosen_mean(magnitude[..., None], which) for which in chosen)
        apart = torch.where(high > low, high - low, 1.0)
        actionness = ((magnitude - low) / apart).clamp(0, 1)
        shown = logits.softmax(dim=2) * actionness[..., None]
        least = shown.masked_fill(~batch.there[..., None], torch.inf).amin(dim=1, keepdim=True)
        most = shown.masked_fill(~batch.there[..., None], -torch.inf).amax(dim=1, keepdim=True)
        reach = torch.where(most > least, most - least, 1.0)
        scores.append(((shown - least) / reach)[batch.there].numpy())
        magnitudes.append(actionness[batch.there].numpy())
        probability.append(pooled(logits, batch, r_act).double().softmax(dim=1).numpy())
    return grid.Sequences(np.concatenate(scores), np.concatenate(probability), np.concatenate(magnitudes))


def detector(
    numbers: NDArray[np.float32], offsets: IntArray, clips_per_s: NDArray[np.float64], settings: Sequence[UmDetect]
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """See haan.methods.base.Detector."""

    def shared(one: UmDetect) -> tuple[int, int]:
        return one.r_act, one.r_bkg

    return grid.grouped(settings, shared, lambda key: sequences(numbers, offsets, *key), offsets, clips_per_s)


def curves(numbers: NDArray[np.float32], offsets: IntArray, setting: UmDetect) -> Curves:
    """See haan.methods.base.Reading."""
    what = "the class's softmax times actionness, from 0 to 1 in the video"
    return grid.curves(sequences(numbers, offsets, setting.r_act, setting.r_bkg), setting, what)


class UmMethod(VideoMethod):
    """WTAL-UM on some videos."""

    section = "um"
    losses = ("video", "background", "magnitude", "total")
    detector = staticmethod(detector)
    curves = staticmethod(curves)

    @classmethod
    def build(cls, config: UmConfig, dim: int, num_fine: int) -> WTALUM:
        return WTALUM(config.model, config.um.clip_dropout, dim, num_fine, config.precision)

    @classmethod
    def numbers_of_clip(cls, config: UmConfig, known: Labelled) -> tuple[int, int]:
        fine = known.fine.shape[1]
        return config.model.width + fine, KEPT * (config.model.width + fine) + 2 * known.dim

    def sums(
        self, clips: Float[Tensor, "clips d"], labels: Float[Tensor, "videos fine"], batch: Ragged, labelled: Tensor
    ) -> list[Float[Tensor, ""]]:
        network = self.network
        assert isinstance(network, WTALUM)
        features, logits = network(batch.pad(clips), batch.there)
        with exact_products():
            losses = video_losses(features, logits, network.kept(batch.there), labels, batch, self.setting)
            return [loss.sum() for loss in losses]

    def weights(self) -> list[float]:
        return [1.0, self.setting.beta, self.setting.alpha]
