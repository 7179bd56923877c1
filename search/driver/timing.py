"""An epoch of the base, timed where trials would run: on a part of the clips, and scaled to all of them."""

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from haan.config import Config, Detect
from haan.data.table import ClipTable, IntArray, Split, read_checked
from haan.errors import InputError, TrainingError
from haan.methods.haan.clustering import most_clips, sample_size
from haan.methods.haan.config import HaanConfig
from haan.train import Trainer
from search.driver.job import Job
from search.driver.nodes import Cluster
from search.driver.placement import Share, avoided, places, used
from search.space.model import Space, ends_of, grid_points, with_values

_SAMPLE_BYTES = 256 * 2**20  # of features, for the timed epoch
_MOST_TIMED = 8  # epochs timed at once
_TIMED_S = 2  # a shorter epoch is followed by more, for their mean
_ENDED_S = 30  # within which a killed process is known to have ended


@dataclass(frozen=True)
class Amounts:
    """Clips that an epoch trains on, scores, and fits clusters on: none where the method has no clusters."""

    train: int
    validation: int
    fitted: int


@dataclass(frozen=True)
class Sampled:
    """A clustering with another sample: of so many clips, in so many seconds."""

    fitted: int
    cluster_s: float


@dataclass(frozen=True)
class Timed:
    """An epoch: on which hosts, and seconds by phase; of clustering, those of an epoch that clusters.

    clustering: its seconds by method. The phases are means over the trials, that have some of each method.
    """

    where: str
    seconds: Mapping[str, float]
    clustering: Mapping[str, float]


def sample_part(job: Job, most: int = _SAMPLE_BYTES) -> float:
    """Which part of the videos the timed epoch sees: few enough for `most` bytes, but enough for the clusters."""
    split, base = job.split, job.space.base
    clusters = base.concepts.clusters if isinstance(base, HaanConfig) else 1
    part = min(1.0, most / job.feature_bytes)
    while part < 1 and int(job.source.num_clips[thin(split, part).train].sum()) < clusters:
        part = min(1.0, 2 * part)
    return part


def thin(split: Split, part: float) -> Split:
    """A part of the videos of each side, at least one, evenly spread."""
    return Split(*(_spread(videos, max(1, round(part * len(videos)))) for videos in (split.train, split.validation)))


