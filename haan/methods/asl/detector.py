"""What ASL and its relatives say of clips -> detections, by the grid of haan.detectors.grid."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from haan.data.table import IntArray, runs
from haan.detectors import grid
from haan.detectors.curves import Curves
from haan.methods.asl.config import AslDetect
from haan.methods.base import Detector, Reading
from haan.methods.ragged import Ragged, num_top, select_top, selected_mean
from haan.methods.resampling import uniform
from haan.metrics import Detections

_AT_ONCE = 1 << 12  # clips among which evidence is selected at once


@dataclass(frozen=True)
class Said:
    """What a network said of clips: the classes' logits and shares (which sum to 1), and actionness, 0 to 1."""

    logits: Float[Tensor, "clips fine"]
    classes: Float[Tensor, "clips fine"]
    actionness: Float[Tensor, " clips"]

    def evidence(self, class_share: float) -> Float[Tensor, "clips fine"]:
        """How much of each class a clip shows: the class's own share, and actionness for all of them alike."""
        return class_share * self.classes + (1 - class_share) * self.actionness[:, None]


def select(evidence: Float[Tensor, "clips fine"], batch: Ragged, share: float) -> Bool[Tensor, "videos longest fine"]:
    """The clips of a video that show most of each class. No gradient."""
    return select_top(evidence, batch, num_top(batch.num_clips, share))


def detector_of(read: Callable[[Float[Tensor, "clips numbers"]], Said]) -> Detector:
    """A detector of what `read` finds in a network's numbers; see haan.methods.base.Detector."""

    def makers(
        numbers: NDArray[np.float32],
        offsets: IntArray,
        clips_per_s: NDArray[np.float64],
        settings: Sequence[AslDetect],
    ) -> Iterator[tuple[int, Callable[[], Detections]]]:
        def shared(one: AslDetect) -> tuple[float, float, int | None]:
            return one.top_clips, one.class_share, one.clips

        return grid.grouped(settings, shared, lambda key: sequences(read, numbers, offsets, *key), offsets, clips_per_s)

    return makers


def curves_of(read: Callable[[Float[Tensor, "clips numbers"]], Said]) -> Reading:
    """The same for what such a detector reads of clips."""

    def curves(numbers: NDArray[np.float32], offsets: IntArray, setting: AslDetect) -> Curves:
        found = sequences(read, numbers, offsets, setting.top_clips, setting.class_share, setting.clips)
        share = f"{setting.class_share:.2g} x the class's softmax and {1 - setting.class_share:.2g} x actionness"
        return grid.curves(found, setting, f"a clip's evidence of the class ({share})")

    return curves


def sequences(
    read: Callable[[Float[Tensor, "clips numbers"]], Said],
    numbers: NDArray[np.float32],
    offsets: IntArray,
    top_clips: float,
    class_share: float,
    clips: int | None,
) -> grid.Sequences:
    """The evidence of each clip, and of each video the softmax of what is pooled of the clips selected by it."""
    num_clips = np.diff(offsets)
    scores, probability = [], []
    for first, last in runs(num_clips if clips is None else np.full_like(num_clips, clips), _AT_ONCE):
        said, sizes = read(torch.from_numpy(numbers[offsets[first] : offsets[last]])), num_clips[first:last]
        batch = Ragged.of(torch.from_numpy(sizes), int(sizes.max()))
        if clips is not None:
            batch = batch.resampled(torch.from_numpy(uniform(sizes, clips)))
        evidence = said.evidence(class_share)
        pooled = selected_mean(said.logits, batch, select(evidence, batch, top_clips))
        scores.append(evidence.numpy())
        probability.append(pooled.double().softmax(dim=1).numpy())
    return grid.Sequences(np.concatenate(scores), np.concatenate(probability), clips=clips)
