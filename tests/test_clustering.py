"""Pseudo labels."""

import numpy as np
import pytest

from haan import clustering
from haan.errors import InputError


def blobs(num: int = 300, width: int = 8, centres: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middle = 10 * rng.standard_normal((centres, width))
    of = rng.integers(centres, size=num)
    return (middle[of] + 0.1 * rng.standard_normal((num, width))).astype(np.float32), of


def test_no_cluster_mixes_separate_blobs() -> None:
    clips, of = blobs()
    centroids = clustering.fit_kmeans(clips, 20, seed=3, gpu=False)
    found = clustering.assign([clips], centroids, len(clips), gpu=False).labels
    assert all(len(set(of[found == cluster])) == 1 for cluster in np.unique(found))


def test_assignment_is_the_nearest_centroid_block_by_block() -> None:
    clips, _ = blobs()
    centroids = clustering.fit_kmeans(clips, 20, seed=0, gpu=False)
    plain = np.square(clips[:, None] - centroids[None]).sum(axis=2).argmin(axis=1)
    found = clustering.assign([clips[:7], clips[7:200], clips[200:]], centroids, len(clips), gpu=False)
    assert np.array_equal(found.labels, plain)
    assert np.allclose(found.frequency, np.bincount(plain, minlength=20) / len(clips))


def test_seed_decides() -> None:
    clips, _ = blobs()
    first, again, other = (clustering.fit_kmeans(clips, 20, seed=seed, gpu=False) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_start_at_the_centres_stays_there_under_any_seed() -> None:
    clips, of = blobs()
    centres = np.stack([clips[of == i].mean(axis=0) for i in range(5)])
    for seed in (1, 2):
        found = clustering.fit_kmeans(clips, 5, seed=seed, gpu=False, start=centres)
        np.testing.assert_allclose(found, centres, atol=1e-4)


def test_fewer_distinct_clips_than_clusters_leave_some_empty_and_all_finite() -> None:
    clips = np.repeat(np.eye(3, 8, dtype=np.float32), 10, axis=0)
    centroids = clustering.fit_kmeans(clips, 12, seed=0, gpu=False)
    found = clustering.assign([clips], centroids, len(clips), gpu=False)
    assert np.isfinite(centroids).all()
    assert found.frequency.sum() == pytest.approx(1) and (found.frequency == 0).any()
    # Clips that are the same share a cluster.
    assert all(len(set(found.labels[i : i + 10])) == 1 for i in (0, 10, 20))


def test_as_many_clusters_as_clips_works_and_one_more_is_an_error() -> None:
    clips, _ = blobs(num=10)
    assert clustering.fit_kmeans(clips, 10, seed=0, gpu=False).shape == (10, 8)
    clustering.check_sample(100, 0.1, 10)
    with pytest.raises(InputError, match=r"concepts.sample_rate 0.1 of 100 training clips = 10\), got 11"):
        clustering.check_sample(100, 0.1, 11)


def test_sample_has_no_clip_twice_and_the_right_size() -> None:
    chosen = clustering.draw_sample(1000, 0.03, np.random.default_rng(0))
    assert len(chosen) == 30 == len(set(chosen)) and np.array_equal(chosen, np.sort(chosen))


def test_unassigned_clips_are_never_passed_over() -> None:
    clips, _ = blobs(num=10)
    with pytest.raises(ValueError, match="9 of 10 clips were assigned"):
        clustering.assign([clips[:9]], clips[:2], 10, gpu=False)
