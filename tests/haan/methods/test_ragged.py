"""haan.methods.ragged: numbers worked by hand, plain loops over single videos, and laws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.methods import ragged
from haan.methods.ragged import Ragged
from tests.haan.methods.plain import plain_gce, plain_top

SEARCH = settings(max_examples=80, deadline=None, derandomize=True)


def batch_of(*num_clips: int, longest: int = 1) -> Ragged:
    return Ragged.of(torch.tensor(num_clips), max(longest, *num_clips, 1))


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Tensor], Ragged, Tensor]:
    """Videos of 0 to 9 clips with ties among their scores, and the same in one batch, filled up behind."""
    classes = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any))
    cell = st.integers(-6, 6).map(lambda n: n / 4)
    videos = [
        torch.tensor(draw(st.lists(cell, min_size=n * classes, max_size=n * classes)), dtype=torch.float64).view(n, -1)
        if n
        else torch.zeros(0, classes, dtype=torch.float64)
        for n in sizes
    ]
    filler = torch.full((draw(st.integers(0, 4)), classes), 99.0, dtype=torch.float64)
    batch = batch_of(*sizes, longest=max(sizes) + draw(st.integers(0, 2)))
    return videos, batch, torch.cat([*videos, filler])


def test_mean_of_the_top_clips_worked_by_hand() -> None:
    # 9 clips of scores 0 to 8 for class 0, 0 for class 1; ceil(9 / 8) = 2 of them: (8 + 7) / 2.
    scores = torch.stack([torch.arange(9.0), torch.zeros(9)], dim=1).double()
    batch = batch_of(9)
    pooled = ragged.top_mean(scores, batch, ragged.num_top(batch.num_clips, 1 / 8, up=True))
    assert pooled.tolist() == [[7.5, 0.0]]
    for labels, expected in (((1.0, 0.0), 0.00055293), ((1.0, 1.0), 3.75055293)):
        assert float(ragged.cross_entropy(pooled, torch.tensor([labels]))) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("share", "up", "expected"),
    [
        (1 / 8, False, [1, 1, 12, 93]),
        (1 / 9, False, [1, 1, 11, 83]),
        (1 / 4, False, [1, 2, 25, 187]),
        (1 / 8, True, [1, 2, 13, 94]),
        (0.07, True, [1, 1, 7, 53]),
    ],
)
def test_a_share_of_the_clips_is_at_least_one(share: float, up: bool, expected: list[int]) -> None:
    # Of 5, 9, 100 and 750. 0.07 x 100 is 7.000000000000001 in floating point, and must give 7 both ways.
    assert ragged.num_top(torch.tensor([5, 9, 100, 750]), share, up).tolist() == expected


def test_a_video_without_labels_adds_nothing() -> None:
    assert ragged.cross_entropy(torch.tensor([[3.0, 1.0]]), torch.zeros(1, 2)).tolist() == [0.0]


def test_softmax_over_time_worked_by_hand() -> None:
    # Two videos: (0, ln 3) -> 1/4, 3/4; a single clip -> 1.
    got = ragged.softmax_over_time(torch.tensor([[0.0], [math.log(3)], [-7.0]]), batch_of(2, 1))
    torch.testing.assert_close(got[..., 0], torch.tensor([[0.25, 0.75], [1.0, 0.0]]))


def test_norm_of_the_mean_is_not_the_mean_of_norms() -> None:
    mean = ragged.video_mean(torch.tensor([[3.0, 4.0], [3.0, -4.0]]), batch_of(2))
    assert mean.norm(dim=1).tolist() == [3.0]


@pytest.mark.parametrize(
    ("p", "g", "expected", "apart"),
    [
        ((0.5, 0.5, 0.5, 0.5), (1, 0, 0, 0), 1.09836512, 1e-5),
        ((1.0, 0.0), (1, 0), 0.0, 1e-5),
        # 1e-7 to the power of 0.7 is 1.26e-5, over 0.7: what a term of p = 0 has less, here two of them.
        ((0.0, 1.0), (1, 0), 2 / 0.7, 4e-5),
        ((0.9, 0.1, 0.2, 0.1), (1, 0, 0, 0), 0.23814468, 1e-5),
    ],
)
def test_generalised_cross_entropy_worked_by_hand(p: tuple, g: tuple, expected: float, apart: float) -> None:
    got = ragged.generalised_cross_entropy(torch.tensor(p), torch.tensor([g]).bool(), batch_of(len(p)), 0.7)
    assert float(got) == pytest.approx(expected, abs=apart)


def test_generalised_cross_entropy_ends_at_cross_entropy_and_at_absolute_error() -> None:
    p, g = torch.tensor([0.9, 0.3, 0.2], dtype=torch.float64), torch.tensor([[True, False, False]])
    absolute = 0.1 + (0.3 + 0.2) / 2
    cross = -math.log(0.9) - (math.log(0.7) + math.log(0.8)) / 2
    for q, expected in ((1.0, absolute), (1e-6, cross)):
        got = float(ragged.generalised_cross_entropy(p, g, batch_of(3), q))
        assert got == pytest.approx(expected, abs=1e-5)


def test_generalised_cross_entropy_where_all_clips_are_positive() -> None:
    got = ragged.generalised_cross_entropy(
        torch.tensor([0.5, 0.5]), torch.ones(1, 2, dtype=torch.bool), batch_of(2), 0.7
    )
    assert float(got) == pytest.approx((1 - 0.5**0.7) / 0.7, abs=1e-5)


@SEARCH
@given(batches(), st.sampled_from([1 / 9, 1 / 8, 1 / 4, 0.5, 1.0]), st.booleans())
def test_top_clips_are_those_of_each_video_alone(
    made: tuple[list[Tensor], Ragged, Tensor], share: float, up: bool
) -> None:
    videos, batch, scores = made
    k = ragged.num_top(batch.num_clips, share, up)
    chosen, pooled = ragged.select_top(scores, batch, k), ragged.top_mean(scores, batch, k)
    for v, alone in enumerate(videos):
        exact = share * len(alone)
        expected_k = max(1, math.ceil(round(exact, 9)) if up else math.floor(round(exact, 9)))
        for c, clips in enumerate(plain_top(alone, expected_k)):
            assert chosen[v, :, c].nonzero().flatten().tolist() == sorted(clips)
            mean = sum(float(alone[t, c]) for t in clips) / len(clips) if clips else 0.0
            assert float(pooled[v, c]) == pytest.approx(mean, abs=1e-12)


@SEARCH
@given(batches())
def test_softmax_and_means_are_those_of_each_video_alone(made: tuple[list[Tensor], Ragged, Tensor]) -> None:
    videos, batch, scores = made
    softmax, means = ragged.softmax_over_time(scores, batch), ragged.video_mean(scores, batch)
    assert softmax.isfinite().all()
    for v, alone in enumerate(videos):
        torch.testing.assert_close(softmax[v, : len(alone)], alone.softmax(dim=0))
        assert not softmax[v, len(alone) :].any()
        torch.testing.assert_close(means[v], alone.mean(dim=0) if len(alone) else torch.zeros_like(means[v]))


@SEARCH
@given(batches(), st.floats(0.1, 1.0))
def test_generalised_cross_entropy_is_that_of_each_video_alone(
    made: tuple[list[Tensor], Ragged, Tensor], q: float
) -> None:
    videos, batch, scores = made
    p, positive = scores[:, 0].sigmoid(), batch.pad(scores[:, 0], 1.0) > 0
    got = ragged.generalised_cross_entropy(p, positive, batch, q)
    for v, alone in enumerate(videos):
        expected = plain_gce(alone[:, 0].sigmoid().tolist(), (alone[:, 0] > 0).int().tolist(), q)
        assert float(got[v]) == pytest.approx(expected, abs=1e-9)


@SEARCH
@given(batches())
def test_what_fills_a_batch_up_has_no_gradient(made: tuple[list[Tensor], Ragged, Tensor]) -> None:
    videos, batch, scores = made
    own = sum(len(alone) for alone in videos)
    scores = scores.requires_grad_()
    k = ragged.num_top(batch.num_clips, 1 / 4)
    softmax, positive = ragged.softmax_over_time(scores, batch), torch.ones_like(batch.there)
    of_videos = torch.stack(
        [
            ragged.top_mean(scores, batch, k).sum(),
            (softmax * batch.pad(scores)).sum(),
            ragged.video_mean(scores, batch).sum(),
            ragged.generalised_cross_entropy(scores[:, 0].sigmoid(), positive, batch, 0.7).sum(),
        ]
    )
    (gradient,) = torch.autograd.grad(of_videos.sum(), scores)
    assert gradient.isfinite().all() and not gradient[own:].any()


def test_resampled_clips_may_repeat_and_a_video_without_clips_has_none() -> None:
    # Videos of 2, 0 and 1 clips: places 0, 0, 1 of the first, 0 of the third.
    values = torch.tensor([5.0, 6.0, 7.0, 99.0])
    batch = batch_of(2, 0, 1).resampled(torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0]]))
    assert batch.pad(values, -1.0).tolist() == [[5.0, 5.0, 6.0], [-1.0, -1.0, -1.0], [7.0, 7.0, 7.0]]
    assert batch.num_clips.tolist() == [3, 0, 3]


@SEARCH
@given(batches())
def test_clips_are_laid_out_video_by_video(made: tuple[list[Tensor], Ragged, Tensor]) -> None:
    videos, batch, scores = made
    for v, alone in enumerate(videos):
        assert torch.equal(batch.pad(scores, -1.0)[v, : len(alone)], alone)
        assert (batch.pad(scores, -1.0)[v, len(alone) :] == -1.0).all()
