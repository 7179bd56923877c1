"""The only training loop. It yields one result an epoch and keeps the best weights; it prints nothing.

Every random draw of an epoch comes from (seed, epoch) alone: the order of videos, the clustered sample and its seed,
and dropout. So a run resumed after an epoch needs no state of a random generator to equal an unbroken one.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import faiss
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from haan import losses
from haan.config import Config, Detect
from haan.data.table import ClipTable, Split, offsets_of
from haan.detect import detect_many
from haan.errors import InputError, TrainingError
from haan.feed import BLOCK_CLIPS, Feed, join_blocks
from haan.methods.base import mix_seed
from haan.methods.haan import clustering, concepts
from haan.methods.haan.method import CONCEPTS, LOSSES, Balance, Batch, batch_losses, parted
from haan.methods.haan.network import HAAN
from haan.metrics import Detections, Evaluator, Score
from haan.score import COLLAPSED, activations, choose_device, report, truth
from haan.weights import below, copied, read_tensors, write_tensors
from haan.yamlconfig import dump


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """One epoch.

    epoch: counts from 1. losses: mean per training video of each loss, unweighted, and of their weighted total.
    seconds: by phase. avg_map: percent, one for each of the trainer's detection settings and then of those scored
    beside them; empty where the epoch is not scored. chosen: index of the best detection setting, the first of equals.
    map_by_tiou: mAP in percent at each of `eval.tiou`, map: at each of `eval.report`, both at the chosen setting.
    detections: how many at that setting. collapsed: every validation clip gets the same scores, so nothing can be
    detected. empty_clusters: how many of the N clusters hold no training clip; birch may find fewer than N.
    """

    epoch: int
    losses: dict[str, float]
    seconds: dict[str, float]
    avg_map: tuple[float, ...] = ()
    chosen: int = 0
    map_by_tiou: tuple[float, ...] = ()
    map: dict[float, float] = field(default_factory=dict)
    detections: int = 0
    collapsed: bool = False
    empty_clusters: int = 0


@dataclass(frozen=True)
class Best:
    """The epoch that counts so far: avg.mAP in percent, index into the detection settings, and the weights.

    concepts: what tells the concept of any clip as training did in that epoch: `centroids` [clusters, width], and
    `encoder.*`, the encoder that they were found with; the network's own has been trained on since. Empty where
    training went on from an older version's checkpoint.
    """

    epoch: int
    chosen: int
    avg_map: float
    weights: dict[str, Tensor] = field(repr=False)
    concepts: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it, as a file holds it."""
        return self.weights | {f"{CONCEPTS}.{name}": value for name, value in self.concepts.items()}


