"""The timed epoch of a dry run: what is timed of how much, and that it is scaled to what a trial of all clips takes."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution

from haan.config import Data
from haan.data.table import Split, pack
from haan.methods.haan.config import Concepts, HaanConfig
from search.driver import timing
from search.driver.job import Job, preview
from search.driver.nodes import Cluster, Node
from search.driver.placement import Share
from search.driver.request import Request
from search.driver.timing import (
    Amounts,
    Sampled,
    amounts,
    epoch_s,
    method_parts,
    sample_part,
    scaled,
    small_sample,
    thin,
)
from search.results.folder import RunFolder
from search.space.model import with_values
from tests.search.spaces import tiny_space


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.chdir(tmp_path)
    return preview(
        Request(tiny_space(tmp_path), "a", tmp_path / "runs", None, None, (), False), RunFolder(tmp_path / "s" / "run")
    )


def test_videos_are_thinned_evenly_and_in_proportion() -> None:
    few = thin(Split(np.arange(100, 140), np.arange(7)), 0.1)
    assert few.train.tolist() == [100, 110, 120, 130]
    assert few.validation.tolist() == [0], "at least one"
    whole = Split(np.array([3, 5, 8]), np.array([1, 2]))
    assert [one.tolist() for one in vars(thin(whole, 1.0)).values()] == [[3, 5, 8], [1, 2]]


def test_a_sample_is_as_large_as_allowed_or_as_the_clusters_need(job: Job) -> None:
    assert sample_part(job) == 1.0
    assert sample_part(job, job.feature_bytes // 2) == pytest.approx(0.5, abs=0.01)
    smallest = sample_part(job, 1)
    train, sizes = job.split, job.source.num_clips
    assert sizes[thin(train, smallest).train].sum() >= job.space.base.concepts.clusters
    assert smallest < 0.5


def clustering(**concepts: Any) -> HaanConfig:
    return HaanConfig(data=Data(root="none", features="none", train_videos=1), concepts=Concepts(**concepts))


def test_clips_are_counted() -> None:
    sizes = np.array([10, 20, 30, 41])
    split, half = Split(np.array([0, 3]), np.array([1])), clustering(sample_rate=0.5)
    assert amounts(sizes, split, half) == Amounts(train=51, validation=20, fitted=25)


@pytest.mark.parametrize(("method", "fitted"), [("kmeans", 100_000), ("gmm", 32_768), ("birch", 32_768)])
def test_only_so_many_clips_are_fitted_as_the_method_takes(method: Any, fitted: int) -> None:
    sizes, split = np.array([1_000_000, 10]), Split(np.array([0]), np.array([1]))
    assert amounts(sizes, split, clustering(method=method, sample_rate=0.1)).fitted == fitted


def test_phases_grow_with_what_they_work_on() -> None:
    few, full = Amounts(train=100, validation=40, fitted=50), Amounts(train=1000, validation=60, fitted=80)
    seconds = {"cluster": 1.0, "train": 2.0, "detect": 4.0, "score": 6.0}
    # A fit of 50 clips took 0.6 s more than one of 20, so a clip 0.02 s: 1 s of fit, nothing else; now 80 of them.
    found = scaled(seconds, few, full, Sampled(fitted=20, cluster_s=0.4))
    assert found == pytest.approx({"cluster": 1.6, "train": 20.0, "detect": 6.0, "score": 9.0})
    # 0.3 s more: a clip 0.01 s, 0.5 s of fit, and 0.5 s for all 100 clips, of which there are 1000.
    assert scaled(seconds, few, full, Sampled(20, 0.7))["cluster"] == pytest.approx(0.8 + 5.0)
    # As long with fewer clips: no fit to speak of. And without a second timing all may be the clips'.
    assert scaled(seconds, few, full, Sampled(20, 1.0))["cluster"] == pytest.approx(10.0)
    assert scaled(seconds, few, full)["cluster"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("fitted", "clusters", "small"), [(30_000, 500, 2000), (3000, 500, 1500), (1000, 500, 500), (999, 500, None)]
)
def test_a_second_sample_is_small_but_has_clips_for_all_clusters(fitted: int, clusters: int, small: int | None) -> None:
    assert small_sample(fitted, clusters) == small


# Seconds that a clip takes to fit and to encode and assign, where k-means is quick on both and the others on neither.
COSTS = {"kmeans": (0.002, 0.001), "gmm": (0.3, 0.004), "birch": (0.05, 0.016)}


@pytest.mark.parametrize("rate", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("part", [1.0, 0.25])
@pytest.mark.parametrize("method", COSTS)
def test_the_time_of_a_clustering_is_its_own_method_s_however_many_clips_are_timed(
    method: str, part: float, rate: float, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = np.full(len(job.source.num_clips), 8000)
    source: Any = SimpleNamespace(num_clips=sizes)
    large, split = replace(job, source=source), thin(job.split, part)
    base = with_values(job.space.base, {"concepts.method": method, "concepts.sample_rate": rate})

    def seconds(config: HaanConfig, of: Split) -> dict[str, float]:
        fit_s, rest_s = COSTS[method]
        counts = amounts(sizes, of, config)
        return {"cluster": counts.fitted * fit_s + counts.train * rest_s, "train": counts.train * 0.1}

    monkeypatch.setattr(timing, "_mean_epoch", lambda timers, config: seconds(config, split))
    assert timing._time(large, [], base, split) == pytest.approx(seconds(base, job.split))


def test_methods_count_as_often_as_trials_have_them(job: Job) -> None:
    assert method_parts(job.space) == {"kmeans": 1.0}
    methods = CategoricalDistribution(["gmm", "kmeans"])
    either = replace(job.space, parameters={**job.space.parameters, "concepts.method": methods})
    assert method_parts(either) == {"gmm": 0.5, "kmeans": 0.5}
    grid = replace(job.space.sampler, name="grid")
    rows = {"a": {"concepts.method": "gmm"}, "b": {"concepts.method": "kmeans"}, "c": {"concepts.method": "kmeans"}}
    table = replace(job.space, sampler=grid, parameters={"concepts.method": methods}, rows=rows)
    assert method_parts(table) == {"gmm": pytest.approx(1 / 3), "kmeans": pytest.approx(2 / 3)}
    other = {"d": {"concepts.method": None, "method": "wtalc"}}  # a method that has no such key
    rows = {name: row | {"method": "haan"} for name, row in rows.items()} | other
    assert method_parts(replace(table, rows=rows)) == method_parts(table)


@pytest.mark.parametrize("method", COSTS)
def test_an_epoch_is_timed_by_its_phases_with_every_method(
    method: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "_TIMED_S", 0)
    table, config = pack(job.source, job.annotations, "float16"), job.space.base
    timer = timing._Timer(table, job.split, job.space.detects)
    timer.warm_up(timing._by(method, config))
    assert set(timer.mean_epoch(timing._by(method, config))) == {"cluster", "train", "detect", "score"}
    warm = with_values(config, {"concepts.warm_start": True})
    assert timing._by(method, warm).concepts.warm_start == (method == "kmeans")


def test_a_mean_epoch_has_its_share_of_the_clustering() -> None:
    # 30 + 2 + 3 + 6 / 5
    assert epoch_s({"cluster": 6.0, "train": 30.0, "detect": 2.0, "score": 3.0}, 5) == pytest.approx(36.2)
    # scored one in four: 30 + 5 / 4 + 6 / 5
    assert epoch_s({"cluster": 6.0, "train": 30.0, "detect": 2.0, "score": 3.0}, 5, 4) == pytest.approx(32.45)


class _Ray:
    """Stands in for Ray: an actor that is killed ends as soon as somebody waits for it."""

    def __init__(self) -> None:
        self.alive: list[object] = []
        self.killed: list[object] = []

    def remote(self, **resources: object) -> object:
        return lambda kind: SimpleNamespace(remote=self._start)

    def _start(self, *arguments: object) -> object:
        self.alive.append(SimpleNamespace(host=SimpleNamespace(remote=lambda: "answer")))
        return self.alive[-1]

    def put(self, value: object) -> object:
        return value

    def kill(self, actor: object) -> None:
        self.killed.append(actor)

    def wait(self, answers: list[object], num_returns: int, timeout: float) -> None:
        assert len(answers) == num_returns
        self.alive = [one for one in self.alive if one not in self.killed]


@pytest.mark.parametrize("fails", [False, True])
def test_what_timed_has_ended_before_its_ray_may(job: Job, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    ray = _Ray()
    monkeypatch.setattr(timing, "ray", ray)
    monkeypatch.setattr(timing, "avoided", lambda share, size: {})
    there = Node("a", "lab", {"CPU": 3.0, "object_store_memory": 1e12})
    started = timing._timers(job, Cluster((there,), local=True), Share(3, 1, 0), job.split)
    with pytest.raises(RuntimeError) if fails else nullcontext(), started as timers:
        assert ray.alive == timers and len(timers) == 3
        if fails:
            raise RuntimeError("a loss that is not a number")
    assert ray.alive == [] and ray.killed == timers
