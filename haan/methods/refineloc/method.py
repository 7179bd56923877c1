"""RefineLoc, iterative refinement of weakly supervised localisation (Pardo et al., WACV 2021).

Attention over time weighs what clips say of a video's classes. After so many epochs the network's own detections in the
training videos, all classes as one, become pseudo labels: a fresh network's attention learns to be high on their clips
and low on all others. The weights that an iteration ends with make the labels of the next one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from haan.config import Precision
from haan.data.table import IntArray, offsets_of, runs
from haan.detectors import masks
from haan.detectors.curves import Curves
from haan.detectors.masks import MaskDetect
from haan.errors import TrainingError
from haan.feed import BLOCK_CLIPS, Feed
from haan.methods.base import Labelled, Network, Numbers, mix_seed
from haan.methods.parts import exact_products, unrounded
from haan.methods.ragged import Ragged, softmax_over_time
from haan.methods.refineloc.config import Model, RefineConfig
from haan.methods.videos import KEPT, LabelMethod
from haan.metrics import Detections
from haan.schedule import Column, Schedule, Shape

_AT_ONCE = 1 << 12  # clips of which probabilities are made at once
_IGNORED = -1  # the pseudo label of a clip without one; 0 is background, 1 foreground


def widths(dim: int, outputs: int, layers: int) -> list[int]:
    """Of a stack, what goes into it first: each layer is half as wide as the one before, but no less than outputs."""
    between = [dim]
    for _ in range(layers - 1):
        between.append(max(between[-1] // 2, outputs))
    return [*between, outputs]


def _stack(dim: int, outputs: int, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before, behind in pairwise(widths(dim, outputs, layers)):
        parts += [nn.Linear(before, behind), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


class RefineLoc(Network):
    """What a clip says of the classes, and whether it is to be attended to."""

    def __init__(self, config: Model, dim: int, num_fine: int, precision: Precision = "float32"):
        """precision: bfloat16 rounds the matrix products."""
        super().__init__()
        self._rounded = precision == "bfloat16"
        self.classifier = _stack(dim, num_fine, config.layers)
        self.attention = _stack(dim, config.attention_outputs, config.layers)

    def forward(
        self, clips: Float[Tensor, "clips d"]
    ) -> tuple[Float[Tensor, "clips fine"], Float[Tensor, " clips"], Float[Tensor, " clips"]]:
        """Logits of the classes; of attention; and what its softmax over time is of.

        The last is the logit, or with two outputs the probability: a softmax of a softmax, nearly uniform.
        """
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            logits, outputs = self.classifier(clips), self.attention(clips)
        logits, outputs = unrounded(logits), unrounded(outputs)
        if outputs.shape[1] == 1:
            return logits, outputs[:, 0], outputs[:, 0]
        logit = outputs[:, 1] - outputs[:, 0]
        return logits, logit, logit.sigmoid()

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips numbers"]:
        """Logits of the classes, the probability of attention, and what its softmax over time is of."""
        logits, logit, shared = self(clips)
        return torch.cat([logits, logit.sigmoid()[:, None], shared[:, None]], dim=1)


def video_loss(
    logits: Float[Tensor, "clips fine"],
    shared: Float[Tensor, " clips"],
    batch: Ragged,
    labels: Float[Tensor, "videos fine"],
) -> Float[Tensor, " videos"]:
    """Cross entropy of each clip, labels sharing the target equally, as a mean by attention; 0 without labels.

    shared: what attention is the softmax over time of.
    """
    target = labels / labels.sum(dim=1, keepdim=True).clamp_min(1)
    attention = softmax_over_time(shared[:, None], batch)[..., 0]
    return -(attention * (batch.pad(logits.log_softmax(dim=1)) * target[:, None]).sum(dim=2)).sum(dim=1)


def pseudo_loss(
    logit: Float[Tensor, " clips"], positive: Float[Tensor, " clips"], weight: Float[Tensor, " clips"]
) -> Float[Tensor, ""]:
    """Binary cross entropy of attention with pseudo labels, summed with the weights of `clip_weights`."""
    return (weight * F.binary_cross_entropy_with_logits(logit, positive, reduction="none")).sum()


def clip_weights(
    labels: NDArray[np.int8], offsets: IntArray, background: float, outputs: int, weighted: bool
) -> NDArray[np.float32]:
    """What each clip's part of its video's loss of pseudo labels is: a mean over those that have one.

    labels: [clips] pseudo labels. background: the share of clips that were labelled so. With one output the foreground
    weighs its root where classes are weighted, and the mean is over clips; with two it weighs that, the background the
    rest, and the mean is over weights.
    """
    low, high = (1.0, 1.0) if not weighted else (1.0, background**0.5) if outputs == 1 else (1 - background, background)
    weight = np.array([low, high, 0.0])[labels]
    of_clip = weight if outputs == 2 else (labels != _IGNORED).astype(np.float64)
    total = np.repeat(np.add.reduceat(of_clip, offsets[:-1]), np.diff(offsets))
    return np.divide(weight, total, out=np.zeros(len(weight)), where=total > 0).astype(np.float32)


def ignored(num_clips: IntArray, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """[clips] some of each video's clips by chance, floor(share x clips)."""
    video = np.repeat(np.arange(len(num_clips)), num_clips)
    order = np.lexsort([rng.random(len(video)), video])
    rank = np.arange(len(video)) - np.repeat(offsets_of(num_clips)[:-1], num_clips)
    many = np.floor(np.round(share * num_clips, 9)).astype(np.int64)  # 0.29 x 100 is 28.999999999999996
    found = np.zeros(len(video), dtype=bool)
    found[order] = rank < many[video]
    return found


