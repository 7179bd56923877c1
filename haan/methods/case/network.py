"""CASE's network: of each stream class logits, actionness, and the nearness of a clip to each of some prototypes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from haan.config import Precision
from haan.methods.asl.config import Model
from haan.methods.asl.network import two_layers
from haan.methods.base import Network
from haan.methods.parts import unrounded

SCALE = 10.0  # of cosines as logits


class OfStream(NamedTuple):
    """What one stream says of clips."""

    logits: Float[Tensor, "clips fine"]
    actionness: Float[Tensor, " clips"]
    encoded: Float[Tensor, "clips width"]
    clusters: Float[Tensor, "clips clusters"]


class Stream(nn.Module):
    """One stream's heads. prototypes: [clusters, width], whose lengths don't count."""

    def __init__(self, dim: int, width: int, num_fine: int, clusters: int):
        super().__init__()
        self.classifier = two_layers(dim, width, num_fine)
        self.encoder = nn.Sequential(nn.Linear(dim, width), nn.ReLU())
        self.actionness = nn.Linear(width, 1)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(clusters, width)))

    def forward(self, clips: Float[Tensor, "clips d"]) -> OfStream:
        """Actionness as probabilities."""
        encoded = self.encoder(clips)
        actionness, logits = self.actionness(encoded).squeeze(1), self.classifier(clips)
        logits, actionness, encoded = map(unrounded, (logits, actionness, encoded))
        if self.training:  # as released: what is trained are vectors of length 1
            with torch.no_grad():
                self.prototypes.copy_(F.normalize(self.prototypes))
        prototypes = self.prototypes if self.training else F.normalize(self.prototypes)
        clusters = SCALE * F.normalize(encoded) @ prototypes.T
        return OfStream(logits, actionness.sigmoid(), encoded, unrounded(clusters))


class CASE(Network):
    """Streams, equal parts of a clip.

    foreground: [clusters, 2] the share of each cluster that is action, and the rest, as the last step found them.
    """

    foreground: Float[Tensor, "clusters 2"]

    def __init__(self, config: Model, clusters: int, dim: int, num_fine: int, precision: Precision = "float32"):
        """precision: bfloat16 rounds the matrix products; what comes out of them is float32 again."""
        super().__init__()
        self._rounded = precision == "bfloat16"
        self._part = dim // config.streams
        self.streams = nn.ModuleList(
            Stream(self._part, config.width, num_fine, clusters) for _ in range(config.streams)
        )
        self.register_buffer("foreground", torch.full((clusters, 2), 0.5))

    def forward(self, clips: Float[Tensor, "clips d"]) -> list[OfStream]:
        """Of each stream."""
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            parts = clips.split(self._part, dim=1)
            return [stream(part) for stream, part in zip(self.streams, parts, strict=True)]

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips numbers"]:
        """Means over the streams: the classes' logits, their softmax, and last actionness.

        That is the head's and the foreground share of the clip's clusters, in equal parts.
        """
        said = self(clips)
        logits = torch.stack([one.logits for one in said])
        shares = [one.clusters.softmax(dim=1) @ self.foreground[:, 0] for one in said]
        actionness = torch.stack([*(one.actionness for one in said), *shares]).mean(dim=0)
        return torch.cat([logits.mean(dim=0), logits.softmax(dim=2).mean(dim=0), actionness[:, None]], dim=1)
