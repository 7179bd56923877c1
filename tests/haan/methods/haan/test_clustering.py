"""Pseudo labels."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import Birch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from haan.checked import RuleError
from haan.errors import InputError
from haan.methods.haan import clustering
from haan.methods.haan.clustering import FitError
from haan.methods.haan.config import Concepts

GMM, BIRCH = Concepts(clusters=12, top_k=1, method="gmm"), Concepts(clusters=12, top_k=1, method="birch")


def blobs(num: int = 300, width: int = 8, centres: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middle = 10 * rng.standard_normal((centres, width))
    of = rng.integers(centres, size=num)
    return (middle[of] + 0.1 * rng.standard_normal((num, width))).astype(np.float32), of


def test_no_cluster_mixes_separate_blobs() -> None:
    clips, of = blobs()
    centroids = clustering.fit_kmeans(clips, 20, seed=3)
    found = clustering.assign([clips], centroids, len(clips)).labels
    assert all(len(set(of[found == cluster])) == 1 for cluster in np.unique(found))


def test_assignment_is_the_nearest_centroid_block_by_block() -> None:
    clips, _ = blobs()
    centroids = clustering.fit_kmeans(clips, 20, seed=0)
    plain = np.square(clips[:, None] - centroids[None]).sum(axis=2).argmin(axis=1)
    found = clustering.assign([clips[:7], clips[7:200], clips[200:]], centroids, len(clips))
    assert np.array_equal(found.labels, plain)
    assert np.allclose(found.frequency, np.bincount(plain, minlength=20) / len(clips))


def test_seed_decides() -> None:
    clips, _ = blobs()
    first, again, other = (clustering.fit_kmeans(clips, 20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_start_at_the_centres_stays_there_under_any_seed() -> None:
    clips, of = blobs()
    centres = np.stack([clips[of == i].mean(axis=0) for i in range(5)])
    for seed in (1, 2):
        found = clustering.fit_kmeans(clips, 5, seed=seed, start=centres)
        np.testing.assert_allclose(found, centres, atol=1e-4)


def test_fewer_distinct_clips_than_clusters_leave_some_empty_and_all_finite() -> None:
    clips = np.repeat(np.eye(3, 8, dtype=np.float32), 10, axis=0)
    centroids = clustering.fit_kmeans(clips, 12, seed=0)
    found = clustering.assign([clips], centroids, len(clips))
    assert np.isfinite(centroids).all()
    assert found.frequency.sum() == pytest.approx(1) and (found.frequency == 0).any()
    # Clips that are the same share a cluster.
    assert all(len(set(found.labels[i : i + 10])) == 1 for i in (0, 10, 20))


def test_as_many_clusters_as_clips_works_and_one_more_is_an_error() -> None:
    clips, _ = blobs(num=10)
    assert clustering.fit_kmeans(clips, 10, seed=0).shape == (10, 8)
    clustering.check_sample(100, 0.1, 10)
    with pytest.raises(InputError, match=r"concepts.sample_rate 0.1 of 100 training clips = 10\), got 11"):
        clustering.check_sample(100, 0.1, 11)


def test_sample_has_no_clip_twice_and_the_right_size() -> None:
    chosen = clustering.draw_sample(1000, 0.03, np.random.default_rng(0))
    assert len(chosen) == 30 == len(set(chosen)) and np.array_equal(chosen, np.sort(chosen))


def test_unassigned_clips_are_never_passed_over() -> None:
    clips, _ = blobs(num=10)
    with pytest.raises(ValueError, match="9 of 10 clips were assigned"):
        clustering.assign([clips[:9]], clips[:2], 10)


def cloud(num: int = 400, width: int = 6, scale: float = 1.0) -> np.ndarray:
    """Clips of 12 groups that overlap, so that which of them a clip belongs to is no matter of course."""
    rng = np.random.default_rng(5)
    middle = 1.5 * rng.standard_normal((12, width))
    return (scale * (middle[rng.integers(12, size=num)] + rng.standard_normal((num, width)))).astype(np.float32)


def labels_of(clips: np.ndarray, setting: Concepts, seed: int = 0) -> np.ndarray:
    """Fitted on the first 300 clips; the labels of all, in blocks."""
    fitted = clustering.fit(clips[:300], setting, seed)
    return fitted.assign([clips[:7], clips[7:350], clips[350:]], len(clips)).labels


@pytest.mark.parametrize("seed", [0, 1])
def test_gmm_labels_are_scikit_learns_own(seed: int) -> None:
    clips = cloud()
    own = GaussianMixture(12, covariance_type="diag", random_state=seed)
    fitted = own.fit_predict(clips[:300].astype(np.float64))
    assert own.n_iter_ > 2 * 5, "more than one stretch of ours"
    found = labels_of(clips, GMM, seed)
    assert np.array_equal(found[:300], fitted)
    assert np.array_equal(found, own.predict(clips.astype(np.float64)))
    assert len(set(found)) == 12


def test_gmm_stops_where_scikit_learn_stops_without_having_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "_EM_ITERATIONS", 10)
    clips = cloud()
    own = GaussianMixture(12, covariance_type="diag", random_state=0, max_iter=10)
    with pytest.warns(ConvergenceWarning):
        own.fit(clips[:300].astype(np.float64))
    assert np.array_equal(labels_of(clips, GMM), own.predict(clips.astype(np.float64)))


def threshold_of(clips: np.ndarray, clusters: int) -> float:
    """The documented rule, written down plainly."""
    low, high, best = 0.0, np.sqrt(np.square(clips - clips.mean(axis=0)).sum(axis=1).mean()), (0, 0.0)
    for _ in range(16):
        middle = (low + high) / 2
        count = len(Birch(threshold=middle, n_clusters=None).fit(clips).subcluster_centers_)
        if count > 4 * clusters:
            low = middle
            continue
        high, best = middle, max(best, (count, middle))
        if count >= clusters:
            break
    return best[1]


@pytest.mark.parametrize("scale", [0.001, 1.0, 100.0])
def test_birch_labels_are_scikit_learns_own_at_a_threshold_that_follows_the_scale(scale: float) -> None:
    clips = cloud(scale=scale)
    exact = clips.astype(np.float64)
    threshold = threshold_of(exact[:300], 12)
    own = Birch(threshold=threshold, n_clusters=12)
    fitted = own.fit_predict(exact[:300])
    found = labels_of(clips, BIRCH)
    assert np.array_equal(found[:300], fitted) and np.array_equal(found, own.predict(exact))
    assert len(set(found)) == 12, "at scikit-learn's default of 0.5 one scale gives 1 cluster, another one 300"


def test_birch_finds_its_clusters_where_many_clips_lie_far_out() -> None:
    """At the sample's radius each of the far ones is still a sub-cluster of its own, and they are more than 4 N."""
    rng = np.random.default_rng(0)
    far = rng.normal(size=(60, 64))
    far *= 100 / np.linalg.norm(far, axis=1, keepdims=True)
    clips = np.concatenate([far, rng.normal(size=(2000, 64)) * 0.1]).astype(np.float32)  # the far ones come first
    exact = clips.astype(np.float64)
    radius = np.sqrt(np.square(exact - exact.mean(axis=0)).sum(axis=1).mean())
    assert len(Birch(threshold=radius, n_clusters=None).fit(exact).subcluster_centers_) > 4 * 12
    fitted = clustering.fit(clips, BIRCH, 0)
    assert fitted.centroids.shape == (12, 64) and fitted.assign([clips], len(clips)).empty == 0


