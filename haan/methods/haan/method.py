"""HAAN between its network and the training loop: its losses of a batch (Eq. 10), and its pseudo labels.

The clips are clustered every so many epochs (Sec. 3.2), and their clusters are what the steps until the next clustering
learn (Eq. 3) and form visual concepts by (Eq. 4).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import faiss
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from haan import losses
from haan.config import Config
from haan.config import Loss as LossConfig
from haan.data.table import ClipTable, IntArray, offsets_of
from haan.errors import TrainingError
from haan.feed import BLOCK_CLIPS, Feed, join_blocks
from haan.methods.base import Method, Network, mix_seed
from haan.methods.haan import clustering, concepts
from haan.methods.haan import losses as haan_losses
from haan.methods.haan.network import HAAN
from haan.schedule import Schedule
from haan.weights import below, copied

LOSSES = ("mil", "pseudo", "concept", "coarse", "total")


@dataclass(frozen=True)
class Batch:
    """One batch of videos on the device; shapes as in haan.losses and haan.methods.haan.concepts."""

    clips: Float[Tensor, "clips d"]
    labels: Tensor
    video: Tensor
    num_clips: Tensor
    fine: Tensor
    coarse: Tensor
    groups: concepts.Groups


@dataclass(frozen=True)
class Balance:
    """What the losses weigh by: BCE weights of both levels, frequency of each cluster; None for equal weights."""

    fine: Tensor | None
    coarse: Tensor | None
    frequency: Tensor | None


def batch_losses(
    model: HAAN, batch: Batch, hierarchy: concepts.Hierarchy, balance: Balance, config: Config
) -> Float[Tensor, "5"]:
    """The losses of one batch in the order of `LOSSES`, summed over its videos (Eq. 1-10)."""
    loss, setting = config.loss, config.concepts
    out = model(batch.clips)
    mil = losses.bce(losses.pool(out.cas, batch.video, batch.num_clips), batch.fine, balance.fine)
    pseudo = haan_losses.pseudo_loss(
        out.cluster_logits, batch.labels, batch.video, batch.num_clips, balance.frequency, loss.pseudo_per_clip
    )
    concept = coarse = mil.new_zeros(())
    if loss.concept > 0 or loss.coarse > 0:
        prototypes = model.classifier.weight
        formed = concepts.visual_concepts(out.hidden, batch.groups)
        fine = concepts.fine_representations(
            formed, prototypes, batch.groups, setting.clusters, setting.top_k, setting.distance
        )
        target = prototypes.detach() if loss.detach_prototypes else prototypes
        concept = haan_losses.concept_loss(fine, target, batch.fine, setting.distance, loss.concept_reduction)
        logits = model.coarse_logits(hierarchy.compose(fine, loss.coarse_pooling))
        coarse = losses.bce(logits, batch.coarse, balance.coarse)
    return _weigh(loss, mil, pseudo, concept, coarse)


def _weigh(loss: LossConfig, mil: Tensor, pseudo: Tensor, concept: Tensor, coarse: Tensor) -> Tensor:
    """The four losses and their weighted sum (Eq. 10); a weight of 0 takes its loss out, even an infinite one."""
    parts = {"mil": mil, "pseudo": pseudo, "concept": concept, "coarse": coarse}
    total = torch.stack([getattr(loss, name) * part for name, part in parts.items() if getattr(loss, name) > 0]).sum()
    # Detached, for even a gradient of 0 into an infinite loss is NaN.
    shown = [part if getattr(loss, name) > 0 else part.detach() for name, part in parts.items()]
    return torch.stack([*shown, total])


class HaanMethod(Method):
    """HAAN on one table."""

    losses = LOSSES

    def __init__(self, config: Config, table: ClipTable, videos: IntArray, feed: Feed, device: torch.device):
        """videos: those that train. Raises InputError when they hold too few clips for the number of clusters."""
        self.config, self.period = config, config.concepts.refresh_epochs
        self._table, self._videos, self._feed, self._device = table, videos, feed, device
        self._offsets = offsets_of(table.num_clips[videos])
        clustering.check_sample(int(self._offsets[-1]), config.concepts.sample_rate, config.concepts.clusters)
        if config.threads is not None:
            faiss.omp_set_num_threads(config.threads)
        annotations = table.annotations
        self._network = self.build(config, table.dim, len(annotations.fine_names)).to(device)
        self.pseudo: clustering.PseudoLabels | None = None
        self._clustered: dict[str, Tensor] = {}  # the encoder as it was then
        self._hierarchy = concepts.Hierarchy(annotations.coarse_of_fine, device)
        self._fine = torch.from_numpy(annotations.fine_labels[videos]).to(device)
        self._coarse = torch.from_numpy(annotations.coarse_labels[videos]).to(device)
        balanced = config.loss.class_weights == "balanced"
        self._balance = Balance(
            losses.balanced_weights(self._fine) if balanced else None,
            losses.balanced_weights(self._coarse) if balanced else None,
            None,
        )

    @classmethod
    def build(cls, config: Config, dim: int, num_fine: int) -> HAAN:
        return HAAN(config.model, dim, num_fine, config.concepts.clusters, config.precision)

    @classmethod
    def outline(cls, config: Config, network: Network, num_clips: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        assert isinstance(network, HAAN)
        number, encoder = config.concepts.clusters, network.encoder.state_dict()
        centroids = torch.empty(number, config.model.width, device="meta")
        labels = torch.empty(num_clips, dtype=torch.int64, device="meta")
        pseudo = {"labels": labels, "frequency": torch.empty(number, device="meta"), "centroids": centroids}
        return _kept(centroids, encoder), _state(pseudo, encoder)

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
        gpu = self._device.type == "cuda"
        seed = mix_seed(self.config.seed, epoch)
        rng, most = np.random.default_rng(seed), clustering.most_clips(setting)
        chosen = clustering.draw_sample(num_clips, setting.sample_rate, rng, most)
        places = self._table.places(self._videos)[chosen]
        blocks = (self._feed.sample(places[i : i + BLOCK_CLIPS]) for i in range(0, len(places), BLOCK_CLIPS))
        sample = join_blocks(self.encoded(blocks, epoch), len(places))
        start = self.pseudo.centroids if setting.warm_start and self.pseudo is not None else None
        try:
            fitted = clustering.fit(sample, setting, seed, gpu, start, self.config.threads)
        except clustering.FitError as error:
            raise TrainingError(f"{error}, before epoch {epoch}") from None
        encoded = self.encoded(self._feed.blocks(self._videos), epoch)
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
        """Takes up new pseudo labels."""
        self.pseudo = pseudo
        if self.config.loss.pseudo_weights == "frequency":
            self._balance = replace(self._balance, frequency=torch.from_numpy(pseudo.frequency).to(self._device))

    def begin(self, schedule: Schedule) -> None:
        """The clips must have been clustered before."""
        assert self.pseudo is not None
        labels, first = self.pseudo.labels, self._offsets
        ordered = np.concatenate([labels[first[video] : first[video + 1]] for video in schedule.order.tolist()])
        self._schedule = schedule
        self._labels = schedule.on_device(ordered)
        self._groups = concepts.group_batches(ordered, schedule, self.config.concepts.clusters)
        self._fine_of, self._coarse_of = self._fine[schedule.index], self._coarse[schedule.index]

    def batch_losses(self, step: int, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "5"]:
        return batch_losses(self.network, self._batch(step, clips), self._hierarchy, self._balance, self.config)

    def _batch(self, step: int, clips: Float[Tensor, "clips d"]) -> Batch:
        videos, of_batch = self._schedule.videos(step), self._schedule.clips(step)
        return Batch(
            clips=clips,
            labels=self._labels[of_batch],
            video=self._schedule.video[of_batch],
            num_clips=self._schedule.num_clips[videos],
            fine=self._fine_of[videos],
            coarse=self._coarse_of[videos],
            groups=self._groups.of(videos, of_batch),
        )

    def counts(self) -> list[bool]:
        return [getattr(self.config.loss, name) > 0 for name in LOSSES[:-1]] + [True]

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
