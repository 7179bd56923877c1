"""HAAN between its network and the training loop: its losses of a batch (Eq. 10), and its pseudo labels.

The clips are clustered every so many epochs (Sec. 3.2), and their clusters are what the steps until the next clustering
learn (Eq. 3) and form visual concepts by (Eq. 4).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import faiss
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from haan import losses
from haan.data.table import offsets_of
from haan.detectors import runs
from haan.errors import TrainingError
from haan.feed import BLOCK_CLIPS, HOST, Feed, join_blocks
from haan.methods.base import Labelled, Method, Network, Numbers, mix_seed
from haan.methods.haan import clustering, concepts, lloyd
from haan.methods.haan import losses as haan_losses
from haan.methods.haan.config import HaanConfig
from haan.methods.haan.config import Loss as LossConfig
from haan.methods.haan.network import HAAN, ClipOutputs
from haan.methods.parts import exact_products
from haan.schedule import Column, Schedule, Shape
from haan.weights import below, copied

LOSSES = ("mil", "pseudo", "concept", "coarse", "total")
_HEADS = 4  # of two layers each: what they keep of a clip
_KEPT = 6  # numbers a clip and unit of a hidden layer: product, relu, dropout's mask and product, and gradients of two


@dataclass(frozen=True)
class VideoLabels:
    """What video-level labels say of videos.

    fine, coarse: [videos, classes] labels as 0 and 1, with their weights in Eq. 2 and 9. shares: weights of Eq. 7.
    """

    fine: Float[Tensor, "videos fine"]
    fine_weights: Float[Tensor, "videos fine"]
    shares: Float[Tensor, "videos fine"]
    coarse: Float[Tensor, "videos coarse"]
    coarse_weights: Float[Tensor, "videos coarse"]

    @classmethod
    def of(cls, fine: Bool[Tensor, "videos fine"], coarse: Bool[Tensor, "videos coarse"], loss: LossConfig) -> Self:
        """fine, coarse: labels of all training videos, by which the classes are balanced."""
        balanced = loss.class_weights == "balanced"
        return cls(
            fine=fine.float(),
            fine_weights=losses.label_weights(fine, losses.balanced_weights(fine) if balanced else None),
            shares=haan_losses.class_shares(fine.float(), loss.concept_reduction),
            coarse=coarse.float(),
            coarse_weights=losses.label_weights(coarse, losses.balanced_weights(coarse) if balanced else None),
        )


@dataclass(frozen=True)
class Known(VideoLabels):
    """What is known of a batch of videos before its step, on the device; it may be filled up as haan.losses says.

    labels: [clips] pseudo label of each clip. pseudo: [clips] its weight in Eq. 3. member: [clips, videos] 1 where it
    is of a video. within, part, present: its concept (haan.methods.haan.concepts). num_clips: [videos, 1] float.
    """

    labels: Int[Tensor, " clips"]
    pseudo: Float[Tensor, " clips"]
    member: Float[Tensor, "clips videos"]
    within: Int[Tensor, " clips"]
    part: Float[Tensor, "clips videos"]
    present: Int[Tensor, "videos 1"]
    num_clips: Float[Tensor, "videos 1"]


def batch_losses(
    model: HAAN,
    clips: Float[Tensor, "clips d"],
    known: Known,
    ranks: int,
    hierarchy: concepts.Hierarchy,
    weights: Float[Tensor, " weighed"],
    config: HaanConfig,
) -> tuple[Float[Tensor, "5"], Float[Tensor, ""]]:
    """The losses of one batch in the order of `LOSSES`, summed over its videos (Eq. 1-10); the total, to differentiate.

    ranks: at least the number of concepts of any of its videos. weights: as `loss_weights` gives them. Nothing here
    depends on a value on the device, so the same shapes give the same kernels.
    """
    loss, out = config.loss, model(clips)
    with exact_products():
        mil = losses.bce(losses.pool(out.cas, known.member, known.num_clips), known.fine, known.fine_weights)
        pseudo = haan_losses.pseudo_loss(out.cluster_logits, known.labels, known.pseudo)
        if loss.concept == loss.coarse == 0:
            return _weigh(loss, weights, mil, pseudo, mil.new_zeros(()), mil.new_zeros(()))
        composed, concept = _concepts(model, out, known, ranks, hierarchy, config)
    coarse = losses.bce(model.coarse_logits(composed), known.coarse, known.coarse_weights)
    return _weigh(loss, weights, mil, pseudo, concept, coarse)


def loss_weights(loss: LossConfig, device: torch.device) -> Float[Tensor, " weighed"]:
    """lambda of those losses that have one (Eq. 10)."""
    given = (getattr(loss, name) for name in LOSSES[:-1])
    return torch.tensor([weight for weight in given if weight > 0], device=device)


def _concepts(
    model: HAAN, out: ClipOutputs, known: Known, ranks: int, hierarchy: concepts.Hierarchy, config: HaanConfig
) -> tuple[Float[Tensor, "videos coarse width"], Float[Tensor, ""]]:
    """What S' reads (Eq. 8), and the loss on the way there (Eq. 7)."""
    loss, setting, prototypes = config.loss, config.concepts, model.classifier.weight
    rank = torch.arange(ranks, device=known.within.device, dtype=known.within.dtype)
    groups = concepts.Groups(known.within, known.part, known.present, rank)
    formed = concepts.visual_concepts(out.hidden, groups)
    fine = concepts.fine_representations(formed, prototypes, groups, setting.clusters, setting.top_k, setting.distance)
    target = prototypes.detach() if loss.detach_prototypes else prototypes
    concept = haan_losses.concept_loss(fine, target, known.shares, setting.distance)
    return hierarchy.compose(fine, loss.coarse_pooling), concept