class Trainer:
    """Trains one configuration on a table.

    detects: the detection settings that score an epoch, of which the best is chosen; by default the configuration's
    own. beside: settings that are scored as well and never chosen. every_epoch: whether each epoch is scored or the
    last alone; by default as `eval.epoch` needs it.
    Raises InputError when the table is too small for the configuration.
    """

    def __init__(
        self,
        config: Config,
        table: ClipTable,
        split: Split,
        detects: Sequence[Detect] | None = None,
        beside: Sequence[Detect] = (),
        every_epoch: bool | None = None,
    ):
        self.config, self.table, self.split = config, table, split
        self.detects, self.beside = tuple(detects or [config.detect]), tuple(beside)
        self.every_epoch = config.eval.epoch == "best" if every_epoch is None else every_epoch
        self.epoch = 0
        self.best: Best | None = None
        if config.threads is not None:
            torch.set_num_threads(config.threads)
            faiss.omp_set_num_threads(config.threads)
        self.device = choose_device(config.device)
        if self.device.type == "cuda":
            torch.use_deterministic_algorithms(True, warn_only=True)
        annotations = table.annotations
        self._offsets = offsets_of(table.num_clips[split.train])  # of the training clips
        # One buffer for all batches: fresh arrays leave holes in the heap, which is each trial's own memory.
        self._feed = Feed(table, self.device, int(np.sort(np.diff(self._offsets))[-config.optim.batch_videos :].sum()))
        clustering.check_sample(int(self._offsets[-1]), config.concepts.sample_rate, config.concepts.clusters)
        torch.manual_seed(config.seed)
        num_fine = len(annotations.fine_names)
        self.model = HAAN(config.model, table.dim, num_fine, config.concepts.clusters, config.precision)
        self.model.to(self.device)
        self._adam = torch.optim.Adam(self.model.parameters(), lr=config.optim.lr, fused=True)
        self._pseudo: clustering.PseudoLabels | None = None
        self._clustered: dict[str, Tensor] = {}  # the encoder as it was then
        self._hierarchy = concepts.Hierarchy(annotations.coarse_of_fine, self.device)
        self._fine = torch.from_numpy(annotations.fine_labels[split.train]).to(self.device)
        self._coarse = torch.from_numpy(annotations.coarse_labels[split.train]).to(self.device)
        balanced = config.loss.class_weights == "balanced"
        self._balance = Balance(
            losses.balanced_weights(self._fine) if balanced else None,
            losses.balanced_weights(self._coarse) if balanced else None,
            None,
        )
        self._evaluator = Evaluator(truth(annotations, split.validation), num_fine, config.eval.tiou)

    def epochs(self) -> Iterator[EpochResult]:
        """Trains the epochs that are left, one result each."""
        while self.epoch < self.config.optim.epochs:
            yield self.train_epoch()

    def train_epoch(self) -> EpochResult:
        """One epoch: clustering when it is due, training, evaluation. Raises TrainingError on a NaN loss."""
        epoch = self.epoch + 1
        marks = [time.perf_counter()]
        torch.manual_seed(mix_seed(self.config.seed, epoch))
        if self._pseudo is None or self.epoch % self.config.concepts.refresh_epochs == 0:
            self.cluster(epoch)
        assert self._pseudo is not None
        marks.append(time.perf_counter())
        means = self._train(epoch)
        marks.append(time.perf_counter())
        self.epoch = epoch
        seconds = {"cluster": marks[1] - marks[0], "train": marks[2] - marks[1]}
        result = EpochResult(epoch=epoch, losses=means, seconds=seconds, empty_clusters=self._pseudo.empty)
        return self._score(result) if self.every_epoch or epoch == self.config.optim.epochs else result

    def _score(self, result: EpochResult) -> EpochResult:
        """The result with the evaluation of the network as it is."""
        start, scoring = time.perf_counter(), 0.0
        videos = self.split.validation
        offsets = offsets_of(self.table.num_clips[videos])
        cas = activations(self.model, self._feed.blocks(videos), int(offsets[-1]))
        scores: dict[int, tuple[Score, int]] = {}
        for place, found in self._detect(cas, offsets):  # one setting's detections at a time: all would fill the memory
            begun = time.perf_counter()
            scores[place] = self._evaluator.score(found), len(found)
            scoring += time.perf_counter() - begun
        detecting = time.perf_counter() - start - scoring
        avg_map = tuple(scores[place][0].avg_map for place in range(len(scores)))
        chosen = int(np.argmax(avg_map[: len(self.detects)]))
        self._keep(result.epoch, chosen, avg_map[chosen])
        score, detections = scores[chosen]
        return replace(
            result,
            avg_map=avg_map,
            chosen=chosen,
            map_by_tiou=tuple(score.map.tolist()),
            map=report(score, self.config.eval.report),
            detections=detections,
            seconds=result.seconds | {"detect": detecting, "score": scoring},
            collapsed=bool(np.ptp(cas, axis=0).max() <= COLLAPSED),
        )

    def cluster(self, epoch: int) -> None:
        """New pseudo labels: clusters of a sample of the encoded training clips, then the cluster of each clip.

        Raises TrainingError when the encoder blew up, or no clusters are found in time.
        """
        setting, num_clips = self.config.concepts, int(self._offsets[-1])
        gpu = self.device.type == "cuda"
        seed = mix_seed(self.config.seed, epoch)
        rng, most = np.random.default_rng(seed), clustering.most_clips(setting)
        chosen = clustering.draw_sample(num_clips, setting.sample_rate, rng, most)
        places = self.table.places(self.split.train)[chosen]
        blocks = (self._feed.sample(places[i : i + BLOCK_CLIPS]) for i in range(0, len(places), BLOCK_CLIPS))
        sample = join_blocks(self._encoded(blocks, epoch), len(places))
        start = self._pseudo.centroids if setting.warm_start and self._pseudo is not None else None
        try:
            fitted = clustering.fit(sample, setting, seed, gpu, start, self.config.threads)
        except clustering.FitError as error:
            raise TrainingError(f"{error}, before epoch {epoch}") from None
        encoded = self._encoded(self._feed.blocks(self.split.train), epoch)
        self._label(fitted.assign((block.cpu().numpy() for block in encoded), num_clips))
        self._clustered = copied(self.model.encoder.state_dict())

    def _encoded(
        self, blocks: Iterable[Float[Tensor, "clips d"]], epoch: int
    ) -> Iterator[Float[Tensor, "clips width"]]:
        """Encoded clips, block by block; dropout off. Raises TrainingError when they have no distance to anything."""
        self.model.eval()
        with torch.inference_mode():
            for clips in blocks:
                encoded = self.model.encode(clips)
                if not torch.linalg.vector_norm(encoded).isfinite():
                    reason = "the last step blew the weights up"
                    raise TrainingError(f"encoded clips are not finite before epoch {epoch}: {reason}")
                yield encoded

    def _label(self, pseudo: clustering.PseudoLabels) -> None:
        """Takes up new pseudo labels."""
        self._pseudo = pseudo
        if self.config.loss.pseudo_weights == "frequency":
            self._balance = replace(self._balance, frequency=torch.from_numpy(pseudo.frequency).to(self.device))

    def _train(self, epoch: int) -> dict[str, float]:
        self.model.train()
        order = np.random.default_rng(mix_seed(self.config.seed, epoch)).permutation(len(self.split.train))
        size = self.config.optim.batch_videos
        # The losses stay on the device: reading each step's would make the host wait for it.
        history = [self.train_batch(order[first : first + size]) for first in range(0, len(order), size)]
        return self._means(epoch, torch.stack(history).cpu())

    def train_batch(self, members: NDArray[np.int64]) -> Float[Tensor, "5"]:
        """One step on some videos, by their positions among the training videos; the losses as `batch_losses` gives.

        The clips must have been clustered before.
        """
        values = batch_losses(self.model, self._batch(members), self._hierarchy, self._balance, self.config)
        self._adam.zero_grad(set_to_none=True)
        values[-1].backward()
        self._adam.step()
        return values.detach()

    def _batch(self, members: NDArray[np.int64]) -> Batch:
        """Videos by their position among the training videos."""
        assert self._pseudo is not None
        labels, first, last = self._pseudo.labels, self._offsets[members], self._offsets[members + 1]
        of_batch = np.concatenate([labels[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True)])
        counts = last - first
        offsets = offsets_of(counts)
        index = torch.from_numpy(members).to(self.device, non_blocking=True)
        return Batch(
            clips=self._feed.videos(self.split.train[members]),
            labels=torch.from_numpy(of_batch).to(self.device, non_blocking=True),
            video=torch.from_numpy(np.repeat(np.arange(len(members)), counts)).to(self.device, non_blocking=True),
            num_clips=torch.from_numpy(counts.astype(np.float32)[:, None]).to(self.device, non_blocking=True),
            fine=self._fine[index],
            coarse=self._coarse[index],
            groups=concepts.group(of_batch, offsets, self.config.concepts.clusters, self.device),
        )

    def _means(self, epoch: int, history: Float[Tensor, "steps 5"]) -> dict[str, float]:
        weighed = [getattr(self.config.loss, name) > 0 for name in LOSSES[:-1]] + [True]
        bad = (~torch.isfinite(history) & torch.tensor(weighed)).nonzero()
        if len(bad):
            step, which = bad[0].tolist()
            value = float(history[step, which])
            raise TrainingError(f"loss {LOSSES[which]} is {value} in epoch {epoch}, step {step + 1}")
        means = history.double().sum(dim=0) / len(self.split.train)
        return dict(zip(LOSSES, means.tolist(), strict=True))

    def _detect(self, cas: NDArray[np.float32], offsets: NDArray[np.int64]) -> Iterator[tuple[int, Detections]]:
        ratios = self.table.annotations.clips_per_s[self.split.validation]
        return detect_many(cas, offsets, ratios, (*self.detects, *self.beside))

    def _keep(self, epoch: int, chosen: int, avg_map: float) -> None:
        if self.best is None or avg_map > self.best.avg_map or self.config.eval.epoch == "last":
            self.best = Best(epoch, chosen, avg_map, copied(self.model.state_dict()), self._concepts())

    def _concepts(self) -> dict[str, Tensor]:
        """`Best.concepts` as they are now."""
        if self._pseudo is None or not self._clustered:
            return {}
        encoder = {f"encoder.{name}": value for name, value in self._clustered.items()}
        return copied({"centroids": torch.from_numpy(self._pseudo.centroids)} | encoder)

    def save(self, path: Path) -> None:
        """Writes everything that `load` needs to go on as if never stopped: one safetensors file."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, state in self._adam.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in state.items()}
        if self._pseudo is not None:
            tensors["pseudo.labels"] = torch.from_numpy(self._pseudo.labels)
            tensors["pseudo.frequency"] = torch.from_numpy(self._pseudo.frequency)
            tensors["pseudo.centroids"] = torch.from_numpy(self._pseudo.centroids)
        tensors |= {f"clustered.{name}": value for name, value in self._clustered.items()}
        best = None
        if self.best is not None:
            tensors |= {f"best.{name}": value for name, value in self.best.tensors.items()}
            best = {"epoch": self.best.epoch, "chosen": self.best.chosen, "avg_map": self.best.avg_map}
        state = {"epoch": self.epoch, "best": best, "run": self._identity()}
        write_tensors(path, tensors, {"state": json.dumps(state)})

    def load(self, path: Path) -> None:
        """Takes up a run where `save` left it. Raises InputError when the file is of another run or damaged."""
        tensors, metadata = read_tensors(path)
        try:
            state = json.loads(metadata["state"])
            if state["run"] != self._identity():
                raise InputError(f"{path}: must be a checkpoint of this configuration, got one of another")
            # All of it is read before any is taken up: a refused checkpoint leaves the trainer as it was.
            pseudo = best = None
            if "pseudo.labels" in tensors:
                found = below(tensors, "pseudo")
                pseudo = clustering.PseudoLabels(**{name: value.numpy() for name, value in found.items()})
            if state["best"] is not None:
                weights, found = parted(below(tensors, "best"))
                best = Best(**state["best"], weights=weights, concepts=found)
            epoch = int(state["epoch"])
            adam = self._adam.state_dict()
            count = len(adam["param_groups"][0]["params"])
            adam["state"] = {i: entry for i in range(count) if (entry := below(tensors, f"adam.{i}"))}
            self.model.load_state_dict(below(tensors, "model"))
            self._adam.load_state_dict(adam)
            if pseudo is not None:
                self._label(pseudo)
            self.best, self.epoch, self._clustered = best, epoch, below(tensors, "clustered")
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(f"{path}: must be a whole checkpoint, got {type(error).__name__}: {error}") from None

    def _identity(self) -> str:
        """What has to be equal for a checkpoint to fit: configuration, but not where its data lie, and detection."""
        anywhere = replace(self.config, data=replace(self.config.data, root="anywhere"))
        return dump(anywhere) + "".join(dump(detect) for detect in (*self.detects, *self.beside))