def _spread(videos: IntArray, count: int) -> IntArray:
    return videos[np.arange(count) * len(videos) // count]


def time_epoch(job: Job, cluster: Cluster, share: Share, part: float) -> Timed:
    """An epoch of the base on all clips, timed on a part of the videos, and scaled.

    As many epochs as the search would run at once, but at most 8, are timed side by side; with each method of
    clustering that trials have, for one says nothing of another. Raises InputError where the base can't be trained.
    """
    split, methods = thin(job.split, part), method_parts(job.space)
    with _timers(job, cluster, share, split) as timers:
        epochs = {method: _time(job, timers, share.pinned(_by(method, job.space.base)), split) for method in methods}
        hosts = _ask(timers, lambda timer: timer.host.remote())
    phases = next(iter(epochs.values()))
    mean = {phase: sum(methods[method] * epochs[method][phase] for method in methods) for phase in phases}
    return Timed(", ".join(sorted(set(hosts))), mean, {method: epoch["cluster"] for method, epoch in epochs.items()})


def method_parts(space: Space) -> dict[str, float]:
    """The methods of clustering that trials have, each with its part of them; one without a name where none cluster.

    Where rows are of several methods, of those that cluster so: the base's time stands for the others.
    """
    key = "concepts.method"
    if key not in space.parameters:
        return {space.base.concepts.method if isinstance(space.base, HaanConfig) else "": 1.0}
    values = [point[key] for point in grid_points(space)] or ends_of(space.parameters[key])
    values = [method for method in values if method is not None]
    return {str(method): count / len(values) for method, count in Counter(values).items()}


def _by(method: str, config: Config) -> Config:
    """A configuration that clusters by another method, and scores each epoch."""
    if not isinstance(config, HaanConfig):
        return with_values(config, {"eval.every": 1})
    warm_start = config.concepts.warm_start and method == "kmeans"  # no other may
    return with_values(config, {"concepts.method": method, "concepts.warm_start": warm_start, "eval.every": 1})


@contextmanager
def _timers(job: Job, cluster: Cluster, share: Share, split: Split) -> Iterator[list[Any]]:
    """Processes to time in, where trials would run; they have ended when this does, and whatever they were at."""
    timer: Any = ray.remote(num_cpus=share.cpu, num_gpus=share.gpu, scheduling_strategy="SPREAD")(_Timer)
    kept_off = avoided(share, job.feature_bytes)
    timer = timer.options(label_selector=kept_off) if kept_off else timer
    there = sum(places(node.resources, share.cpu, share.gpu) for node in used(cluster, share, job.feature_bytes))
    count = max(1, min(share.concurrent, there, _MOST_TIMED))  # one is enough to have a node started
    table = ray.put(_packed(job, split))
    timers = [timer.remote(table, split, job.space.detects) for _ in range(count)]
    try:
        yield timers
    finally:
        # A Ray that is shut down while they end by themselves has crashed on a busy machine.
        for one in timers:
            ray.kill(one)
        ray.wait([one.host.remote() for one in timers], num_returns=count, timeout=_ENDED_S)  # each raises once it did


def _time(job: Job, timers: Sequence[Any], config: Config, split: Split) -> dict[str, float]:
    """Seconds by phase of an epoch on all clips, from epochs on a part of them."""
    sizes = job.source.num_clips
    full, train = amounts(sizes, job.split, config), int(sizes[split.train].sum())
    if not isinstance(config, HaanConfig):
        return scaled(_mean_epoch(timers, config), amounts(sizes, split, config), full)
    # Where it can be, clusters are fitted on as many clips as in the search.
    config = sampling(config, full.fitted, train)
    few = amounts(sizes, split, config)
    seconds, fitted = _mean_epoch(timers, config), small_sample(few.fitted, config.concepts.clusters)
    if few.train == full.train or fitted is None:
        return scaled(seconds, few, full)
    cluster_s = _mean_epoch(timers, sampling(config, fitted, train))["cluster"]
    return scaled(seconds, few, full, Sampled(fitted, cluster_s))


def _mean_epoch(timers: Sequence[Any], config: Config) -> dict[str, float]:
    _ask(timers, lambda timer: timer.warm_up.remote(config))  # so that none is timed while another still starts
    found = _ask(timers, lambda timer: timer.mean_epoch.remote(config))
    return {phase: float(np.mean([one[phase] for one in found])) for phase in found[0]}


def _ask(timers: Sequence[Any], question: Callable[[Any], Any]) -> list[Any]:
    """What all of them answer. Raises InputError where the base can't be trained."""
    try:
        return ray.get([question(timer) for timer in timers])
    except RayError as error:
        if isinstance(error, RayTaskError) and isinstance(error.cause, TrainingError | InputError):
            raise InputError(f"base: must train for an epoch, got: {error.cause}") from None
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"search.resources: must let the base train for an epoch, got {reason}") from None


def amounts(num_clips: IntArray, split: Split, config: Config) -> Amounts:
    """The clips of a split."""
    train, validation = int(num_clips[split.train].sum()), int(num_clips[split.validation].sum())
    if not isinstance(config, HaanConfig):
        return Amounts(train, validation, 0)
    most, fitted = most_clips(config.concepts), sample_size(train, config.concepts.sample_rate)
    return Amounts(train, validation, fitted if most is None else min(fitted, most))


def sampling(config: HaanConfig, fitted: int, num_clips: int) -> HaanConfig:
    """A configuration that fits clusters on so many of a number of clips, or on all."""
    return with_values(config, {"concepts.sample_rate": min(1.0, (fitted + 0.5) / num_clips)})


