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
    by_place = dict(proposals.detect_many(Detections(*columns), wanted))
    names = ("video", "label", "start_s", "end_s", "score")
    found = (zip(*(getattr(by_place[place], name).tolist() for name in names), strict=True) for place in by_place)
    return [sorted(one) for one in found]


def plain(rows: list[Found], setting: Proposals) -> list[Found]:
    """Video by video, class by class."""
    found: list[Found] = []
    for video in sorted({row[0] for row in rows}):
        best = sorted((row for row in rows if row[0] == video), key=lambda row: -row[4])[: setting.most]
        counted = [row for row in best if row[4] > setting.least_score]
        for label in sorted({row[1] for row in counted}):
            kept = plain_nms([row[1:] for row in counted if row[1] == label], setting)
            found += [(video, *row) for row in kept]
    return sorted(found)


@st.composite
def drawn(draw: st.DrawFn) -> list[Found]:
    """Proposals of up to three videos and classes that often tie and overlap."""
    row = st.tuples(*(st.integers(0, most) for most in (2, 2, 8, 5, 6)))
    some = draw(st.lists(row, min_size=1, max_size=25))
    return [(video, label, a / 2, (a + length) / 2, score / 4) for video, label, a, length, score in some]


def test_a_video_worked_by_hand() -> None:
    # Of four proposals the best three; of these the second overlaps the first by 3 of 5 seconds; the third is of
    # another class.
    rows = [(0, 1, 0.0, 4.0, 0.9), (0, 1, 1.0, 5.0, 0.8), (0, 0, 1.0, 5.0, 0.7), (0, 0, 7.0, 8.0, 0.1)]
    (got,) = run(rows, Proposals(nms_tiou=0.6, most=3))
    assert got == [(0, 0, 1.0, 5.0, 0.7), (0, 1, 0.0, 4.0, 0.9)]
    (got,) = run(rows, Proposals(nms_tiou=0.61, least_score=0.75))
    assert got == [(0, 1, 0.0, 4.0, 0.9), (0, 1, 1.0, 5.0, 0.8)]


@SEARCH
@given(
    drawn(), st.sampled_from(["hard", "half_soft", "soft"]), st.sampled_from([0.2, 0.5]),
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from([-1.0, 0.0, 0.6])), min_size=1, max_size=4),
)  # fmt: skip
def test_each_setting_of_a_sweep_is_as_by_plain_loops(
    rows: list[Found], kind: str, tiou: float, cuts: list[tuple[int, float]]
) -> None:
    one = Proposals(nms=kind, nms_tiou=tiou)
    wanted = [replace(one, most=most, least_score=least) for most, least in cuts]
    for got, setting in zip(run(rows, *wanted), wanted, strict=True):
        expected = plain(rows, setting)
        assert [row[:4] for row in got] == [row[:4] for row in expected]
        assert [row[4] for row in got] == pytest.approx([row[4] for row in expected], abs=1e-12)
