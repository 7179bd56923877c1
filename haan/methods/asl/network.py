"""ASL's network: class logits and actionness of each clip by itself."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from haan.config import Precision
from haan.methods.asl.config import Model
from haan.methods.base import Network
from haan.methods.parts import unrounded


class ASL(Network):
    """A classifier over whole clips, and over each stream of a clip, an equal part of it, a head of actionness."""

    def __init__(self, config: Model, dim: int, num_fine: int, precision: Precision = "float32"):
        """precision: bfloat16 rounds the matrix products; what comes out of them is float32 again."""
        super().__init__()
        self._rounded = precision == "bfloat16"
        self._part = dim // config.streams
        self.classifier = two_layers(dim, config.width, num_fine)
        self.actionness = nn.ModuleList(two_layers(self._part, config.width, 1) for _ in range(config.streams))

    def forward(self, clips: Float[Tensor, "clips d"]) -> tuple[Float[Tensor, "clips fine"], Float[Tensor, "clips s"]]:
        """Logits of the classes, and of each stream's actionness."""
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            parts = clips.split(self._part, dim=1)
            actionness = [head(part) for head, part in zip(self.actionness, parts, strict=True)]
            logits = self.classifier(clips)
        return unrounded(logits), unrounded(torch.cat(actionness, dim=1))

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips numbers"]:
        """The logits of the classes, and last the mean actionness of the streams."""
        logits, actionness = self(clips)
        return torch.cat([logits, actionness.sigmoid().mean(dim=1, keepdim=True)], dim=1)


def two_layers(width_in: int, width: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), nn.Linear(width, width_out))
