"""SSN, structured segment networks (Zhao et al., ICCV 2017), between its network and the training loop.

Actionness of clips makes proposals, before each epoch anew. Of a proposal the network learns which class it shows, from
the proposal alone, and whether it is a whole action and where that ends, from what is around it as well.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from haan.data.table import offsets_of, runs
from haan.errors import InputError, TrainingError
from haan.feed import BLOCK_CLIPS, Feed
from haan.methods.base import Labelled, Method, Numbers, Segmented, mix_seed
from haan.methods.parts import exact_products
from haan.methods.ragged import Ragged
from haan.methods.ssn import watershed
from haan.methods.ssn.config import SsnConfig
from haan.methods.ssn.detector import makers
from haan.methods.ssn.losses import (
    EACH,
    FOREGROUND,
    Actions,
    activity_loss,
    candidates,
    completeness_loss,
    drawn,
    offsets_to,
    regression_loss,
)
from haan.methods.ssn.network import AT_ONCE, SSN, Said, numbers_of
from haan.methods.ssn.watershed import Proposed
from haan.methods.videos import drawing
from haan.schedule import Column, Schedule, Shape

_KEPT = 4  # of each layer: product, relu, and gradients of both
_NONE = -1  # the label of a slot without a proposal
_LEAST = 1e-3  # of the spread of offsets


class SsnMethod(Method):
    """SSN on some videos."""

    losses = ("actionness", "activity", "completeness", "regression", "total")
    detector = staticmethod(makers)

    def __init__(self, config: SsnConfig, known: Labelled, feed: Feed, device: torch.device):
        super().__init__(config, known, feed, device)
        self.check(config, known)
        self._network = self.build(config, known.dim, known.fine.shape[1]).to(device)
        self._feed, self._device, self._actions = feed, device, actions(known)
        self._covered = torch.from_numpy(covered(self._actions, known.num_clips)).to(device)
        self._fold = torch.arange(len(known.videos), dtype=torch.int32, device=device) % config.ssn.folds
        self._candidates = None

    @classmethod
    def check(cls, config: SsnConfig, known: Labelled) -> None:
        """Raises InputError when no training video has a segment, or a fold would have none."""
        if not len(actions(known).video):
            raise InputError("data: training videos must have segments, got none")
        if config.ssn.folds > len(known.videos):
            raise InputError(f"ssn.folds: must be <= the {len(known.videos)} training videos, got {config.ssn.folds}")

    @classmethod
    def build(cls, config: SsnConfig, dim: int, num_fine: int) -> SSN:
        return SSN(config.model, config.ssn, dim, num_fine, config.precision)

    @classmethod
    def numbers(cls, config: SsnConfig, known: Labelled, largest: Shape) -> Numbers:
        """Of a batch: clips in both hidden layers, proposals in the pyramid and the classifiers."""
        ssn, width, fine = config.ssn, config.model.width, known.fine.shape[1]
        of_clip = width + ssn.folds * (ssn.actionness_width + 1)
        of_proposal = 6 * width + 4 * fine

        def of_videos(videos: int, slots: int, clips: int, longest: int) -> int:
            return clips * of_clip + videos * (longest * width + slots * (of_proposal + 9 * longest))

        slots, videos = ssn.draws * sum(EACH), config.optim.batch_videos
        longest = int(known.num_clips.max())
        most = int(watershed.most(np.array([longest]), ssn)[0])
        return Numbers(
            step=_KEPT * of_videos(videos, slots, largest.clips, largest.longest),
            rows=len(known.videos) * (5 * slots + 2) + int(known.num_clips.sum()),
            block=2 * of_videos(AT_ONCE, most, BLOCK_CLIPS, longest) + BLOCK_CLIPS * most * numbers_of(fine),
            renew=BLOCK_CLIPS * 3 * ssn.folds * ssn.actionness_width,
        )

    @property
    def network(self) -> SSN:
        return self._network

    @property
    def is_ready(self) -> bool:
        return self._candidates is not None

    def renew(self, epoch: int) -> None:
        """Proposals by actionness as it is now. Raises TrainingError where that isn't finite."""
        rng = np.random.default_rng(mix_seed(self.config.seed, epoch))
        overlap, num_clips = self.config.ssn.incomplete_overlap, self.known.num_clips
        found = candidates(self._actions, self._proposed(epoch), num_clips, overlap, rng)
        learnt = found.proposed & (found.kind == FOREGROUND)
        offsets = offsets_to(*(torch.from_numpy(of[learnt]) for of in (found.segment, found.own)))
        if len(offsets) > 1:
            self.network.mean.copy_(offsets.mean(dim=0))
            self.network.std.copy_(offsets.std(dim=0).clamp_min(_LEAST))
        self._candidates = found

    def _proposed(self, epoch: int) -> Proposed:
        """Each video's by the network of its own fold, which learns of the others."""
        self.network.eval()
        parts = []
        blocks = self._feed.blocks(self.known.videos)
        for (first, last), clips in zip(runs(self.known.num_clips, BLOCK_CLIPS), blocks, strict=True):
            sizes = self.known.num_clips[first:last]
            with torch.inference_mode():
                logits = self.network.actionness(clips).cpu().double().numpy()
            if not np.isfinite(logits).all():
                reason = "the last step blew the weights up"
                raise TrainingError(f"actionness of training clips is not finite before epoch {epoch}: {reason}")
            fold = np.repeat(np.arange(first, last) % logits.shape[1], sizes)
            found = watershed.proposed(logits[np.arange(len(logits)), fold], sizes, self.config.ssn)
            parts.append((found.video + first, found.start, found.end))
        return Proposed(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Proposals, what they are of, and of clips how much is of an action."""
        found = self._candidates
        assert found is not None
        which = drawn(found, len(self.known.videos), self.config.ssn.draws, drawing())[schedule.order]
        segments = np.concatenate([found.segment[which], found.own[which]], axis=2)
        segments[which < 0] = 0
        label = np.where(which < 0, _NONE, found.label[which])
        return {
            "segments": Column(schedule.on_device(segments.astype(np.float32)), of_clips=False),
            "label": Column(schedule.on_device(label.astype(np.int32)), of_clips=False, pad=_NONE),
            "fold": Column(self._fold[schedule.index], of_clips=False),
            "covered": Column(self._covered[schedule.clip], of_clips=True),
            "num_clips": Column(schedule.on_device(schedule.num_clips.astype(np.int32)), of_clips=False),
        }

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "5"], Float[Tensor, ""]]:
        num_clips, segments, label = rows["num_clips"], rows["segments"], rows["label"].long()
        batch = Ragged.of(num_clips, int(num_clips.max()) if shape is None else shape.longest)
        actionness = self._of_clips(batch.pad(self.network.actionness(clips)), batch.pad(rows["covered"]), batch, rows)
        said = self.network(clips, batch, segments[..., :2])
        losses = [actionness, *self._of_proposals(said, segments, label)]
        total = self.weighed(losses)
        return torch.stack([*losses, total]).detach() * (num_clips > 0).sum(), total

    def _of_clips(
        self,
        logits: Float[Tensor, "videos longest folds"],
        target: Float[Tensor, "videos longest"],
        batch: Ragged,
        rows: Mapping[str, Tensor],
    ) -> Float[Tensor, ""]:
        """Mean cross entropy of actionness; a fold's network learns of the other folds' videos."""
        folds = logits.shape[2]
        learns = rows["fold"][:, None] != torch.arange(folds, device=logits.device)
        if folds == 1:
            learns = torch.ones_like(learns)
        weight = (batch.there[..., None] & learns[:, None]).to(logits.dtype)
        wanted = target[..., None].expand_as(logits)
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return (each * weight).sum() / weight.sum().clamp_min(1)

    def _of_proposals(self, said: Said, segments: Float[Tensor, "videos slots 4"], label: Tensor) -> list[Tensor]:
        """On a GPU nothing may come from the host here."""
        draws, (_, each, _) = self.config.ssn.draws, EACH
        sizes = [draws, draws * each, label.shape[1] - draws * (1 + each)]
        own, there = label.clamp_min(0), label != _NONE
        complete = said.completeness.gather(2, own[..., None])[..., 0]
        action, incomplete, _ = complete.split(sizes, dim=1)
        action_there, incomplete_there, background_there = there.split(sizes, dim=1)
        classes, _, background = said.activity.split(sizes, dim=1)
        class_of, _, none_of = own.split(sizes, dim=1)
        some = torch.arange(4, device=label.device) % 2  # any offset, where it weighs nothing
        wanted = torch.where(action_there[..., None], segments[:, :draws], some)
        target = (offsets_to(wanted[..., :2], wanted[..., 2:]) - self.network.mean) / self.network.std
        offsets = said.offsets[:, :draws].gather(2, class_of[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
        with exact_products():
            return [
                activity_loss(
                    torch.cat([classes, background], dim=1),
                    torch.cat([class_of, torch.full_like(none_of, said.completeness.shape[2])], dim=1),
                    torch.cat([action_there, background_there], dim=1),
                ),
                completeness_loss(
                    action,
                    action_there,
                    incomplete.unflatten(1, (draws, each)),
                    incomplete_there.unflatten(1, (draws, each)),
                ),
                regression_loss(offsets, target, action_there),
            ]

    def weights(self) -> list[float]:
        return [1.0, 1.0, self.config.ssn.completeness, self.config.ssn.regression]


def actions(known: Labelled) -> Actions:
    """True segments in clips, as far as they lie in their video."""
    assert isinstance(known, Segmented)  # it is of full supervision
    found = known.segments
    ends = np.stack([found.start_s, found.end_s], axis=1) * known.clips_per_s[found.video, None]
    ends = np.minimum(ends.clip(0), known.num_clips[found.video, None])
    some = ends[:, 1] > ends[:, 0]
    return Actions(found.video[some], ends[some], found.label[some])


def covered(true: Actions, num_clips: NDArray[np.int64]) -> NDArray[np.float32]:
    """[clips] what part of each clip is of an action."""
    offsets = offsets_of(num_clips)
    found = np.zeros(offsets[-1])
    for video, (start, end) in zip(true.video.tolist(), true.segment.tolist(), strict=True):
        clip = np.arange(int(start), int(np.ceil(end)))
        found[offsets[video] + clip] += np.minimum(end, clip + 1) - np.maximum(start, clip)
    return np.minimum(found, 1).astype(np.float32)
