"""The four heads on clip features. No loss is computed here."""

from dataclasses import dataclass

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


def _hidden(width_in: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), nn.Dropout(dropout))


class HAAN(nn.Module):
    """Encoder E, MIL classifier S, concept classifier F and coarse classifier S' (Sec. 3; sizes of the released code).

    The visual concepts are pooled from the feature that S's last layer reads, so that they live in the same space as
    the rows of its weight `w`: S's hidden layer, or x itself when `classifier_layers` is 1 as in the paper's text.
    """

    def __init__(self, config: ModelConfig, dim: int, num_fine: int, num_clusters: int):
        super().__init__()
        width, dropout = config.width, config.dropout
        self.encoder = nn.Sequential(*_hidden(dim, width, dropout), nn.Linear(width, width))
        self.classifier_hidden = _hidden(width, width, dropout) if config.classifier_layers == 2 else nn.Identity()
        self.classifier = nn.Linear(width, num_fine)
        self.concept_classifier = nn.Sequential(*_hidden(width, width, dropout), nn.Linear(width, num_clusters))
        self.coarse_classifier = nn.Sequential(*_hidden(width, width, dropout), nn.Linear(width, 1))

    def forward(self, clips: Float[Tensor, "clips d"]) -> ClipOutputs:
        """All heads but S', which reads coarse representations rather than clips."""
        encoded = self.encoder(clips)
        hidden = self.classifier_hidden(encoded)
        return ClipOutputs(encoded, hidden, self.classifier(hidden), self.concept_classifier(encoded))

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips fine"]:
        """The class activation sequence alone."""
        return self.classifier(self.classifier_hidden(self.encoder(clips)))
