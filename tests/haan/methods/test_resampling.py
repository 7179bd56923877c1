"""haan.methods.resampling: by hand, and the law of each part."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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
