"""haan.detectors.proposals: a video worked by hand, agreement with plain loops, and laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.detectors import proposals
from haan.detectors.proposals import Proposals
from haan.metrics import Detections
from tests.haan.detectors.plain import Found, plain_nms

SEARCH = settings(max_examples=200, deadline=None, derandomize=True)


def run(rows: list[Found], *wanted: Proposals) -> list[list[Found]]:
    """The detections at each setting, in order."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    by_place = {place: make() for place, make in proposals.makers(Detections(*columns), wanted)}
    names = ("video", "label", "start_s", "end_s", "score")
    found = (
        zip(*(getattr(by_place[place], name).tolist() for name in names), strict=True) for place in range(len(wanted))
    )
    return [sorted(one) for one in found]


def plain(rows: list[Found], setting: Proposals) -> list[Found]:
    """Video by video, class by class."""
    found: list[Found] = []
    for video in sorted({row[0] for row in rows}):
        best = sorted((row for row in rows if row[0] == video), key=lambda row: -row[4])[: setting.most_proposals]
        counted = [row for row in best if row[4] > setting.least_score]
        left: list[Found] = []
        for label in sorted({row[1] for row in counted}):
            kept = plain_nms([row[1:] for row in counted if row[1] == label], setting)
            left += [(video, *row) for row in kept]
        found += sorted(left, key=lambda row: -row[4])[: setting.most_detections]
    return sorted(found)


@st.composite
def drawn(draw: st.DrawFn) -> list[Found]:
    """Proposals of up to three videos and classes that often tie and overlap."""
    row = st.tuples(*(st.integers(0, most) for most in (2, 2, 8, 5, 6)))
    some = draw(st.lists(row, min_size=1, max_size=25))
    return [(video, label, a / 2, (a + length) / 2, score / 4) for video, label, a, length, score in some]


def tied(rows: list[Found], setting: Proposals) -> bool:
    """Whether rounding could decide which detections are a video's best, or which of two goes first."""
    scores = sorted((row[0], row[4]) for row in plain(rows, replace(setting, most_detections=99)))
    return any(a[0] == b[0] and 0 < abs(a[1] - b[1]) < 1e-9 for a, b in zip(scores, scores[1:], strict=False)) or (
        setting.most_detections < 99 and len(set(scores)) < len(scores)
    )


def test_a_video_worked_by_hand() -> None:
    # Of four proposals the best three; of these the second overlaps the first by 3 of 5 seconds; the third is of
    # another class.
    rows = [(0, 1, 0.0, 4.0, 0.9), (0, 1, 1.0, 5.0, 0.8), (0, 0, 1.0, 5.0, 0.7), (0, 0, 7.0, 8.0, 0.1)]
    (got,) = run(rows, Proposals(nms_tiou=0.6, most_proposals=3))
    assert got == [(0, 0, 1.0, 5.0, 0.7), (0, 1, 0.0, 4.0, 0.9)]
    (got,) = run(rows, Proposals(nms_tiou=0.61, least_score=0.75))
    assert got == [(0, 1, 0.0, 4.0, 0.9), (0, 1, 1.0, 5.0, 0.8)]
    (got,) = run(rows, Proposals(nms_tiou=0.6, most_detections=2))
    assert got == [(0, 0, 1.0, 5.0, 0.7), (0, 1, 0.0, 4.0, 0.9)]


def test_all_of_a_video_suppress_each_other_where_class_counts_for_nothing() -> None:
    rows = [(0, 1, 0.0, 4.0, 0.8), (0, 0, 0.0, 4.0, 0.9), (1, 0, 0.0, 4.0, 0.1)]
    found = Detections(*(np.array(column) for column in zip(*rows, strict=True)))
    ((_, make),) = proposals.survivors(found, [Proposals(nms="soft", nms_sigma=0.5)], by_class=False)
    assert make().place.tolist() == [1, 0, 2]
    assert make().score.tolist() == [0.9, pytest.approx(0.8 * np.exp(-2)), 0.1]


def test_only_what_overlaps_by_more_than_the_best_one_says_falls() -> None:
    # The released numbers: tIoU 0.8 is above 0.5 + 0.4 x 0.5 of the best one's width.
    found = Detections(*(np.array(column) for column in zip((0, 0, 0.0, 0.5, 0.9), (0, 0, 0.1, 0.5, 0.8), strict=True)))
    for tiou, score in ((0.7, 0.16151721), (0.81, 0.8)):
        above = np.array([tiou, 0.0])
        ((_, make),) = proposals.makers(found, [Proposals(nms="soft", nms_sigma=0.4)], lambda _, above=above: above)
        assert make().score.tolist() == pytest.approx([0.9, score], abs=1e-8)


def test_there_may_be_no_proposal() -> None:
    none = Detections(*(np.zeros(0, dtype=kind) for kind in (int, int, float, float, float)))
    for _, make in proposals.makers(none, [Proposals(nms=kind) for kind in ("hard", "half_soft", "soft")]):
        assert len(make()) == 0


@SEARCH
@given(
    drawn(), st.sampled_from(["hard", "half_soft", "soft"]), st.sampled_from([0.2, 0.5]),
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([-1.0, 0.0, 0.6]), st.sampled_from([1, 3, 99])),
        min_size=1, max_size=4,
    ),
)  # fmt: skip
def test_each_setting_of_a_sweep_is_as_by_plain_loops(
    rows: list[Found], kind: str, tiou: float, cuts: list[tuple[int, float, int]]
) -> None:
    one = Proposals(nms=kind, nms_tiou=tiou)
    wanted = [replace(one, most_proposals=most, least_score=least, most_detections=kept) for most, least, kept in cuts]
    wanted = [replace(one, most_detections=99) if tied(rows, one) else one for one in wanted]
    for got, setting in zip(run(rows, *wanted), wanted, strict=True):
        expected = plain(rows, setting)
        assert [row[:4] for row in got] == [row[:4] for row in expected]
        assert [row[4] for row in got] == pytest.approx([row[4] for row in expected], abs=1e-12)