def test_where_birch_finds_fewer_the_rest_is_empty_and_all_is_said() -> None:
    clips = np.repeat(np.eye(5, 8, dtype=np.float32), 40, axis=0)
    fitted = clustering.fit(clips, BIRCH, 0)
    found = fitted.assign([clips], len(clips))
    assert fitted.centroids.shape == (5, 8) and found.frequency.shape == (12,)
    assert found.empty == 7 and found.frequency.tolist() == pytest.approx([0.2] * 5 + [0.0] * 7)
    assert all(len(set(found.labels[i : i + 40])) == 1 for i in range(0, 200, 40))


@pytest.mark.parametrize("setting", [GMM, BIRCH])
def test_equal_clips_are_one_cluster_and_no_error(setting: Concepts) -> None:
    clips = np.full((50, 4), 0.3, dtype=np.float32)
    found = clustering.fit(clips, setting, 0).assign([clips], 50)
    assert len(set(found.labels)) == 1 and found.empty == 11


@pytest.mark.parametrize("setting", [GMM, BIRCH])
def test_as_many_clusters_as_clips_are_found(setting: Concepts) -> None:
    clips = cloud(num=12)
    found = clustering.fit(clips, setting, 0).assign([clips], 12)
    assert sorted(found.labels) == list(range(12))


@pytest.mark.parametrize("setting", [GMM, BIRCH])
def test_a_fit_that_takes_too_long_ends_with_the_limit_named(setting: Concepts) -> None:
    rule = rf"concepts.fit_limit_s: a fit of {setting.method} must take <= 1e-06 s, got \d+\.\d s so far"
    with pytest.raises(FitError, match=rule):
        clustering.fit(cloud(), replace(setting, fit_limit_s=1e-6), 0)


def test_numbers_that_no_variance_comes_of_are_named() -> None:
    # Each component holds equal clips alone: float64 rounds their squares of 1e16, and a variance comes out negative.
    clips = np.repeat(cloud(num=3, width=30, scale=1e8), 100, axis=0)
    with pytest.raises(FitError, match="gmm found no 3 components: .* ill-defined"):
        clustering.fit(clips, replace(GMM, clusters=3), 0)


def test_the_sample_of_a_slow_method_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "_MOST_CLIPS", 20)
    assert clustering.most_clips(GMM) == clustering.most_clips(BIRCH) == 20
    assert clustering.most_clips(replace(GMM, clusters=30)) == 30, "never fewer clips than clusters"
    assert clustering.most_clips(Concepts()) is None
    rng = np.random.default_rng(0)
    assert len(clustering.draw_sample(1000, 0.5, rng, 20)) == 20
    assert len(clustering.draw_sample(1000, 0.01, rng, 20)) == 10


def test_the_number_of_threads_is_the_callers_again_afterwards() -> None:
    from threadpoolctl import threadpool_info

    before = [one["num_threads"] for one in threadpool_info()]
    clustering.fit(cloud(), GMM, 0, threads=1).label(cloud())
    assert [one["num_threads"] for one in threadpool_info()] == before


@pytest.mark.parametrize("method", ["gmm", "birch"])
def test_only_kmeans_goes_on_from_the_last_centroids(method: str) -> None:
    with pytest.raises(RuleError, match=f"warm_start: must be false where concepts.method is {method}, .* got True"):
        Concepts(method=method, warm_start=True)  # type: ignore[arg-type]  # from parametrize


def test_kmeans_needs_no_scikit_learn() -> None:
    code = "import sys, haan.train, haan.__main__; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
