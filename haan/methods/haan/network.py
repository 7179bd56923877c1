"""The four heads on clip features. No loss is computed here."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from haan.config import Precision
from haan.methods.base import Network
from haan.methods.haan.config import Model as ModelConfig
from haan.methods.parts import hidden_layer, unrounded


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


class HAAN(Network):
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
        precision: Precision = "float32",
    ):
        """precision: bfloat16 rounds the matrix products; what comes out of them is float32 again."""
        super().__init__()
        self._rounded = precision == "bfloat16"
        width, dropout = config.width, config.dropout
        self.encoder = nn.Sequential(*hidden_layer(dim, width, dropout), nn.Linear(width, width))
        self.classifier_hidden = hidden_layer(width, width, dropout) if config.classifier_layers == 2 else nn.Identity()
        self.classifier = nn.Linear(width, num_fine)
        self.concept_classifier = nn.Sequential(*hidden_layer(width, width, dropout), nn.Linear(width, num_clusters))
        self.coarse_classifier = nn.Sequential(*hidden_layer(width, width, dropout), nn.Linear(width, 1))

    def forward(self, clips: Float[Tensor, "clips d"]) -> ClipOutputs:
        """All heads but S', which reads coarse representations rather than clips."""
        with self._products(clips):
            encoded = self.encoder(clips)
            hidden = self.classifier_hidden(encoded)
            out = (encoded, hidden, self.classifier(hidden), self.concept_classifier(encoded))
        return ClipOutputs(*map(unrounded, out))

    def encode(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips width"]:
        """x of Eq. 1 alone, what is clustered."""
        with self._products(clips):
            return unrounded(self.encoder(clips))

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips fine"]:
        """The class activation sequence alone."""
        with self._products(clips):
            return unrounded(self.classifier(self.classifier_hidden(self.encoder(clips))))

    def coarse_logits(self, composed: Float[Tensor, "*videos coarse width"]) -> Float[Tensor, "*videos coarse"]:
        """S' of each coarse representation (Eq. 9)."""
        with self._products(composed):
            return unrounded(self.coarse_classifier(composed).squeeze(-1))

    def _products(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self._rounded)
