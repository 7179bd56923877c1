"""The four heads on clip features. No loss is computed here."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from haan.config import Model as ModelConfig


@dataclass(frozen=True)
class ClipOutputs:
    """What the network says of each clip.

    encoded: [clips, width] x of Eq. 1, what is clustered. hidden: [clips, width] the feature the concepts are pooled
    from. cas: [clips, fine] class activation sequence, logits. cluster_logits: [clips, clusters].
    """

    encoded: Float[Tensor, "clips width"]
    hidden: Float[Tensor, "clips width"]
    cas: Float[Tensor, "clips fine"]
    cluster_logits: Float[Tensor, "clips clusters"]


class Dropout(nn.Module):
    """Makes each number zero with probability `share` and scales the others up, in training alone.

    On a CPU, where PyTorch's own takes a tenth of a training step, 16 random bits decide on a number; so the
    probability is rounded to a multiple of 2**-16 below 1, and the scale, in the numbers' own type, is that one's.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share
        self._cut = min(round(share * 2**16), 2**16 - 1)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draws from PyTorch's generator."""
        if not self.training or self.share == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.share)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= self._cut - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - self._cut))


def _full(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What rounded products give, as float32."""
    return x.float() if x.dtype == torch.bfloat16 else x


def _hidden(width_in: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), Dropout(dropout))


class HAAN(nn.Module):
    """Encoder E, MIL classifier S, concept classifier F and coarse classifier S' (Sec. 3; sizes of the released code).

    The visual concepts are pooled from the feature that S's last layer reads, so that they live in the same space as
    the rows of its weight `w`: S's hidden layer, or x itself when `classifier_layers` is 1 as in the paper's text.
    """

    def __init__(
        self,
        config: ModelConfig,
        dim: int,
        num_fine: int,
        num_clusters: int,
        precision: Literal["float32", "bfloat16"] = "float32",
    ):
        """precision: of the matrix products. What comes out of rounded ones is float32 again."""
        super().__init__()
        self._rounded = precision == "bfloat16"
        width, dropout = config.width, config.dropout
        self.encoder = nn.Sequential(*_hidden(dim, width, dropout), nn.Linear(width, width))
        self.classifier_hidden = _hidden(width, width, dropout) if config.classifier_layers == 2 else nn.Identity()
        self.classifier = nn.Linear(width, num_fine)
        self.concept_classifier = nn.Sequential(*_hidden(width, width, dropout), nn.Linear(width, num_clusters))
        self.coarse_classifier = nn.Sequential(*_hidden(width, width, dropout), nn.Linear(width, 1))

    def forward(self, clips: Float[Tensor, "clips d"]) -> ClipOutputs:
        """All heads but S', which reads coarse representations rather than clips."""
        with self._products(clips):
            encoded = self.encoder(clips)
            hidden = self.classifier_hidden(encoded)
            out = (encoded, hidden, self.classifier(hidden), self.concept_classifier(encoded))
        return ClipOutputs(*map(_full, out))

    def encode(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips width"]:
        """x of Eq. 1 alone, what is clustered."""
        with self._products(clips):
            return _full(self.encoder(clips))

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips fine"]:
        """The class activation sequence alone."""
        with self._products(clips):
            return _full(self.classifier(self.classifier_hidden(self.encoder(clips))))

    def coarse_logits(self, composed: Float[Tensor, "*videos coarse width"]) -> Float[Tensor, "*videos coarse"]:
        """S' of each coarse representation (Eq. 9)."""
        with self._products(composed):
            return _full(self.coarse_classifier(composed).squeeze(-1))

    def _products(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self._rounded)