def sequences(numbers: NDArray[np.float32], offsets: IntArray) -> masks.Sequences:
    """Probabilities of classes and of attention, and of each video the former's mean by attention."""
    sizes, scores, levels = np.diff(offsets), np.empty((len(numbers), numbers.shape[1] - 2), np.float32), []
    for first, last in runs(sizes, _AT_ONCE):
        here = slice(offsets[first], offsets[last])
        starts, size = offsets[first:last] - offsets[first], sizes[first:last]
        p = torch.from_numpy(numbers[here, :-2]).double().softmax(dim=1).numpy()
        shared = numbers[here, -1].astype(np.float64)
        attention = np.exp(shared - np.repeat(np.maximum.reduceat(shared, starts), size))
        attention /= np.repeat(np.add.reduceat(attention, starts), size)
        levels.append(np.add.reduceat(p * attention[:, None], starts, axis=0))
        scores[here] = p
    return masks.Sequences(scores, numbers[:, -2], np.concatenate(levels))


def detector(
    numbers: NDArray[np.float32], offsets: IntArray, clips_per_s: NDArray[np.float64], settings: Sequence[MaskDetect]
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """See haan.methods.base.Detector."""
    return masks.makers(sequences(numbers, offsets), offsets, clips_per_s, settings)


def curves(numbers: NDArray[np.float32], offsets: IntArray, setting: MaskDetect) -> Curves:
    """See haan.methods.base.Reading."""
    return masks.curves(sequences(numbers, offsets), setting)


class RefineMethod(LabelMethod):
    """RefineLoc on some videos."""

    section = "refine"
    losses = ("video", "pseudo", "total")
    detector = staticmethod(detector)
    curves = staticmethod(curves)

    def __init__(self, config: RefineConfig, known: Labelled, feed: Feed, device: torch.device):
        """Raises InputError when no training video has a label."""
        super().__init__(config, known, feed, device)
        self._feed, self._device, self._offsets = feed, device, offsets_of(known.num_clips)
        self._label(np.full(int(self._offsets[-1]), _IGNORED, dtype=np.int8), 1.0)

    @classmethod
    def build(cls, config: RefineConfig, dim: int, num_fine: int) -> RefineLoc:
        return RefineLoc(config.model, dim, num_fine, config.precision)

    @classmethod
    def outline(
        cls, config: RefineConfig, network: Network, num_clips: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        labels = torch.empty(num_clips, dtype=torch.int8, device="meta")
        return {}, _state(labels, torch.empty((), dtype=torch.float64, device="meta"))

    @classmethod
    def numbers(cls, config: RefineConfig, known: Labelled, largest: Shape) -> Numbers:
        """Of a clip in the stacks, laid out video by video for its classes, and two for its pseudo label."""
        fine, model, clips = known.fine.shape[1], config.model, int(known.num_clips.sum())
        of_clip = sum(sum(widths(known.dim, many, model.layers)[1:]) for many in (fine, model.attention_outputs))
        laid_out = config.optim.batch_videos * largest.longest * (fine + 1)
        return Numbers(
            step=KEPT * (largest.clips * of_clip + laid_out),
            rows=len(known.videos) * (fine + 1) + 2 * clips,
            block=BLOCK_CLIPS * 2 * of_clip,
            renew=2 * clips,
        )

    def renew(self, epoch: int) -> None:
        """New pseudo labels, from the second iteration on. Raises TrainingError when there is nothing to go by."""
        if epoch == 1:
            return
        parts = [masks.covered(found, offsets, self.setting) for found, offsets in self._found(epoch)]
        labels = np.concatenate(parts).astype(np.int8)
        background = float((labels == 0).mean())
        rng = np.random.default_rng(mix_seed(self.config.seed, epoch))
        labels[ignored(self.known.num_clips, self.setting.pseudo_dropout, rng)] = _IGNORED
        self._label(labels, background)

    def _found(self, epoch: int) -> Iterator[tuple[masks.Sequences, IntArray]]:
        """What the network says of the training videos, and first clips of each, block by block."""
        self.network.eval()
        blocks = self._feed.blocks(self.known.videos)
        for (first, last), clips in zip(runs(self.known.num_clips, BLOCK_CLIPS), blocks, strict=True):
            with torch.inference_mode():
                numbers = self.network.activations(clips).cpu().numpy()
            if not np.isfinite(numbers).all():
                reason = "the last step blew the weights up"
                raise TrainingError(f"what is said of training clips is not finite before epoch {epoch}: {reason}")
            offsets = offsets_of(self.known.num_clips[first:last])
            yield sequences(numbers, offsets), offsets

    def _label(self, labels: NDArray[np.int8], background: float) -> None:
        """Takes up pseudo labels; what steps need of them is put on the device now."""
        self._pseudo = _state(torch.from_numpy(labels), torch.tensor(background, dtype=torch.float64))
        outputs, weighted = self.config.model.attention_outputs, self.setting.weighted
        weight = clip_weights(labels, self._offsets, background, outputs, weighted)
        weight *= np.repeat(self.known.fine.any(axis=1), self.known.num_clips)
        self._positive, self._weight = (
            torch.from_numpy(values).to(self._device) for values in ((labels == 1).astype(np.float32), weight)
        )

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """With pseudo labels, and the weight of each clip's."""
        return super().columns(schedule) | {
            "positive": Column(self._positive[schedule.clip], of_clips=True),
            "weight": Column(self._weight[schedule.clip], of_clips=True),
        }

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
        num_clips, labels = rows["num_clips"], rows["labels"]
        batch = Ragged.of(num_clips, int(num_clips.max()) if shape is None else shape.longest)
        logits, logit, shared = self.network(clips)
        with exact_products():
            of_videos = video_loss(logits, shared, batch, labels).sum()
            losses = [of_videos, pseudo_loss(logit, rows["positive"], rows["weight"])]
            total = self.weighed(losses)
        return torch.stack([*losses, total]).detach(), total / labels.any(dim=1).sum().clamp_min(1)

    def weights(self) -> list[float]:
        return [1.0, self.setting.pseudo_weight]

    def state(self) -> dict[str, Tensor]:
        return self._pseudo

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        labels, background = (tensors[name] for name in self._pseudo)
        if len(labels) != self._offsets[-1]:
            raise ValueError(f"pseudo labels must be of {self._offsets[-1]} clips, got {len(labels)}")
        self._label(labels.numpy(), float(background))


def _state(labels: Tensor, background: Tensor) -> dict[str, Tensor]:
    return {"pseudo.labels": labels, "pseudo.background": background}
