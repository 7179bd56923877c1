"""Masks of two thresholds: runs worked by hand, agreement with plain loops, and what a batch may not change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.detectors.masks import MaskDetect, Sequences, covered, makers
from haan.metrics import Detections

SEARCH = settings(max_examples=150, deadline=None, derandomize=True)
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # on thresholds, too
ROW = tuple[int, int, float, float, float]


def rows(found: Detections) -> list[ROW]:
    names = ("video", "label", "start_s", "end_s", "score")
    return list(zip(*(getattr(found, name).tolist() for name in names), strict=True))


def detect(found: Sequences, sizes: list[int], per_s: list[float], setting: MaskDetect) -> list[ROW]:
    ((_, make),) = makers(found, np.cumsum([0, *sizes]), np.array(per_s), [setting])
    return rows(make())


def plain_runs(p: list[float], g: list[float], setting: MaskDetect) -> list[tuple[int, int]]:
    """First and last clip of each run of one video's class, grown."""
    inside = [a > setting.class_threshold and b > setting.attention_threshold for a, b in zip(p, g, strict=True)]
    d = setting.dilation
    grown = [any(inside[max(0, t - d) : t + d + 1]) for t in range(len(p))]
    found, begin = [], None
    for t, one in enumerate([*grown, False]):
        if one and begin is None:
            begin = t
        elif not one and begin is not None:
            found.append((begin, t - 1))
            begin = None
    return found


def plain_video(
    scores: list[list[float]], g: list[float], level: list[float], per_s: float, setting: MaskDetect
) -> tuple[list[tuple[int, float, float, float]], list[bool]]:
    """Class, start, end and score of each detection of one video; which clips they cover."""
    first = sorted(range(len(level)), key=lambda c: (-level[c], c))[: setting.top_classes]
    found, cover = [], [False] * len(g)
    for c in sorted(first):
        p = [row[c] for row in scores]
        for a, b in plain_runs(p, g, setting):
            low, high = max(a - setting.padding, 0), min(b + setting.padding, len(g) - 1)
            many = b - a + 1
            score = sum(p[a : b + 1]) / many + sum(g[a : b + 1]) / many + level[c]
            found.append((c, low / per_s, (high + 1) / per_s, score))
            cover[low : high + 1] = [True] * (high + 1 - low)
    return found, cover


def of_one_class(p: list[float], g: list[float], level: float = 0.0) -> Sequences:
    return Sequences(np.array(p, np.float32)[:, None], np.array(g, np.float32), np.array([[level]]))


def test_runs_worked_by_hand() -> None:
    # Clips 2 and 5 are above both thresholds, clip 4 above one. Grown by one clip each side they are 1..3 and 4..6,
    # which touch: one run 1..6, scored by means over those six, and 0..7 of 8 clips when 1 longer each side.
    p, g = [0, 0, 0.75, 0, 0.75, 0.75, 0, 0], [0, 0, 1.0, 1.0, 0, 1.0, 0, 0]
    found = of_one_class(p, g, level=0.1)
    setting = MaskDetect(class_threshold=0.5, attention_threshold=0.5, dilation=1, padding=1)
    assert detect(found, [8], [2.0], setting) == [(0, 0, 0.0, 4.0, pytest.approx(2.25 / 6 + 3 / 6 + 0.1))]
    apart = MaskDetect(class_threshold=0.5, attention_threshold=0.5, dilation=0, padding=0)
    assert detect(found, [8], [2.0], apart) == [(0, 0, 1.0, 1.5, pytest.approx(1.85))] + [
        (0, 0, 2.5, 3.0, pytest.approx(1.85))
    ]
    assert covered(found, np.array([0, 8]), apart).tolist() == [t in (2, 5) for t in range(8)]


def test_what_is_longer_ends_with_its_video() -> None:
    # Two videos of 2 clips, each with its last clip in the mask: 2 longer, the first doesn't reach into the second.
    found = Sequences(np.array([[0], [1], [0], [1]], np.float32), np.ones(4, np.float32), np.array([[0.5], [0.5]]))
    setting = MaskDetect(dilation=0, padding=2)
    assert detect(found, [2, 2], [1.0, 1.0], setting) == [(0, 0, 0.0, 2.0, 2.5), (1, 0, 0.0, 2.0, 2.5)]


def test_nothing_above_a_threshold_is_no_detection() -> None:
    found = of_one_class([0.5, 0.5], [1.0, 1.0])
    setting = MaskDetect(class_threshold=0.5)
    assert detect(found, [2], [1.0], setting) == []
    assert not covered(found, np.array([0, 2]), setting).any()


def test_of_classes_that_are_equal_the_first_are_looked_at() -> None:
    found = Sequences(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.array([[0.2, 0.3, 0.2, 0.2]]))
    assert [label for _, label, *_ in detect(found, [1], [1.0], MaskDetect(top_classes=2))] == [0, 1]


@st.composite
def given_videos(draw: st.DrawFn) -> tuple[Sequences, list[int], list[float]]:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    classes, seed = draw(st.integers(1, 4)), draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    clips = sum(sizes)
    found = Sequences(
        rng.choice(LEVELS, (clips, classes)).astype(np.float32),
        rng.choice(LEVELS, clips).astype(np.float32),
        rng.choice(LEVELS, (len(sizes), classes)),
    )
    return found, sizes, rng.choice([0.5, 1.0, 3.0], len(sizes)).tolist()


SETTINGS = st.builds(
    MaskDetect,
    class_threshold=st.sampled_from(LEVELS),
    attention_threshold=st.sampled_from(LEVELS),
    top_classes=st.integers(1, 5),
    dilation=st.integers(0, 2),
    padding=st.integers(0, 2),
)


@SEARCH
@given(given_videos(), st.lists(SETTINGS, min_size=1, max_size=3))
def test_detections_at_every_setting_are_those_of_plain_loops(
    videos: tuple[Sequences, list[int], list[float]], wanted: list[MaskDetect]
) -> None:
    found, sizes, per_s = videos
    offsets = np.cumsum([0, *sizes])
    got = {place: rows(make()) for place, make in makers(found, offsets, np.array(per_s), wanted)}
    for place, setting in enumerate(wanted):
        expected, cover = [], []
        for video, own in enumerate(map(slice, offsets[:-1], offsets[1:])):
            of_video = (found.scores[own].tolist(), found.attention[own].tolist(), found.level[video].tolist())
            some, shown = plain_video(*of_video, per_s[video], setting)
            expected += [(video, *one) for one in some]
            cover += shown
        assert got[place] == [pytest.approx(row, abs=1e-9) for row in expected]
        assert covered(found, offsets, setting).tolist() == cover


@SEARCH
@given(given_videos(), SETTINGS)
def test_a_video_s_detections_are_the_same_alone(
    videos: tuple[Sequences, list[int], list[float]], setting: MaskDetect
) -> None:
    found, sizes, per_s = videos
    together, offsets = detect(found, sizes, per_s, setting), np.cumsum([0, *sizes])
    alone = []
    for video, own in enumerate(map(slice, offsets[:-1], offsets[1:])):
        one = Sequences(found.scores[own], found.attention[own], found.level[[video]])
        alone += [(video, *rest) for _, *rest in detect(one, [sizes[video]], [per_s[video]], setting)]
    assert together == alone
