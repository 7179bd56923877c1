"""What a method is: everything that the training loop of haan.train asks of one, and nothing that it does itself.

The loop owns epochs, seeds, the optimiser, what is due, scoring and files. A method owns its network, which videos make
a batch, the named losses of one, what it learns between epochs, what its detector reads, and the tensors that these
need to go on. What it is called, its settings and all that is known of it without PyTorch is in its configuration
(haan.config.Config).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from haan.data.table import Annotations, IntArray, truth
from haan.detectors import nms
from haan.detectors.curves import Curves
from haan.feed import Feed
from haan.metrics import Detections, Segments
from haan.schedule import Column, Schedule, Shape

# Of what a network said of videos [rows, numbers], offsets [videos + 1], clips per second [videos] and detection
# settings: what makes the detections at each of these, with its place among them. Several threads may do so at once.
Detector = Callable[
    [NDArray[np.float32], IntArray, NDArray[np.float64], Sequence[Any]],
    Iterator[tuple[int, Callable[[], Detections]]],
]

# Of what a network said, offsets and one setting: what the detector reads of clips.
Reading = Callable[[NDArray[np.float32], IntArray, Any], Curves]


class Network(nn.Module, ABC):
    """What scores clips."""

    @abstractmethod
    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips numbers"]:
        """What the method's detector reads of clips, which may be of several videos: most often a score a class."""

    def of_videos(self, clips: Float[Tensor, "clips d"], num_clips: IntArray) -> Float[Tensor, "rows numbers"]:
        """The same of whole videos of so many clips, one after the other: for a network that looks at neighbours."""
        return self.activations(clips)

    def rows(self, num_clips: IntArray) -> IntArray:
        """How many rows `of_videos` has of each video: one a clip, but where what is scored aren't clips."""
        return num_clips


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """All that a weakly supervised method is told of the videos it learns from: no segments are among it.

    videos: their rows in the table. names: of each. num_clips, clips_per_s: [videos] of each. dim: of a clip. fine,
    coarse: [videos, classes] the video-level labels. fine_names: one a class. coarse_of_fine: [fine] the class
    hierarchy.
    """

    videos: IntArray
    names: tuple[str, ...]
    num_clips: IntArray
    clips_per_s: NDArray[np.float64]
    dim: int
    fine: Bool[NDArray, "videos fine"]
    coarse: Bool[NDArray, "videos coarse"]
    fine_names: tuple[str, ...]
    coarse_of_fine: IntArray

    @classmethod
    def of(cls, annotations: Annotations, videos: IntArray, num_clips: IntArray, dim: int) -> "Labelled":
        """num_clips: of all videos of the annotations."""
        return cls(
            videos=videos,
            names=tuple(annotations.names[video] for video in videos.tolist()),
            num_clips=num_clips[videos],
            clips_per_s=annotations.clips_per_s[videos],
            dim=dim,
            fine=annotations.fine_labels[videos],
            coarse=annotations.coarse_labels[videos],
            fine_names=annotations.fine_names,
            coarse_of_fine=annotations.coarse_of_fine,
        )


@dataclass(frozen=True, kw_only=True)
class Segmented(Labelled):
    """What a fully supervised method is told: where the classes are as well.

    segments: `video` counts from 0 in the order of `videos`, and ascends.
    """

    segments: Segments


def laid_out(video: IntArray, values: Float[NDArray, "entries n"], videos: int) -> Float[NDArray, "videos most n"]:
    """Entries of each video in float32, zeros behind its last. video: of each entry, counts from 0 and ascends."""
    place = nms.ranks(video)
    found = np.zeros((videos, int(place.max()) + 1, values.shape[1]), dtype=np.float32)
    found[video, place] = values
    return found


def told(supervision: str, annotations: Annotations, videos: IntArray, num_clips: IntArray, dim: int) -> Labelled:
    """What a method of `weak` or `full` supervision is told. num_clips: of all videos of the annotations."""
    labelled = Labelled.of(annotations, videos, num_clips, dim)
    if supervision == "weak":
        return labelled
    known = {field.name: getattr(labelled, field.name) for field in fields(labelled)}
    return Segmented(**known, segments=truth(annotations, videos))