def small_sample(fitted: int, clusters: int) -> int | None:
    """How many clips to fit clusters on, beside `fitted`, to see what a fit takes; None where there are too few.

    With four times as many clips as clusters, each method finds all of them, and birch about as many sub-clusters as
    ever, which its assignment grows with.
    """
    small = max(clusters, min(4 * clusters, fitted // 2))
    return small if 2 * small <= fitted else None


def scaled(
    seconds: Mapping[str, float], few: Amounts, full: Amounts, sampled: Sampled | None = None
) -> dict[str, float]:
    """Seconds by phase, from some of the clips to all of them.

    Of clustering, the fit grows with its sample, and the rest (encoding, assigning) with all clips. `sampled`, the same
    with a smaller sample, tells the two apart, whatever the method; without it all is taken to grow with all clips.
    """
    fit_s, rest_s, fitted = 0.0, seconds["cluster"], 1.0
    if sampled is not None:
        fitted = full.fitted / few.fitted
        clip_s = max(0.0, seconds["cluster"] - sampled.cluster_s) / (few.fitted - sampled.fitted)
        fit_s, rest_s = few.fitted * clip_s, max(0.0, sampled.cluster_s - sampled.fitted * clip_s)
    train, validation = full.train / few.train, full.validation / few.validation
    rest = {phase: value * (train if phase == "train" else validation) for phase, value in seconds.items()}
    return rest | {"cluster": fit_s * fitted + rest_s * train}


def _packed(job: Job, split: Split) -> ClipTable:
    """The clips of these videos alone; the others are left empty, so that the annotations fit as they are."""
    source, dtype = job.source, job.space.base.data.dtype
    videos = np.sort(np.concatenate([split.train, split.validation]))
    values = np.concatenate([read_checked(source, one, one + 1, dtype, job.annotations) for one in videos.tolist()])
    sizes = np.zeros_like(source.num_clips)
    sizes[videos] = source.num_clips[videos]
    return ClipTable((values,), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), job.annotations)


class _Timer:
    """The base in a process of its own, as a trial has one."""

    def __init__(self, table: ClipTable, split: Split, detects: Sequence[Detect]):
        self._table, self._split, self._detects = table, split, detects

    def host(self) -> str:
        """Where it runs."""
        return socket.gethostname()

    def warm_up(self, config: Config) -> None:
        """An epoch of a few videos: libraries start slowly."""
        train, enough = self._split.train, 1
        if isinstance(config, HaanConfig):
            enough += int(np.searchsorted(np.cumsum(self._table.num_clips[train]), config.concepts.clusters))
            config = replace(config, concepts=replace(config.concepts, sample_rate=1.0))
        few = Split(train[: max(enough, 2 * config.optim.batch_videos)], self._split.validation[:1])
        Trainer(config, self._table, few, self._detects, every_epoch=True, ahead=False).train_epoch()

    def mean_epoch(self, config: Config) -> dict[str, float]:
        """Seconds by phase; of clustering, those of an epoch that clusters."""
        trainer = Trainer(config, self._table, self._split, self._detects, every_epoch=True, ahead=False)
        epochs = [trainer.train_epoch().seconds]
        while sum(sum(one.values()) for one in epochs) < _TIMED_S:
            epochs.append(trainer.train_epoch().seconds)
        mean = {phase: float(np.mean([one[phase] for one in epochs])) for phase in epochs[0]}
        clustering = [one["cluster"] for one in epochs[:: config.period]]
        return mean | {"cluster": float(np.mean(clustering))}


def epoch_s(seconds: Mapping[str, float], period: int, scored_one_in: int = 1) -> float:
    """A mean epoch: every one trains, one a period clusters, and one in so many is scored."""
    scoring = seconds["detect"] + seconds["score"]
    return sum(seconds.values()) - seconds["cluster"] * (1 - 1 / period) - scoring * (1 - 1 / scored_one_in)
