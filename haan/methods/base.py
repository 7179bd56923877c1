"""What a method is: everything that the training loop of haan.train asks of one, and nothing that it does itself.

The loop owns epochs, order, seeds, the optimiser, what is due, scoring and files. A method owns its network, the named
losses of a batch, what it learns between epochs, and the tensors that these need to go on.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from haan.config import Config
from haan.data.table import ClipTable, IntArray
from haan.feed import Feed
from haan.schedule import Column, Schedule, Shape


class Network(nn.Module, ABC):
    """What scores clips."""

    @abstractmethod
    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips classes"]:
        """The class activation sequence of clips, which may be of several videos."""


class Method(ABC):
    """One method in training, on one table and one device.

    losses: the names of what each step reports; the last is the total that is trained on. period: in epochs, from one
    `renew` to the next.
    """

    losses: ClassVar[tuple[str, ...]]
    period: int

    @abstractmethod
    def __init__(self, config: Config, table: ClipTable, videos: IntArray, feed: Feed, device: torch.device):
        """videos: those of the table that train. Raises InputError when they are too few for the configuration."""

    @classmethod
    @abstractmethod
    def build(cls, config: Config, dim: int, num_fine: int) -> Network:
        """The network of a configuration for clips [clips, dim], with fresh weights, on PyTorch's default device."""

    @classmethod
    @abstractmethod
    def outline(cls, config: Config, network: Network, num_clips: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The shapes of `kept` and `state` before any training, for a number of training clips: meta tensors."""

    @property
    @abstractmethod
    def network(self) -> Network:
        """What is trained."""

    @property
    def empty_clusters(self) -> int:
        """Of a method that clusters: how many of its clusters hold no training clip."""
        return 0

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether an epoch can be trained; a `renew` makes it so."""

    @abstractmethod
    def renew(self, epoch: int) -> None:
        """Learns between two epochs what the steps from `epoch` on need. Raises TrainingError when it can't."""

    @abstractmethod
    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """What the steps of an epoch need beside its clips, by name; the method must be ready."""

    @abstractmethod
    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, " losses"], Float[Tensor, ""]]:
        """The losses of one batch, summed over its videos, as `losses` names them, and once more their total.

        Only the latter has a gradient.
        rows: the batch's of each column. shape: what they are filled up to; what is computed must depend on it alone
        then, and no value be read back, so that a graph can repeat it. None: they are the batch's own.
        """

    @abstractmethod
    def counts(self) -> list[bool]:
        """Which of `losses` are trained on: those alone must stay finite."""

    @abstractmethod
    def kept(self) -> dict[str, Tensor]:
        """What a result holds beside the network's weights, by name; empty where nothing is needed."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds beside network and optimiser, by name; none of it is changed in place later."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up what `state` gave. Raises KeyError, TypeError or ValueError, before anything is taken up."""


def mix_seed(seed: int, epoch: int) -> int:
    """A seed below 2**31 that differs between epochs and runs."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
