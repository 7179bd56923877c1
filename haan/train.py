"""The only training loop. It yields one result an epoch and keeps the best weights; it prints nothing.

On a GPU an epoch is scored on the host while the next one is trained: results, checkpoints and the best weights are
those of one after the other. Every random draw of an epoch comes from (seed, epoch) alone: the order of videos, what a
method learns before it, and dropout. So a run resumed after an epoch needs no state of a random generator to equal an
unbroken one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from haan.config import Config, Detect
from haan.data.table import ClipTable, IntArray, Split, check_truth
from haan.errors import TrainingError
from haan.feed import Feed
from haan.fixed import FixedSteps, capacities, most_clips
from haan.gpumemory import has_room
from haan.methods.base import mix_seed, told
from haan.methods.names import method_of
from haan.methods.parts import set_products
from haan.optimiser import Optimiser, learning_rates
from haan.schedule import Schedule
from haan.score import Scored, Scorer, choose_device, report
from haan.weights import Best, State, checked, cloned, copied, read_state, tensor_bytes, write_state
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
class _Trained:
    """An epoch that was trained.

    scores: gives them, once they are there; None where it isn't scored. state, kept: copies of what it left, where the
    next one is trained meanwhile. averaged: the weights that were scored, where they aren't the last step's.
    """

    result: EpochResult
    scores: Callable[[], Scored] | None = None
    state: State | None = None
    kept: dict[str, Tensor] | None = None
    averaged: dict[str, Tensor] | None = None


class Trainer:
    """Trains one configuration on a table.

    detects: the detection settings that score an epoch, of which the best is chosen; by default the configuration's
    own. beside: settings that are scored as well and never chosen. every_epoch: whether epochs are scored as
    `eval.every` says, or the last alone; by default as `eval.epoch` needs it. alone: whether this process has its GPU
    to itself, so that all clips may stay there. ahead: whether an epoch is scored while the next one is trained, so
    that the network itself may be an epoch further than `epoch`; by default on a GPU. data: the fingerprint of the
    data, which a checkpoint has to share.
    Raises InputError when the table is too small for the configuration, or its validation videos have no ground truth.
    """

    def __init__(
        self,
        config: Config,
        table: ClipTable,
        split: Split,
        detects: Sequence[Detect] | None = None,
        beside: Sequence[Detect] = (),
        every_epoch: bool | None = None,
        alone: bool = False,
        ahead: bool | None = None,
        data: str = "",
    ):
        check_truth(table.annotations, split.validation)
        self._data = data
        self.config, self.table, self.split = config, table, split
        self.every_epoch = config.eval.epoch == "best" if every_epoch is None else every_epoch
        self.epoch = 0
        self.best: Best | None = None
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.device = choose_device(config.device)
        set_products(config.precision, self.device)
        self._num_clips = table.num_clips[split.train]
        # One buffer for all batches: fresh arrays leave holes in the heap, which is each trial's own memory.
        method = method_of(config)
        most = most_clips(self._num_clips, config.optim.batch_videos, method.repeats)
        stays = alone and (table.is_on(self.device) or has_room(self.device, table.nbytes))
        self._feed = Feed(table, self.device, most, table.on(self.device) if stays else None)
        torch.manual_seed(config.seed)
        known = told(config.supervision, table.annotations, split.train, table.num_clips, table.dim)
        self.method = method(config, known, self._feed, self.device)
        self.model = self.method.network
        steps = -(-len(self.method.order(1)) // config.optim.batch_videos)
        self._optimiser = Optimiser(self.model.parameters(), config.optim, steps)
        self._fixed = self.fixed_steps(graphs=True) if self.device.type == "cuda" and method.repeatable else None
        scored = (table.annotations, split.validation, table.num_clips[split.validation], config.eval.tiou)
        threads = config.threads or torch.get_num_threads()
        self._scorer = Scorer(*scored, method.detector, detects or [config.detect], beside, threads)
        ahead = self.device.type == "cuda" if ahead is None else ahead
        self._aside = ThreadPoolExecutor(1) if ahead and self.every_epoch else None
        self._next: _Trained | Exception | None = None
        self._ended: State | None = None  # of the epoch before the one that is trained already
        self._closed = False

    def epochs(self) -> Iterator[EpochResult]:
        """Trains the epochs that are left, one result each."""
        while self.epoch < self.config.optim.epochs:
            yield self.train_epoch()

    def train_epoch(self) -> EpochResult:
        """One epoch: what the method renews when due, training, evaluation. Raises TrainingError on a NaN loss."""
        trained, self._next = self._next or self._trained(self.epoch + 1), None
        if isinstance(trained, Exception):
            raise trained
        epoch = trained.result.epoch
        if self._aside is not None and epoch < self.config.optim.epochs:
            self._next = self._tried(epoch + 1)
        result = trained.result if trained.scores is None else self._scored(trained, trained.scores())
        self.epoch = epoch
        self._ended = trained.state and replace(trained.state, best=self.best)
        return result

    def close(self) -> None:
        """Gives up what was begun of an epoch that nobody wants any more."""
        self._closed = True
        if self._aside is not None:
            self._aside.shutdown(cancel_futures=True)

    def _tried(self, epoch: int) -> _Trained | Exception:
        """An error belongs to its own epoch: the one before still has its result."""
        try:
            return self._trained(epoch)
        except Exception as error:
            return error

    def _trained(self, epoch: int) -> _Trained:
        """Trains an epoch, and has it scored where that is due."""
        marks = [time.perf_counter()]
        torch.manual_seed(mix_seed(self.config.seed, epoch))
        if not self.method.is_ready or (epoch - 1) % self.config.period == 0:
            self.method.renew(epoch)
            if self.config.restarts and epoch > 1:
                self._restart()
        marks.append(time.perf_counter())
        means = self._train(epoch)
        marks.append(time.perf_counter())
        seconds = {"cluster": marks[1] - marks[0], "train": marks[2] - marks[1]}
        result = EpochResult(epoch=epoch, losses=means, seconds=seconds, empty_clusters=self.method.empty_clusters)
        if not self._is_scored(epoch):
            return _Trained(result) if self._aside is None else _Trained(result, None, self._state(epoch).copied())
        with self._averaged() as averaged:
            cas = self._scorer.activations(self.model, self._feed.blocks(self.split.validation))
        seconds["detect"] = time.perf_counter() - marks[2]
        if self._aside is None:
            found = self._scorer.score(cas)
            return _Trained(result, lambda: found, averaged=averaged)
        scores = self._aside.submit(self._scorer.score, cas, lambda: self._closed).result
        return _Trained(result, scores, self._state(epoch).copied(), self.method.kept(), averaged)

    def _restart(self) -> None:
        """Fresh weights, drawn from PyTorch's generator, where graphs read them; and nothing known of any step."""
        fresh = self.method.build(self.config, self.table.dim, len(self.table.annotations.fine_names))
        self.model.load_state_dict(fresh.state_dict())
        self._optimiser.restart()

    @contextmanager
    def _averaged(self) -> Iterator[dict[str, Tensor] | None]:
        """Within it the network has its averaged weights, which are given; where none are kept, None and its own."""
        averages = self._optimiser.averages()
        if averages is None:
            yield None
            return
        last = [parameter.detach().clone() for parameter in self._optimiser.parameters]
        self._put(averages)
        try:
            yield cloned(self.model.state_dict())
        finally:
            self._put(last)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        """Weights into the memory where graphs read them."""
        for parameter, value in zip(self._optimiser.parameters, values, strict=True):
            parameter.copy_(value)

    def _is_scored(self, epoch: int) -> bool:
        one_in = self.config.eval.every
        return epoch == self.config.optim.epochs or (self.every_epoch and epoch % one_in == 0)

    def _scored(self, trained: _Trained, found: Scored) -> EpochResult:
        """The result of an epoch with its scores; its weights are kept where they are the best."""
        result = trained.result
        self._keep(trained, found.chosen, found.avg_map[found.chosen])
        return replace(
            result,
            avg_map=found.avg_map,
            chosen=found.chosen,
            map_by_tiou=tuple(found.score.map.tolist()),
            map=report(found.score, self.config.eval.report),
            detections=found.detections,
            seconds=result.seconds | found.seconds | {"detect": result.seconds["detect"] + found.seconds["detect"]},
            collapsed=found.collapsed,
        )

    def _train(self, epoch: int) -> dict[str, float]:
        order = self.method.order(epoch)
        steps = self.begin(order, epoch)
        # The losses stay on the device: reading each step's would make the host wait for it.
        if self._fixed is None:
            history = torch.stack([self.train_step(step) for step in range(steps)])
        else:
            history = self._fixed.epoch(self._schedule, self._columns, self.split.train[order], self._rates)
        return self._means(epoch, history.cpu(), len(order))

    def fixed_steps(self, graphs: bool) -> FixedSteps:
        """Steps in fixed shapes, as CUDA graphs or kernel by kernel: those of `train_step` but for rounding."""
        shapes = capacities(self._num_clips, self.config.optim.batch_videos, repeats=self.method.repeats)
        return FixedSteps(self.method, self._optimiser, self._feed, shapes, graphs)

    def begin(self, order: IntArray, epoch: int = 1) -> int:
        """Makes ready for an epoch's steps on some videos, by their positions among those of training; how many steps.

        The method must be ready.
        """
        self.model.train()
        self._schedule = Schedule(order, self._num_clips, self.config.optim.batch_videos, self.device)
        self._columns = self.method.columns(self._schedule)
        restart = self.config.period if self.config.restarts else None
        rates = learning_rates(self.config.optim, epoch, len(self._schedule), restart)
        self._rates = None if rates is None else torch.tensor(rates, dtype=torch.float32, device=self.device)
        return len(self._schedule)

    def train_step(self, step: int) -> Float[Tensor, " losses"]:
        """One step of those that `begin` made ready, by its number from 0; the losses as the method names them."""
        schedule = self._schedule
        clips = self._feed.videos(self.split.train[schedule.order[schedule.videos(step)]])
        values, total = self.method.batch_losses(clips, schedule.rows(self._columns, step), None)
        self._optimiser.forget_gradients()
        total.backward()
        self._optimiser.step(None if self._rates is None else self._rates[step])
        return values

    def _means(self, epoch: int, history: Float[Tensor, "steps losses"], videos: int) -> dict[str, float]:
        names = self.method.losses
        bad = (~torch.isfinite(history) & torch.tensor(self.method.counts())).nonzero()
        if len(bad):
            step, which = bad[0].tolist()
            value = float(history[step, which])
            raise TrainingError(f"loss {names[which]} is {value} in epoch {epoch}, step {step + 1}")
        means = history.double().sum(dim=0) / videos
        return dict(zip(names, means.tolist(), strict=True))

    def _keep(self, trained: _Trained, chosen: int, avg_map: float) -> None:
        if self.best is None or avg_map > self.best.avg_map or self.config.eval.epoch == "last":
            last = self.model.state_dict() if trained.state is None else trained.state.network
            weights = last if trained.averaged is None else trained.averaged
            kept = self.method.kept() if trained.kept is None else trained.kept
            self.best = Best(trained.result.epoch, chosen, avg_map, copied(weights), kept)

    def save(self, path: Path) -> None:
        """Writes everything that `load` needs to go on as if never stopped: one safetensors file."""
        write_state(path, self._ended or self._state(self.epoch), self._identity(), self._data)

    def _state(self, epoch: int) -> State:
        """As all is now, after so many epochs; training goes on to change it."""
        return State(epoch, self.model.state_dict(), self._optimiser.state, self.method.state(), self.best)

    def load(self, path: Path) -> None:
        """Takes up a run where `save` left it. Raises InputError when the file is of another run or damaged."""
        checked(path, lambda: self._take_up(read_state(path, self._identity(), self._data)))

    def _take_up(self, state: State) -> None:
        # What the method refuses, it refuses first: a refused checkpoint leaves the trainer as it was.
        self.method.restore(state.method)
        self.model.load_state_dict(state.network)
        self._optimiser.load(state.moments)
        if self._fixed is not None:
            self._fixed.forget()
        self.best, self.epoch = state.best, state.epoch
        self._next = self._ended = None

    def _identity(self) -> str:
        """What has to be equal for a checkpoint to fit: configuration, but not where its data lie, and detection.

        How products of float32 are rounded differs between machines anyway, and older versions knew float32 alone.
        """
        precision = "bfloat16" if self.config.precision == "bfloat16" else "float32"
        anywhere = replace(self.config, data=replace(self.config.data, root="anywhere"), precision=precision)
        return dump(anywhere) + "".join(dump(detect) for detect in (*self._scorer.detects, *self._scorer.beside))


@dataclass(frozen=True)
class FileBytes:
    """About how large the files of a training are. state: what it goes on from. weights: its result."""

    state: int
    weights: int


def file_bytes(config: Config, dim: int, num_fine: int, num_clips: int, settings: int) -> FileBytes:
    """Those of a configuration, for so many training clips [clips, dim], fine classes and detection settings."""
    method = method_of(config)
    with torch.device("meta"):
        network = method.build(config, dim, num_fine)
    weights, optimiser = network.state_dict(), Optimiser(network.parameters(), config.optim)
    kept, state = method.outline(config, network, num_clips)
    optimiser.begin()
    best = Best(0, 0, 0.0, weights, kept)
    identity = len(dump(config)) + settings * len(dump(config.detect))
    whole = State(0, weights, optimiser.state, state, best)
    return FileBytes(tensor_bytes(whole.tensors) + identity, tensor_bytes(best.tensors))