def _weigh(
    loss: LossConfig, weights: Float[Tensor, " weighed"], *parts: Tensor
) -> tuple[Float[Tensor, "5"], Float[Tensor, ""]]:
    """The losses and their weighted sum (Eq. 10), that once more; a weight of 0 takes even an infinite loss out."""
    weighed = tuple(getattr(loss, name) > 0 for name in LOSSES[:-1])
    # Detached, for even a gradient of 0 into an infinite loss is NaN.
    shown = (part if counts else part.detach() for part, counts in zip(parts, weighed, strict=True))
    return _Weigh.apply(weighed, weights, *shown)


class _Weigh(Function):
    """The total's gradient for four losses at once."""

    @staticmethod
    def forward(weighed: tuple[bool, ...], weights: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
        kept = [part for part, counts in zip(parts, weighed, strict=True) if counts]
        total = (torch.stack(kept) * weights).sum()
        return torch.stack([*parts, total]), total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.weighed = inputs[0]
        ctx.save_for_backward(inputs[1])
        ctx.mark_non_differentiable(output[0])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grads = iter((grad_outputs[1] * ctx.saved_tensors[0]).unbind())
        return None, None, *(next(grads) if counts else None for counts in ctx.weighed)


class HaanMethod(Method):
    """HAAN on some videos."""

    losses = LOSSES
    detector = staticmethod(runs.makers)
    curves = staticmethod(runs.curves)

    def __init__(self, config: HaanConfig, known: Labelled, feed: Feed, device: torch.device):
        """Raises InputError when the videos hold too few clips for the number of clusters."""
        super().__init__(config, known, feed, device)
        self._feed, self._device = feed, device
        self._offsets = offsets_of(known.num_clips)
        self.check(config, known)
        if config.threads is not None:
            faiss.omp_set_num_threads(config.threads)
        self._network = self.build(config, known.dim, known.fine.shape[1]).to(device)
        self.pseudo: clustering.PseudoLabels | None = None
        self._clustered: dict[str, Tensor] = {}  # the encoder as it was then
        self._hierarchy = concepts.Hierarchy(known.coarse_of_fine, device)
        self._weights = loss_weights(config.loss, device)
        fine, coarse = (torch.from_numpy(labels).to(device) for labels in (known.fine, known.coarse))
        self._labels = VideoLabels.of(fine, coarse, config.loss)

    @classmethod
    def check(cls, config: HaanConfig, known: Labelled) -> None:
        """Raises InputError when the sample that is clustered holds fewer clips than there are clusters."""
        clustering.check_sample(int(known.num_clips.sum()), config.concepts.sample_rate, config.concepts.clusters)

    @classmethod
    def build(cls, config: HaanConfig, dim: int, num_fine: int) -> HAAN:
        return HAAN(config.model, dim, num_fine, config.concepts.clusters, config.precision)

    @classmethod
    def outline(
        cls, config: HaanConfig, network: Network, num_clips: int
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        assert isinstance(network, HAAN)
        number, encoder = config.concepts.clusters, network.encoder.state_dict()
        centroids = torch.empty(number, config.model.width, device="meta")
        labels = torch.empty(num_clips, dtype=torch.int64, device="meta")
        pseudo = {"labels": labels, "frequency": torch.empty(number, device="meta"), "centroids": centroids}
        return _kept(centroids, encoder), _state(pseudo, encoder)

    @classmethod
    def numbers(cls, config: HaanConfig, known: Labelled, largest: Shape) -> Numbers:
        """Of a clip in the four heads, of the concepts of a batch, and of a clustering's sample and products."""
        clusters, width, videos = config.concepts.clusters, config.model.width, config.optim.batch_videos
        fine, coarse, clips = known.fine.shape[1], known.coarse.shape[1], int(known.num_clips.sum())
        ranks = videos * min(largest.longest, clusters)
        of_clip = _HEADS * _KEPT * width + 3 * (fine + clusters)
        of_concepts = ranks * (2 * largest.clips + 4 * width + 6 * fine) + 4 * videos * (fine + coarse) * width
        sample = clustering.sample_size(clips, config.concepts.sample_rate)
        return Numbers(
            step=largest.clips * of_clip + of_concepts,
            rows=clips * (4 + 2 * videos) + len(known.videos) * (2 + 3 * fine + 2 * coarse),
            block=BLOCK_CLIPS * (4 * width + fine),
            renew=sample * width + 2 * lloyd.BLOCK * clusters + 3 * clusters * width,
        )

    @property
    def network(self) -> HAAN:
        return self._network

    @property
    def is_ready(self) -> bool:
        return self.pseudo is not None

    @property
    def empty_clusters(self) -> int:
        """How many of the N clusters hold no training clip; birch may find fewer than N."""
        return 0 if self.pseudo is None else self.pseudo.empty

    def renew(self, epoch: int) -> None:
        """New pseudo labels: clusters of a sample of the encoded training clips, then the cluster of each clip.

        Raises TrainingError when the encoder blew up, or no clusters are found in time.
        """
        setting, num_clips = self.config.concepts, int(self._offsets[-1])
        seed = mix_seed(self.config.seed, epoch)
        rng, most = np.random.default_rng(seed), clustering.most_clips(setting)
        chosen = clustering.draw_sample(num_clips, setting.sample_rate, rng, most)
        places = self._feed.places(self.known.videos)[chosen]
        blocks = (self._feed.sample(places[i : i + BLOCK_CLIPS]) for i in range(0, len(places), BLOCK_CLIPS))
        start = self.pseudo.centroids if setting.warm_start and self.pseudo is not None else None
        on_device = self._device.type == "cuda" and setting.method == "kmeans"
        sample = join_blocks(self.encoded(blocks, epoch), len(places), self._device if on_device else HOST)
        encoded = self.encoded(self._feed.blocks(self.known.videos), epoch)
        if on_device:
            begin = None if start is None else torch.from_numpy(start).to(self._device)
            self._label(lloyd.assign(encoded, lloyd.fit(sample, setting.clusters, seed, begin), num_clips))
        else:
            try:
                fitted = clustering.fit(sample.numpy(), setting, seed, start, self.config.threads)
            except clustering.FitError as error:
                raise TrainingError(f"{error}, before epoch {epoch}") from None
            self._label(fitted.assign((block.cpu().numpy() for block in encoded), num_clips))
        self._clustered = copied(self.network.encoder.state_dict())

    def encoded(self, blocks: Iterable[Float[Tensor, "clips d"]], epoch: int) -> Iterator[Float[Tensor, "clips width"]]:
        """Encoded clips, block by block; dropout off. Raises TrainingError when they have no distance to anything."""
        self.network.eval()
        with torch.inference_mode():
            for clips in blocks:
                encoded = self.network.encode(clips)
                if not torch.linalg.vector_norm(encoded).isfinite():
                    reason = "the last step blew the weights up"
                    raise TrainingError(f"encoded clips are not finite before epoch {epoch}: {reason}")
                yield encoded

    def _label(self, pseudo: clustering.PseudoLabels) -> None:
        """Takes up new pseudo labels; what steps need of them is put on the device now, whatever order they come in."""
        self.pseudo = pseudo
        loss, labels = self.config.loss, pseudo.labels
        within, part, present = concepts.ranked(labels, self._offsets, self.config.concepts.clusters)
        frequency = pseudo.frequency if loss.pseudo_weights == "frequency" else None
        weights = haan_losses.clip_weights(labels, self._offsets, frequency, loss.pseudo_per_clip)
        of_clips = {"labels": labels, "pseudo": weights, "within": within, "part": part}
        self._of_clips = {name: self._on_device(values) for name, values in of_clips.items()}
        self._present = self._on_device(present[:, None])

    def _on_device(self, values: NDArray) -> Tensor:
        """In four bytes a number, as columns are."""
        narrow = values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
        return torch.from_numpy(narrow).to(self._device)

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Those of `Known`. The clips must have been clustered before."""
        num_clips = self._on_device(schedule.num_clips[:, None].astype(np.float32))
        of_clips = {name: values[schedule.clip] for name, values in self._of_clips.items()}
        of_clips["member"] = losses.members(self._on_device(schedule.video), schedule.batch_videos)
        of_clips["part"] = of_clips["part"][:, None] * of_clips["member"]
        return (
            {name: Column(values, of_clips=True) for name, values in of_clips.items()}
            | {"present": Column(self._present[schedule.index], of_clips=False)}
            | {"num_clips": Column(num_clips, of_clips=False, pad=1)}
            | {name: Column(values[schedule.index], of_clips=False) for name, values in vars(self._labels).items()}
        )

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "5"], Float[Tensor, ""]]:
        most = int(rows["present"].max()) if shape is None else shape.longest
        ranks, videos = min(most, self.config.concepts.clusters), len(rows["present"])
        own = {name: rows[name][:, :videos] for name in ("member", "part")}  # an epoch's last batch may be smaller
        known = Known(**{**rows, **own})
        return batch_losses(self.network, clips, known, ranks, self._hierarchy, self._weights, self.config)

    def weights(self) -> list[float]:
        return [getattr(self.config.loss, name) for name in LOSSES[:-1]]

    def kept(self) -> dict[str, Tensor]:
        """What tells the concept of any clip as training did in that epoch.

        `centroids` [clusters, width], and `encoder.*`, the encoder that they were found with; the network's own has
        been trained on since.
        """
        if self.pseudo is None or not self._clustered:
            return {}
        return copied(_kept(torch.from_numpy(self.pseudo.centroids), self._clustered))

    def state(self) -> dict[str, Tensor]:
        pseudo = {} if self.pseudo is None else {name: torch.from_numpy(a) for name, a in vars(self.pseudo).items()}
        return _state(pseudo, self._clustered)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        found = below(tensors, "pseudo")
        pseudo = clustering.PseudoLabels(**{name: value.numpy() for name, value in found.items()}) if found else None
        self._clustered = below(tensors, "clustered")
        if pseudo is not None:
            self._label(pseudo)


def _kept(centroids: Tensor, encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"centroids": centroids} | {f"encoder.{name}": value for name, value in encoder.items()}


def _state(pseudo: Mapping[str, Tensor], encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"pseudo.{name}": value for name, value in pseudo.items()} | {
        f"clustered.{name}": value for name, value in encoder.items()
    }