@dataclass(frozen=True)
class Numbers:
    """How many numbers of four bytes each a training holds on a GPU beside its weights, an estimate from above.

    step: of the largest batch. rows: of an epoch's columns. block: of a block of clips. renew: between two epochs.
    """

    step: int
    rows: int
    block: int
    renew: int = 0


class Method(ABC):
    """One method in training, on some videos and one device.

    losses: the names of what each step reports; the last is the total that is trained on. detector: reads what the
    network says. curves: what it reads of clips, to be looked at; None where it reads nothing of them. repeats: whether
    a batch may hold a video more than once. repeatable: whether a graph can repeat a step; one that can't is taken
    kernel by kernel on a GPU, and may read values back.
    """

    losses: ClassVar[tuple[str, ...]]
    detector: ClassVar[Detector]
    curves: ClassVar[Reading | None] = None
    repeats: ClassVar[bool] = False
    repeatable: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, config: Any, known: Labelled, feed: Feed, device: torch.device):
        """config: of the method's own class. Raises InputError when there are too few videos for it."""
        self.config, self.known = config, known

    @classmethod
    @abstractmethod
    def check(cls, config: Any, known: Labelled) -> None:
        """Raises InputError when there are too few videos for a configuration."""

    @classmethod
    @abstractmethod
    def build(cls, config: Any, dim: int, num_fine: int) -> Network:
        """The network of a configuration for clips [clips, dim], with fresh weights, on PyTorch's default device."""

    @classmethod
    def outline(cls, config: Any, network: Network, num_clips: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The shapes of `kept` and `state` before any training, for a number of training clips: meta tensors."""
        return {}, {}

    @classmethod
    @abstractmethod
    def numbers(cls, config: Any, known: Labelled, largest: Shape) -> Numbers:
        """What a training holds on a GPU. largest: the shape that holds any batch."""

    @property
    @abstractmethod
    def network(self) -> Network:
        """What is trained."""

    @property
    def empty_clusters(self) -> int:
        """Of a method that clusters: how many of its clusters hold no training clip."""
        return 0

    @property
    def is_ready(self) -> bool:
        """Whether an epoch can be trained; a `renew` makes it so."""
        return True

    def renew(self, epoch: int) -> None:  # noqa: B027  # most methods have nothing to renew
        """Learns between two epochs what the steps from `epoch` on need. Raises TrainingError when it can't."""

    def order(self, epoch: int) -> IntArray:
        """The videos of an epoch, batch by batch, by their places among those of training; from (seed, epoch) alone."""
        return np.random.default_rng(mix_seed(self.config.seed, epoch)).permutation(len(self.known.videos))

    @abstractmethod
    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """What the steps of an epoch need beside its clips, by name; the method must be ready."""

    @abstractmethod
    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, " losses"], Float[Tensor, ""]]:
        """The losses of one batch, summed over its videos, as `losses` names them; and what is differentiated.

        Only the latter has a gradient.
        rows: the batch's of each column. shape: what they are filled up to; what is computed must depend on it alone
        then, and, where the method is `repeatable`, no value be read back. None: they are the batch's own.
        """

    def weights(self) -> list[float]:
        """Of the losses before the total; 0 takes even an infinite one out."""
        return [1.0] * (len(self.losses) - 1)

    def counts(self) -> list[bool]:
        """Which of `losses` are trained on: those alone must stay finite."""
        return [weight > 0 for weight in self.weights()] + [True]

    def weighed(self, losses: Sequence[Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """The total of the losses before it."""
        total = sum(weight * loss for weight, loss in zip(self.weights(), losses, strict=True) if weight > 0)
        assert isinstance(total, Tensor)  # not all weights are 0
        return total

    def kept(self) -> dict[str, Tensor]:
        """What a result holds beside the network's weights, by name; empty where nothing is needed."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds beside network and optimiser, by name; none of it is changed in place later."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027  # most methods have no state
        """Takes up what `state` gave. Raises KeyError, TypeError or ValueError, before anything is taken up."""


def mix_seed(seed: int, epoch: int) -> int:
    """A seed below 2**31 that differs between epochs and runs."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
