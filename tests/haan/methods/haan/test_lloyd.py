"""k-means by products, as on a GPU, against faiss."""

import numpy as np
import pytest
import torch
from torch import Tensor

from haan.methods.haan import clustering, lloyd


def cloud(num: int = 400, width: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_centroids_are_faisss(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lloyd, "BLOCK", 150)  # 400 clips: the last block is smaller
    clips = cloud(seed=seed)
    expected = clustering.fit_kmeans(clips.numpy(), 12, seed)
    np.testing.assert_allclose(lloyd.fit(clips, 12, seed).numpy(), expected, atol=1e-5)


def test_a_start_is_where_it_begins() -> None:
    clips = cloud()
    start = clips[7:19] * 0.5
    expected = clustering.fit_kmeans(clips.numpy(), 12, 0, start.numpy())
    np.testing.assert_allclose(lloyd.fit(clips, 12, 5, start).numpy(), expected, atol=1e-5)


def test_as_many_clusters_as_clips_hold_one_each() -> None:
    clips = cloud(num=10)
    found = lloyd.assign([clips], lloyd.fit(clips, 10, 0), 10)
    assert sorted(found.labels.tolist()) == list(range(10)) and found.empty == 0


def test_fewer_distinct_clips_than_clusters_leave_some_empty_and_all_finite() -> None:
    clips = torch.eye(3, 8).repeat_interleave(10, dim=0)
    found = lloyd.assign([clips], lloyd.fit(clips, 12, 0), 30)
    assert np.isfinite(found.centroids).all() and found.empty > 0
    assert all(len(set(found.labels[first : first + 10])) == 1 for first in (0, 10, 20))


def test_assignment_is_the_nearest_centroid_block_by_block() -> None:
    clips, centroids = cloud(), cloud(num=20, seed=1)
    plain = (clips[:, None] - centroids).square().sum(dim=2).argmin(dim=1).numpy()
    found = lloyd.assign([clips[:7], clips[7:200], clips[200:]], centroids, 400)
    assert np.array_equal(found.labels, plain)
    assert np.allclose(found.frequency, np.bincount(plain, minlength=20) / 400)
    assert np.array_equal(found.centroids, centroids.numpy())


def test_clips_that_are_missing_are_said() -> None:
    with pytest.raises(ValueError, match="9 of 10 clips were assigned"):
        lloyd.assign([cloud(num=9)], cloud(num=2), 10)
