"""What ActionFormer's points learn, and their losses: numbers worked by hand, and plain loops over single points."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.methods.actionformer.config import Actionformer
from haan.methods.actionformer.losses import Targets, class_loss, segment_loss, targets
from haan.methods.actionformer.network import Points

CPU = torch.device("cpu")
SEARCH = settings(max_examples=60, deadline=None, derandomize=True)


def taught(*segments: list[float]) -> Tensor:
    return torch.tensor([segments], dtype=torch.float64)


def of(clips: int, levels: int, segments: Tensor, **setting: Any) -> tuple[Points, Targets]:
    points = Points.of(clips, levels, CPU)
    there = torch.ones(1, len(points.time), dtype=torch.bool)
    return points, targets(points, there, segments, 3, Actionformer(**setting))


def positive(points: Points, target: Targets) -> list[tuple[float, float]]:
    """Level and time of the points that have a segment."""
    return [(float(points.level[p]), float(points.time[p])) for p in target.weight[0].nonzero().flatten()]


def test_a_segment_of_three_clips_is_learnt_at_the_first_level_near_its_centre_alone() -> None:
    # [10, 13] has its centre at 11.5, which is a clip's; 1.5 clips around it are the clips 10, 11 and 12, whose centres
    # are 10.5, 11.5 and 12.5. Their farther end is at most 2.5 away, in the range of the first level, 0 to 4.
    points, target = of(32, 4, taught([10, 13, 1, 1]))
    assert positive(points, target) == [(0, 10.5), (0, 11.5), (0, 12.5)]
    assert target.ends[0, 10:13].tolist() == [[0.5, 2.5], [1.5, 1.5], [2.5, 0.5]]
    assert target.labels[0].nonzero().tolist() == [[10, 1], [11, 1], [12, 1]]


def test_a_segment_twice_as_long_is_learnt_one_level_on_in_its_steps() -> None:
    # [4, 12] has its centre at 8. A clip's centre 7.5 is 4.5 from the farther end: of the second level, 4 to 8, whose
    # points are at 0.5, 2.5, .., two clips apart; within 3 clips are 6.5, 8.5 and 10.5 (5.5 is none, 5 is too far).
    points, target = of(32, 4, taught([4, 12, 0, 1]))
    assert positive(points, target) == [(1, 6.5), (1, 8.5), (1, 10.5)]
    assert target.ends[0, 32 + 3].tolist() == [1.25, 2.75]


def test_of_several_segments_the_shortest_is_learnt_and_all_classes_of_those_that_tie() -> None:
    _, target = of(16, 1, taught([4, 7, 0, 1], [4, 7.0005, 1, 1], [3, 8, 2, 1]))
    assert target.labels[0, 5].tolist() == [1, 1, 0] and target.labels[0, 3].tolist() == [0, 0, 0]
    assert target.ends[0, 5].tolist() == [1.5, 1.5]


def test_where_a_segment_is_unsure_its_class_is_not_learnt_and_the_others_are() -> None:
    _, target = of(8, 1, taught([2, 5, 1, 0], [3, 4, 2, 0.5], [3, 4, 1, 0.25]))
    assert target.counts[0, :, 0].tolist() == [1] * 8
    assert target.counts[0, :, 1].tolist() == [1, 1, 0, 1, 0, 1, 1, 1], "a surer one of its own is learnt"
    assert target.weight[0].tolist() == [0, 0, 0, 0.5, 0, 0, 0, 0]
    assert target.labels[0, 3].tolist() == [0, 1, 1]


def test_the_focal_loss_worked_by_hand() -> None:
    # p = 1/2: (1 - p)^2 ln 2 = 0.25 ln 2, of which a class that is there has 1/4, one that is not 3/4.
    target = Targets(
        torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 1.0, 0.0]]]), torch.ones(1, 1), torch.ones(1, 1, 2)
    )
    got = class_loss(torch.zeros(1, 1, 3), target, Actionformer())
    assert float(got) == pytest.approx(0.25 * math.log(2))
    got = class_loss(torch.zeros(1, 1, 3), target, Actionformer(focal_gamma=0.0, focal_alpha=0.5))
    assert float(got) == pytest.approx(math.log(2)), "half of the cross entropy of two classes"


def test_diou_worked_by_hand() -> None:
    # Around a point [-1, 3] is told and [-2, 2] is true: 3 of 5 clips are shared, the centres, 1 and 0, are 1 apart in
    # 5: 1 - 3/5 + 1/25. A point of half the weight has half of it; one that finds its segment has none.
    target = Targets(
        torch.ones(1, 3, 1), torch.ones(1, 3, 1), torch.tensor([[1.0, 0.5, 1.0]]), torch.tensor([[[2.0, 2.0]] * 3])
    )
    got = segment_loss(torch.tensor([[[1.0, 3.0], [1.0, 3.0], [2.0, 2.0]]]), target)
    assert float(got) == pytest.approx(1.5 * 0.44)


def plain_targets(clips: int, levels: int, segments: list[list[float]], setting: Actionformer) -> list[tuple]:
    """Of one video: level, time, classes, weight and ends of each point that has a segment."""
    found = []
    for level in range(levels):
        stride = 2**level
        for number in range(-(-clips // stride)):
            time = number * stride + 0.5
            low = 0 if level == 0 else setting.first_range * stride / 2
            high = setting.first_range * stride if level < levels - 1 else math.inf
            own = [
                (end - start, start, end, int(fine), weight)
                for start, end, fine, weight in segments
                if start < time < end
                and abs(time - (start + end) / 2) < setting.radius * stride
                and low <= max(time - start, end - time) < high
                and weight > 0
            ]
            if own:
                length, start, end, _, weight = min(own, key=lambda one: one[0])
                classes = sorted({one[3] for one in own if one[0] <= length + 1e-3})
                found.append((level, time, classes, weight, (time - start) / stride, (end - time) / stride))
    return found


@SEARCH
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 40), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0])),
        max_size=6,
    ),
    st.integers(1, 24),
    st.integers(1, 4),
    st.sampled_from([1.0, 1.5, 3.0]),
)
def test_targets_are_those_of_plain_loops(given_: list[tuple], clips: int, levels: int, radius: float) -> None:
    # Quarters of clips, the longest first: so that ties and borders come up. Equal ones have one weight.
    segments = [[start / 4, (start + length) / 4, fine, weight] for start, length, fine, weight in given_]
    setting = Actionformer(radius=radius, first_range=2.0)
    points, target = of(clips, levels, taught(*segments, [0, 0, 0, 0]), radius=radius, first_range=2.0)
    got = [
        (
            int(points.level[p]), float(points.time[p]), target.labels[0, p].nonzero().flatten().tolist(),
            float(target.weight[0, p]), *target.ends[0, p].tolist(),
        )
        for p in target.labels[0].any(dim=1).nonzero().flatten()
    ]  # fmt: skip
    expected = plain_targets(clips, levels, segments, setting)
    assert [row[:3] for row in got] == [row[:3] for row in expected]
    for mine, plain in zip(got, expected, strict=True):
        assert mine[3:] == pytest.approx(plain[3:])


def test_what_fills_a_batch_up_learns_nothing() -> None:
    points = Points.of(8, 2, CPU)
    there = (points.time < 4)[None]
    target = targets(points, there, taught([2, 7, 0, 1]), 3, Actionformer(first_range=2.0))
    assert not target.counts[~there].any() and not target.weight[~there].any() and target.weight.any()
