"""ASL, weakly supervised action selection learning (Ma et al., CVPR 2021), between its network and the training loop.

The clips of most evidence for a class are selected, by what they show of the class and by how much they look like an
action at all; their mean logits classify the video, and that they were selected for one of its labels is what
actionness learns, by a loss that bears wrong targets.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from haan.data.table import IntArray, runs
from haan.detectors import grid
from haan.errors import InputError
from haan.feed import BLOCK_CLIPS, Feed
from haan.methods.asl.config import Asl, AslConfig, AslDetect
from haan.methods.asl.network import ASL
from haan.methods.base import Labelled, Method, Numbers
from haan.methods.ragged import Ragged, cross_entropy, generalised_cross_entropy, num_top, select_top, selected_mean
from haan.methods.resampling import stratified, uniform
from haan.metrics import Detections
from haan.schedule import Column, Schedule, Shape

_KEPT = 6  # numbers a clip and unit of a hidden layer: product, relu, and gradients of both
_AT_ONCE = 1 << 12  # clips of which evidence is selected at once


def evidence(
    logits: Float[Tensor, "clips fine"], actionness: Float[Tensor, " clips"], class_share: float
) -> Float[Tensor, "clips fine"]:
    """How much of each class a clip shows: its softmax over classes, and its mean actionness for all of them alike."""
    return class_share * logits.softmax(dim=1) + (1 - class_share) * actionness[:, None]


@dataclass(frozen=True)
class Selected:
    """chosen: [videos, longest, fine] the clips of each class. logits: [videos, fine] their mean."""

    chosen: Bool[Tensor, "videos longest fine"]
    logits: Float[Tensor, "videos fine"]


def select(
    logits: Float[Tensor, "clips fine"], shown: Float[Tensor, "clips fine"], batch: Ragged, share: float
) -> Selected:
    """Selects by `evidence`, which gets no gradient, and pools the logits themselves."""
    chosen = select_top(shown, batch, num_top(batch.num_clips, share))
    return Selected(chosen, selected_mean(logits, batch, chosen))


def video_losses(
    logits: Float[Tensor, "clips fine"],
    actionness: Float[Tensor, "clips streams"],
    labels: Float[Tensor, "videos fine"],
    batch: Ragged,
    setting: Asl,
) -> Float[Tensor, "2 videos"]:
    """Of each video's classes, and of the actionness of all streams; 0 for a video without labels.

    actionness: probabilities.
    """
    found = select(logits, evidence(logits, actionness.mean(dim=1), setting.class_share), batch, setting.pool_share)
    positive = (found.chosen & labels.bool()[:, None]).any(dim=2)
    of_streams = [generalised_cross_entropy(p, positive, batch, setting.q) for p in actionness.unbind(dim=1)]
    losses = torch.stack([cross_entropy(found.logits, labels), torch.stack(of_streams).sum(dim=0)])
    return losses * labels.any(dim=1)


def detector(
    numbers: Float[NDArray, "clips numbers"],
    offsets: IntArray,
    clips_per_s: NDArray[np.float64],
    settings: Sequence[AslDetect],
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """`haan.detectors.grid` of the evidence and of the probabilities of the classes; see haan.methods.base.Detector."""
    passes: dict[tuple[float, float, int | None], list[int]] = {}
    for place, one in enumerate(settings):
        passes.setdefault((one.top_clips, one.class_share, one.clips), []).append(place)
    for shared, places in passes.items():
        found = sequences(numbers, offsets, *shared)
        for number, make in grid.makers(found, offsets, clips_per_s, [settings[place] for place in places]):
            yield places[number], make


def sequences(
    numbers: Float[NDArray, "clips numbers"], offsets: IntArray, top_clips: float, class_share: float, clips: int | None
) -> grid.Sequences:
    """What the network said of some videos as their detector reads it."""
    scores = np.empty((len(numbers), numbers.shape[1] - 1), dtype=np.float32)
    probability = np.empty((len(offsets) - 1, scores.shape[1]))
    num_clips = np.diff(offsets)
    for first, last in runs(num_clips if clips is None else np.full_like(num_clips, clips), _AT_ONCE):
        here = slice(offsets[first], offsets[last])
        said, sizes = torch.from_numpy(numbers[here]), num_clips[first:last]
        logits = said[:, :-1]
        shown = evidence(logits, said[:, -1], class_share)
        batch = Ragged.of(torch.from_numpy(sizes), int(sizes.max()))
        if clips is not None:
            batch = batch.resampled(torch.from_numpy(uniform(sizes, clips)))
        scores[here] = shown
        probability[first:last] = select(logits, shown, batch, top_clips).logits.double().softmax(dim=1)
    return grid.Sequences(scores, probability)


class AslMethod(Method):
    """ASL on some videos."""

    losses = ("video", "actionness", "total")
    detector = staticmethod(detector)

    def __init__(self, config: AslConfig, known: Labelled, feed: Feed, device: torch.device):
        """Raises InputError when clips can't be parted into the streams."""
        super().__init__(config, known, feed, device)
        self.check(config, known)
        self._network = self.build(config, known.dim, known.fine.shape[1]).to(device)
        self._labels = torch.from_numpy(known.fine.astype(np.float32)).to(device)

    @classmethod
    def check(cls, config: AslConfig, known: Labelled) -> None:
        if known.dim % config.model.streams:
            rule = "model.streams: must divide the size of a clip"
            raise InputError(f"{rule}, got {config.model.streams} streams and clips of {known.dim} numbers")

    @classmethod
    def build(cls, config: AslConfig, dim: int, num_fine: int) -> ASL:
        return ASL(config.model, dim, num_fine, config.precision)

    @classmethod
    def numbers(cls, config: AslConfig, known: Labelled, largest: Shape) -> Numbers:
        fine, width, videos = known.fine.shape[1], config.model.width, config.optim.batch_videos
        units = (1 + config.model.streams) * width
        laid_out = videos * (config.asl.clips or largest.longest) * (_KEPT * fine + _KEPT)
        return Numbers(
            step=largest.clips * (_KEPT * units + _KEPT * fine) + laid_out,
            rows=len(known.videos) * (fine + 1 + (config.asl.clips or 0)),
            block=BLOCK_CLIPS * (2 * units + 2 * fine),
        )

    @property
    def network(self) -> ASL:
        return self._network

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Labels and the number of clips of each video; the places of those that it is resampled to."""
        columns = {
            "labels": Column(self._labels[schedule.index], of_clips=False),
            "num_clips": Column(schedule.on_device(schedule.num_clips.astype(np.int32)), of_clips=False),
        }
        if self.config.asl.clips is not None:
            rng = np.random.default_rng(torch.randint(2**31, ()).item())  # which the loop has seeded for the epoch
            drawn = stratified(schedule.num_clips, self.config.asl.clips, rng).astype(np.int32)
            columns["clip"] = Column(schedule.on_device(drawn), of_clips=False)
        return columns

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
        num_clips, labels = rows["num_clips"], rows["labels"]
        batch = Ragged.of(num_clips, int(num_clips.max()) if shape is None else shape.longest)
        if "clip" in rows:
            batch = batch.resampled(rows["clip"])
        logits, actionness = self.network(clips)
        losses = video_losses(logits, actionness.sigmoid(), labels, batch, self.config.asl).sum(dim=1)
        total = losses.sum()
        values = torch.cat([losses, total[None]]).detach()
        return values, total / labels.any(dim=1).sum().clamp_min(1)
