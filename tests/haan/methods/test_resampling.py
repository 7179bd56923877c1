"""haan.methods.resampling: by hand, and the law of each part."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.methods.bmn.matching import to_points
from haan.methods.resampling import stratified, uniform

SEARCH = settings(max_examples=80, deadline=None, derandomize=True)


def test_uniform_by_hand() -> None:
    assert uniform(np.array([5, 3, 8]), 4).tolist() == [[0, 1, 2, 3], [0, 0, 1, 2], [0, 2, 4, 6]]


def test_as_many_as_there_are_is_each_once() -> None:
    assert stratified(np.array([4]), 4, np.random.default_rng(0)).tolist() == [[0, 1, 2, 3]]


@SEARCH
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 9))
def test_each_clip_is_drawn_from_its_part(clips: int, many: int, seed: int) -> None:
    (drawn,) = stratified(np.array([clips]), many, np.random.default_rng(seed)).tolist()
    for j, clip in enumerate(drawn):
        low = j * clips // many
        high = (j + 1) * clips // many if j < many - 1 else clips - 1
        assert low <= clip <= (low if clips == many else high)


def test_every_clip_of_a_part_is_drawn_in_time() -> None:
    # 6 clips, 2 parts: 0 to 3 and 3 to 5.
    rng = np.random.default_rng(0)
    drawn = np.concatenate([stratified(np.array([6]), 2, rng) for _ in range(200)])
    assert [sorted(set(column)) for column in drawn.T.tolist()] == [[0, 1, 2, 3], [3, 4, 5]]


def test_points_stand_for_equal_parts_of_a_video() -> None:
    # Of 2 clips with middles 0.5 and 1.5, 4 points: of the first, from 0 to 0.5, all places lie before 0.5. Of the
    # second, from 0.5 to 1, they are 1/12, 3/12 and 5/12 of the way to the second clip.
    weights = to_points(torch.tensor([2]), 4, 3)[0]
    torch.testing.assert_close(weights[:, 1], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
    assert not weights[:, 2].any()


def test_a_video_of_just_so_many_clips_is_as_it_is_and_one_clip_repeats() -> None:
    weights = to_points(torch.tensor([5, 1]), 5, 6)
    assert torch.equal(weights[0], torch.eye(6)[:5])
    assert weights[1].tolist() == [[1, 0, 0, 0, 0, 0]] * 5


def test_points_of_a_long_video_are_means_of_places_in_their_parts() -> None:
    # 12 clips, 2 points: the places 1, 3 and 5 of the first are each half of two clips.
    weights = to_points(torch.tensor([12]), 2, 12)[0]
    torch.testing.assert_close(weights[0], torch.tensor([1.0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]) / 6)
