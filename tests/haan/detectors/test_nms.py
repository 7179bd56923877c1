"""haan.detectors.nms: pairs worked by hand, agreement with plain loops over single pairs, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.detectors import nms
from haan.detectors.nms import Nms
from tests.haan.detectors.plain import Row, plain_nms

SEARCH = settings(max_examples=200, deadline=None, derandomize=True)


def suppressed(rows: list[Row], setting: Nms) -> list[Row]:
    """The same by haan.detectors.nms: by pair, each pair's by falling score as given."""
    pair, start, end, score = (np.array(column) for column in zip(*rows, strict=True))
    places = nms.order(pair, score)
    pair, start, end, score = pair[places], start[places], end[places], score[places]
    if setting.nms == "soft":
        score = nms.soften(pair, start, end, score, setting)
    else:
        overlap = nms.overlaps(pair, start, end, setting)
        kept = (overlap == 0) | (setting.nms == "half_soft")
        pair, start, end, score = pair[kept], start[kept], end[kept], (score * nms.decay(overlap, setting))[kept]
    return list(zip(pair.tolist(), start.tolist(), end.tolist(), score.tolist(), strict=True))


@st.composite
def detections(draw: st.DrawFn) -> list[Row]:
    """Up to four pairs of detections that often tie, overlap and have no length; scores of both signs."""
    row = st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 5), st.integers(-2, 6))
    drawn = draw(st.lists(row, min_size=1, max_size=25))
    return [(pair, start / 2, (start + length) / 2, score / 4) for pair, start, length, score in drawn]


def test_overlaps_worked_by_hand() -> None:
    # [0, 2] and [1, 3]: 1 of 3 seconds in common. With a second more: [0, 3] and [1, 4], 2 of 4.
    rows = [(0, 0.0, 2.0, 0.9), (0, 1.0, 3.0, 0.8)]
    for of, expected in (("seconds", 1 / 3), ("released", 1 / 2)):
        setting = Nms(nms="half_soft", nms_tiou=0.3, nms_sigma=0.35, nms_tiou_of=of)
        (_, *best), (_, *lowered) = suppressed(rows, setting)
        assert best == [0.0, 2.0, 0.9]
        assert lowered == [1.0, 3.0, pytest.approx(0.8 * math.exp(-(expected**2) / 0.35))]
    assert len(suppressed(rows, Nms(nms_tiou=0.4))) == 2
    assert suppressed(rows, Nms(nms_tiou=0.4, nms_tiou_of="released")) == [(0, 0.0, 2.0, 0.9)]


def test_what_is_suppressed_suppresses_nothing() -> None:
    # B overlaps A, C overlaps B alone: without B nothing suppresses C.
    a, b, c = (0, 0.0, 4.0, 0.9), (0, 2.0, 6.0, 0.8), (0, 4.0, 8.0, 0.7)
    assert suppressed([a, b, c], Nms(nms_tiou=0.3)) == [a, c]


def test_the_earlier_of_equal_scores_is_better() -> None:
    assert suppressed([(0, 1.0, 3.0, 0.5), (0, 1.0, 2.5, 0.5)], Nms()) == [(0, 1.0, 3.0, 0.5)]


def test_soft_suppression_worked_by_hand() -> None:
    # The middle one overlaps the best by 1/3 and the last by 1/3. It is lowered by the best to 0.8 exp(-1/9 / 0.5)
    # = 0.641, below the last (0.7), which lowers it once more.
    rows = [(0, 0.0, 2.0, 0.9), (0, 1.0, 3.0, 0.8), (0, 2.0, 4.0, 0.7)]
    got = suppressed(rows, Nms(nms="soft", nms_sigma=0.5))
    assert [score for *_, score in got] == [0.9, pytest.approx(0.8 * math.exp(-1 / 9 / 0.5) ** 2), 0.7]


@SEARCH
@given(
    detections(), st.sampled_from(["hard", "half_soft", "soft"]), st.sampled_from([0.1, 1 / 3, 0.5, 1.0]),
    st.sampled_from([0.35, 0.5]), st.sampled_from(["seconds", "released"]),
)  # fmt: skip
def test_all_pairs_at_once_are_as_each_by_plain_loops(
    rows: list[Row], kind: str, threshold: float, sigma: float, of: str
) -> None:
    setting = Nms(nms=kind, nms_tiou=threshold, nms_sigma=sigma, nms_tiou_of=of)
    expected = [row for pair in range(4) for row in plain_nms([r for r in rows if r[0] == pair], setting)]
    got = suppressed(rows, setting)
    assert sorted(row[:3] for row in got) == sorted(row[:3] for row in expected)
    for one, other in zip(sorted(got), sorted(expected), strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def test_pairs_of_many_sizes_soften_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "_AT_ONCE", 8)
    rng = np.random.default_rng(0)
    pair = np.repeat(np.arange(12), rng.integers(1, 9, 12))
    start, score = rng.random(len(pair)), rng.random(len(pair))
    got = nms.soften(pair, start, start + 0.3, score, Nms(), most=5)
    for one in range(12):
        here = pair == one
        alone = nms.soften(pair[here], start[here], start[here] + 0.3, score[here], Nms())
        alone[np.argsort(-alone)[5:]] = -np.inf
        assert got[here].tolist() == alone.tolist()


@SEARCH
@given(detections(), st.sampled_from(["hard", "half_soft", "soft"]))
def test_other_pairs_change_nothing(rows: list[Row], kind: str) -> None:
    setting = Nms(nms=kind, nms_tiou=0.4)
    pairs = sorted({row[0] for row in rows})
    alone = [row for pair in pairs for row in suppressed([r for r in rows if r[0] == pair], setting)]
    assert suppressed(rows, setting) == alone


def test_ranks_count_within_groups_that_stand_together() -> None:
    assert nms.ranks(np.array([4, 4, 1, 7, 7, 7])).tolist() == [0, 1, 0, 0, 1, 2]
    assert nms.ranks(np.array([], dtype=np.int64)).tolist() == []
