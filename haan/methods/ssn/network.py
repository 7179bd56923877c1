"""SSN's network: which clips are of an action, and of proposals which class they show, and how much of an action."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from haan.config import Precision
from haan.data.table import IntArray, offsets_of, runs
from haan.methods.base import Network
from haan.methods.parts import Dropout, exact_products, hidden_layer, unrounded
from haan.methods.ragged import Ragged
from haan.methods.ssn import watershed
from haan.methods.ssn.config import Model, Ssn
from haan.methods.ssn.losses import moved

_EPS = 1e-7  # of a mean of probabilities, whose logit is finite
_SPREAD = 1e-3  # of fresh weights of the classifiers
_MOST_CLASSES = 20  # of a proposal, its best ones, that may be detections
AT_ONCE = 16  # videos whose proposals are told of at once
OF_PROPOSAL, OF_CLASS = 4, 4  # numbers that detection reads


class Said(NamedTuple):
    """What the network says of proposals.

    activity: logits of the classes and, as the last, of background. offsets: as losses.offsets_to, in units of
    SSN.mean and SSN.std.
    """

    activity: Float[Tensor, "videos slots classes"]
    completeness: Float[Tensor, "videos slots fine"]
    offsets: Float[Tensor, "videos slots fine 2"]


class SSN(Network):
    """A pyramid of three stages over the clips' hidden layer: a proposal, and half its length before and behind it."""

    mean: Float[Tensor, "2"]
    std: Float[Tensor, "2"]

    def __init__(self, config: Model, ssn: Ssn, dim: int, num_fine: int, precision: Precision = "float32"):
        """precision: bfloat16 rounds the matrix products; what comes out of them is float32 again."""
        super().__init__()
        self._rounded, self._ssn, width, folds = precision == "bfloat16", ssn, config.width, ssn.folds
        self.base = nn.Sequential(nn.Linear(dim, width), nn.ReLU())
        # A network a fold: the second layer's groups are theirs.
        self.action = nn.Sequential(
            hidden_layer(dim, folds * ssn.actionness_width, config.dropout),
            nn.Unflatten(1, (-1, 1)),
            nn.Conv1d(folds * ssn.actionness_width, folds, 1, groups=folds),
            nn.Flatten(1),
        )
        self.dropout = Dropout(config.dropout)
        self.activity = nn.Linear(width, num_fine + 1)
        self.completeness = nn.Linear(3 * width, num_fine)
        self.regression = nn.Linear(3 * width, 2 * num_fine)
        for layer in (self.activity, self.completeness, self.regression):
            nn.init.normal_(layer.weight, std=_SPREAD)
            nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("std", torch.ones(2))

    def actionness(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips folds"]:
        """Logits of each fold's network."""
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            return unrounded(self.action(clips))

    def forward(
        self, clips: Float[Tensor, "clips d"], batch: Ragged, segments: Float[Tensor, "videos slots 2"]
    ) -> Said:
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            base = self.base(clips)
        with exact_products():
            stages = pyramid(batch.pad(unrounded(base)), segments)
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._rounded):
            stages = self.dropout(stages)
            whole = stages.flatten(2)
            said = self.activity(stages[:, :, 1]), self.completeness(whole), self.regression(whole)
        activity, completeness, offsets = map(unrounded, said)
        return Said(activity, completeness, offsets.unflatten(2, (-1, 2)))

    def rows(self, num_clips: IntArray) -> IntArray:
        """One a proposal that a video may have."""
        return watershed.most(num_clips, self._ssn)

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "proposals numbers"]:
        """Of one video; see `of_videos`."""
        return self.of_videos(clips, np.array([len(clips)]))

    def of_videos(self, clips: Float[Tensor, "clips d"], num_clips: IntArray) -> Float[Tensor, "proposals numbers"]:
        """Of a proposal: 1 in its video's first row, else 0; its ends; the probability that it is not background; and
        of its best classes each the number, the score but for background, and where it ends then.

        Rows behind a video's last proposal are 0, but for the 1 of a video without any. Ends are in clips.
        """
        logit = self.actionness(clips).sigmoid().mean(dim=1).logit(_EPS)
        found = watershed.proposed(logit.detach().cpu().double().numpy(), num_clips, self._ssn)
        offsets, counts = offsets_of(num_clips), np.bincount(found.video, minlength=len(num_clips))
        rows, before = self.rows(num_clips), offsets_of(counts)
        parts = []
        for first, last in runs(np.ones(len(num_clips), dtype=np.int64), AT_ONCE):
            of, sizes = slice(before[first], before[last]), num_clips[first:last]
            segments = np.zeros((last - first, int(rows[first:last].max()), 2), dtype=np.float32)
            place = np.arange(before[first], before[last]) - before[found.video[of]]
            segments[found.video[of] - first, place] = np.stack([found.start[of], found.end[of]], axis=1)
            number = torch.from_numpy(counts[first:last]).to(clips.device)
            some = clips[offsets[first] : offsets[last]]
            said = self._numbers(some, sizes, torch.from_numpy(segments).to(clips.device), number)
            there = torch.arange(said.shape[1])[None] < torch.from_numpy(rows[first:last])[:, None]
            parts.append(said[there.to(said.device)])
        return torch.cat(parts)

    def _numbers(
        self,
        clips: Float[Tensor, "clips d"],
        sizes: IntArray,
        segments: Float[Tensor, "videos slots 2"],
        number: Int[Tensor, " videos"],
    ) -> Float[Tensor, "videos slots numbers"]:
        """number: of each video's proposals, which come first."""
        batch = Ragged.of(torch.from_numpy(sizes).to(clips.device), int(sizes.max()))
        said = self(clips, batch, segments)
        log_p, classes = said.activity.log_softmax(dim=2), said.completeness.shape[2]
        score = (log_p[..., :classes].softmax(dim=2).log() + said.completeness).exp()
        score, label = score.topk(min(_MOST_CLASSES, classes), dim=2)
        centre, length = (
            offset.gather(2, label) * self.std[part] + self.mean[part]
            for part, offset in enumerate(said.offsets.unbind(dim=3))
        )
        ends = moved(segments[:, :, None], centre, length).clamp_min(0)
        ends = torch.minimum(ends, batch.num_clips[:, None, None, None].to(ends.dtype))
        of_classes = torch.cat([label[..., None].to(ends.dtype), score[..., None], ends], dim=3).flatten(2)
        place = torch.arange(segments.shape[1], device=clips.device)
        first = (place == 0).to(ends.dtype).expand(len(number), -1)[..., None]
        no_background = 1 - log_p[..., classes:].exp()
        of_proposals = torch.cat([segments, no_background, of_classes], dim=2) * (place < number[:, None])[..., None]
        return torch.cat([first, of_proposals], dim=2)


def numbers_of(num_fine: int) -> int:
    """How many numbers detection reads of a proposal."""
    return OF_PROPOSAL + OF_CLASS * min(_MOST_CLASSES, num_fine)


def pyramid(
    base: Float[Tensor, "videos longest width"], segments: Float[Tensor, "videos slots 2"]
) -> Float[Tensor, "videos slots 3 width"]:
    """Mean over a segment, and over what of its video is within half its length before it, and behind it.

    Clips count by the part that lies inside. The latter two are times what part of that half there is. Of an empty
    segment 0.
    """
    start, end = segments.unbind(dim=2)
    half = (end - start) / 2
    low = torch.stack([start - half, start, end], dim=2)[..., None]
    high = torch.stack([start, end, end + half], dim=2)[..., None]
    clip = torch.arange(base.shape[1], device=base.device)
    # What lies outside of a video adds 0, and divides: that is the part that there is.
    inside = (torch.minimum(high, clip + 1) - torch.maximum(low, clip)).clamp_min(0)
    weight = inside / torch.where(high > low, high - low, 1)
    return (weight.flatten(1, 2) @ base).unflatten(1, (-1, 3))
