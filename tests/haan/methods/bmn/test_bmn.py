"""haan.methods.bmn: numbers worked by hand, agreement with plain loops, and laws."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.checked import RuleError
from haan.data.table import ClipTable
from haan.errors import InputError
from haan.methods.base import Segmented, told
from haan.methods.bmn import detector
from haan.methods.bmn.config import Bmn, BmnConfig, BmnDetect, Model
from haan.methods.bmn.matching import (
    balanced_cross_entropy,
    cells,
    chosen,
    class_loss,
    edges,
    overlaps,
    regression_loss,
    sampling,
    shares,
)
from haan.methods.bmn.method import BmnMethod, packed
from haan.methods.bmn.network import BMN
from haan.metrics import Detections
from tests.haan.detectors.plain import plain_tiou
from tests.methods import tiny_of
from tests.planted import tiny_table

SEARCH = settings(max_examples=60, deadline=None, derandomize=True)
HERE = torch.tensor([True])


def cell(points: int) -> Tensor:
    i, j = cells(points)
    return torch.from_numpy(i * points + j)


def of(points: int, i: int, j: int) -> int:
    """The place of a cell."""
    return cell(points).tolist().index(i * points + j)


def network(classes: str = "segment", points: int = 8) -> BMN:
    torch.manual_seed(0)
    return BMN(Model(width=8, dropout=0.0), Bmn(points=points, samples=3, classes=classes), 6, 3).eval()


def test_samples_worked_by_hand() -> None:
    # Cell (2, 4), [2, 5), is sampled from 2 - 1.5 - 0.5 to 5 + 2 at 8 points: 0, 1, ..., 7.
    found = sampling(10, 4, support=2).view(4, 10, -1)
    pairs = found[..., of(10, 2, 4)]
    assert [row.nonzero().flatten().tolist() for row in pairs] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert pairs.sum(dim=1).tolist() == [1, 1, 1, 1]
    # Cell (0, 9): -5.5, -2.5, 0.5, 3.5, 6.5, 9.5, 12.5, 15.5; of 9.5 half lies beyond the last point.
    assert found[..., of(10, 0, 9)].sum(dim=1).tolist() == [0, 1, 0.75, 0]


def test_within_a_point_before_the_video_the_first_one_counts() -> None:
    # Cell (1, 1), [1, 2), is sampled from 0 to 3, (0, 1), [0, 2), from -1.5 to 3.5: at -1.5, -0.25, 1, 2.25, 3.5.
    found = sampling(5, 5, support=1).view(5, 5, -1)[..., of(5, 0, 1)]
    assert found.tolist() == [[0] * 5, [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0.75, 0.25, 0], [0, 0, 0, 0.5, 0.5]]

    # Of cell (0, 0), [0, 1), 31 points stand from -1 to 2, a tenth apart: at -1, then 6 of which -0.4 is the last.
    found = sampling(3, 31, support=1).view(31, 3, -1)[..., of(3, 0, 0)]
    assert found[7].tolist() == [1, 0, 0], "at -0.3"
    assert found[:, 0].tolist() == pytest.approx(
        [0, *[1] * 10, *[1 - k / 10 for k in range(1, 11)], *[0] * 10], abs=1e-6
    )


def test_overlaps_of_cells_worked_by_hand() -> None:
    found = overlaps(torch.tensor([[[2.0, 5.0], [0.0, 0.0]]]), cell(10), 10)[0]
    assert found[of(10, 2, 4)] == 1 and found[of(10, 2, 5)] == 0.75 and found[of(10, 7, 9)] == 0
    assert found[of(10, 3, 4)] == pytest.approx(2 / 3)


def test_edges_worked_by_hand() -> None:
    # A start at 3.3 reaches from 1.8 to 4.8; point 2's surroundings are [1.5, 2.5], of which 0.7 lies in it. An end at
    # 6.3 reaches from 4.8 to 7.8, and what is behind point 4 is [4.5, 5.5].
    starts, ends = edges(torch.tensor([[[3.3, 6.3], [0.0, 0.0]]]), 10)
    assert starts[0].tolist() == pytest.approx([0, 0, 0.7, 1, 1, 0.3, 0, 0, 0, 0], abs=1e-6)
    assert ends[0].tolist() == pytest.approx([0, 0, 0, 0, 0.7, 1, 1, 0.3, 0, 0], abs=1e-6)


def test_the_end_of_a_video_is_an_end() -> None:
    _, ends = edges(torch.tensor([[[7.0, 10.0]]]), 10)
    assert ends[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]


def test_shares_worked_by_hand() -> None:
    found = shares(torch.tensor([[[1.5, 3.5], [0.0, 0.0], [2.25, 2.5]]]), 4)[0]
    assert found.tolist() == [[0, 0.25, 0.5, 0.25], [0] * 4, [0, 0, 1, 0]]


def test_balanced_cross_entropy_worked_by_hand() -> None:
    # Of 4 entries 1 is positive: it weighs 2, the others 2/3.
    p, positive = torch.tensor([[0.9, 0.2, 0.1, 0.3]]), torch.tensor([[True, False, False, False]])
    assert float(balanced_cross_entropy(p, positive, HERE)) == pytest.approx(0.16687557, abs=1e-7)


@pytest.mark.parametrize("positive", [False, True])
def test_entries_of_one_kind_divide_by_no_zero(positive: bool) -> None:
    p = torch.tensor([[0.2, 0.4]])
    logs = [math.log(one if positive else 1 - one) for one in (0.2, 0.4)]
    # All positive: ratio 1, weight 1/2. None: the ratio is 2 / 1, and each weighs 2 / (2 x 1).
    expected = -sum(logs) / 2 * (0.5 if positive else 1.0)
    assert float(balanced_cross_entropy(p, torch.full((1, 2), positive), HERE)) == pytest.approx(expected, abs=1e-5)


def test_regression_worked_by_hand() -> None:
    # 0.3^2 + 0.4^2 + 0 + 0.3^2 over 4, and half of it.
    overlap = torch.tensor([[0.8, 0.9, 0.5, 0.2]])
    which = chosen(overlap, HERE, torch.zeros(1, 4))
    assert which.all()
    assert float(regression_loss(torch.full((1, 4), 0.5), overlap, which)) == pytest.approx(0.0425)


def test_regression_takes_as_many_of_each_kind_and_none_without_overlap() -> None:
    overlap = torch.tensor([[0.9] * 100 + [0.5] * 400 + [0.1] * 50 + [0.0] * 300])
    draw = torch.rand(1, 850, generator=torch.Generator().manual_seed(0))
    which = chosen(overlap, HERE, draw)[0]
    assert which[:100].all() and which[500:550].all() and not which[550:].any()
    assert 70 < which[100:500].sum() < 130
    assert not chosen(overlap, torch.tensor([False]), draw).any()
    none = torch.zeros(1, 4)
    assert float(regression_loss(none, none, chosen(none, HERE, none))) == 0


def test_class_loss_is_a_mean_over_segments() -> None:
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [9.0, 0.0]]])
    found = class_loss(logits, torch.tensor([[0, 1, 1]]), torch.tensor([[True, True, False]]))
    assert float(found) == pytest.approx((math.log(2) + math.log(4)) / 2)


@SEARCH
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), min_size=1, max_size=4))
def test_targets_are_those_of_plain_loops(drawn: list[tuple[int, int]]) -> None:
    rows = [(start / 3, min((start + length) / 3, 7.0)) for start, length in drawn]
    segments = torch.tensor([rows], dtype=torch.float64)
    setting = BmnDetect()
    found = overlaps(segments, cell(7), 7)[0].tolist()
    for place, (i, j) in enumerate(zip(*cells(7), strict=True)):
        best = max(plain_tiou((0, float(i), j + 1.0, 0), (0, *row, 0), setting) for row in rows)
        assert found[place] == pytest.approx(best, abs=1e-12)
    for number, of_edge in enumerate(edges(segments, 7)):
        for point in range(7):
            at, real = point + number, [row[number] for row in rows if row[1] > row[0]]
            common = [min(at + 0.5, edge + 1.5) - max(at - 0.5, edge - 1.5) for edge in real]
            assert float(of_edge[0, point]) == pytest.approx(max([0, *common]), abs=1e-12)


def test_segments_by_weights_at_points_are_those_by_samples() -> None:
    made, base = network(), torch.randn(2, 8, 8)
    samples = (base @ made.sampling.view(3, 8, -1).transpose(0, 1).flatten(1)).unflatten(2, (3, -1))
    expected = made.segment(samples[..., None])[:, :, 0, :, 0].relu()
    torch.testing.assert_close(made._segments(base), expected)


def test_cells_beyond_the_map_are_segments_of_nothing() -> None:
    made = network()
    segments = torch.rand(1, 16, len(made.cell))
    whole = made.segment.bias.detach().relu()[None, :, None].expand(1, -1, 64).clone()
    whole[:, :, made.cell] = segments
    expected = made.map(made.narrow(whole).relu().unflatten(2, (8, 8))).flatten(2)[..., made.cell]
    torch.testing.assert_close(made._maps(segments), expected)


def test_a_start_is_seen_at_its_point_and_all_of_a_video_reads_its_own_clips() -> None:
    made, clips = network(), torch.randn(30, 6)
    sizes = np.array([8, 1, 21])
    together = made.of_videos(clips, sizes).split(8)
    assert made.rows(sizes).tolist() == [8, 8, 8]
    for alone, rows in zip(clips.split(sizes.tolist()), together, strict=True):
        torch.testing.assert_close(made.activations(alone), rows, atol=1e-6, rtol=0)


def test_with_classes_of_videos_all_points_say_the_same() -> None:
    made = network("video")
    logits = made.activations(torch.randn(11, 6))[:, 10:]
    assert logits.shape == (8, 3) and torch.equal(logits, logits[:1].expand_as(logits))


def plain_detections(said: np.ndarray, seconds: float, setting: BmnDetect) -> list[tuple[int, float, float, float]]:
    """Of one video, by loops."""
    points = len(said)
    rows = []
    for i in range(points):
        for j in range(i, points):
            score = float(said[i, j]) * float(said[i, points] * said[j, points + 1]) ** setting.edge_power
            rows.append([score, i, j + 1])
    rows = sorted(rows, key=lambda row: -row[0])[: setting.most_proposals]
    found = []
    while rows and len(found) < setting.most_detections:
        best = max(rows, key=lambda row: row[0])
        rows.remove(best)
        found.append(best)
        for row in rows:
            tiou = plain_tiou((0, best[1], best[2], 0), (0, row[1], row[2], 0), setting)
            if tiou > setting.nms_above + setting.nms_above_width * (best[2] - best[1]) / points:
                row[0] *= math.exp(-(tiou**2) / setting.nms_sigma)
    detections = []
    for score, first, last in found:
        logits = said[first:last, points + 2 :].astype(float).mean(axis=0)
        p = np.exp(logits) / np.exp(logits).sum()
        for label in np.argsort(-p)[: setting.top_classes].tolist():
            detections.append((label, first * seconds / points, last * seconds / points, score * float(p[label])))
    return detections


def test_detections_of_every_setting_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.random((12, 8)), rng.normal(size=(12, 3))], axis=1).astype(np.float32)
    offsets, per_s = np.array([0, 5, 40]), np.array([1.0, 2.0])
    one = BmnDetect(nms_sigma=0.3, nms_above=0.17)
    wanted = [
        one, replace(one, top_classes=3), replace(one, edge_power=0.0), replace(one, edge_power=0.5),
        replace(one, most_proposals=9),
        replace(one, most_detections=4, top_classes=1), replace(one, nms_sigma=0.6, nms_above_width=0.0),
    ]  # fmt: skip
    made = {place: make() for place, make in detector.makers(numbers, offsets, per_s, wanted)}
    for place, setting in enumerate(wanted):
        expected = [
            (video, *row)
            for video, (said, seconds) in enumerate(zip(numbers.reshape(2, 6, 11), (5.0, 17.5), strict=True))
            for row in plain_detections(said, seconds, setting)
        ]
        np.testing.assert_allclose(sorted(rows_of(made[place])), sorted(expected), rtol=0, atol=1e-7)


def test_soft_suppression_at_its_defaults_worked_by_hand() -> None:
    # Of a second [0, 0.5] scores 0.9 and [0.1, 0.5] 0.8: tIoU 0.8, which is above 0.5 + 0.4 x 0.5: 0.8 e^(-0.64 / 0.4).
    said = np.zeros((10, 13), dtype=np.float32)
    said[0, 4], said[1, 4], said[:, 10:12] = 0.9, 0.8, 1.0
    ((_, make),) = detector.makers(said, np.array([0, 10]), np.array([10.0]), [BmnDetect()])
    found = {(round(start, 6), round(end, 6)): score for _, _, start, end, score in rows_of(make())}
    assert found[0.0, 0.5] == pytest.approx(0.9, abs=1e-7)
    assert found[0.1, 0.5] == pytest.approx(0.16151721, abs=1e-7)
    assert sorted(found.values())[:-2] == [0.0] * (len(found) - 2)


def rows_of(found: Detections) -> list[tuple[float, ...]]:
    columns = (found.video, found.label, found.start_s, found.end_s, found.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_segments_are_packed_in_points_of_their_video(tmp_path: Path) -> None:
    config = tiny_of("bmn", tmp_path / "data")
    table, parts = tiny_table(config)  # type: ignore[arg-type]  # of any method
    known = told("full", table.annotations, parts.train, table.num_clips, table.dim)
    assert isinstance(known, Segmented)
    segments, label = packed(known, 10)
    there = segments[..., 1] > segments[..., 0]
    assert int(there.sum()) == len(known.segments)
    video, place = (one.numpy() for one in there.nonzero(as_tuple=True))
    seconds = (known.num_clips / known.clips_per_s)[video, None]
    found = np.column_stack([video, segments.numpy()[video, place] * seconds / 10, label.numpy()[video, place]])
    truth = known.segments
    expected = np.column_stack([truth.video, truth.start_s, truth.end_s, truth.label])
    assert sorted(map(tuple, found.round(3))) == sorted(map(tuple, expected.round(3)))


def test_a_table_of_samples_that_no_memory_holds_is_refused() -> None:
    Bmn(points=500, samples=32)
    with pytest.raises(RuleError, match=r"points: must have bmn.samples \(32\) x .* in 8 GiB at most, got 600"):
        Bmn(points=600, samples=32)


def test_videos_without_any_segment_are_refused(tmp_path: Path) -> None:
    config = tiny_of("bmn", tmp_path / "data")
    table, parts = tiny_table(config)  # type: ignore[arg-type]  # of any method
    with pytest.raises(InputError, match="data: training videos must have segments, got none"):
        BmnMethod.check(config, without(table, parts.train))  # type: ignore[arg-type]


def without(table: ClipTable, videos: np.ndarray) -> Segmented:
    known = told("full", table.annotations, videos, table.num_clips, table.dim)
    assert isinstance(known, Segmented)
    none = Detections(*(np.zeros(0, dtype=kind) for kind in (int, int, float, float, float)))
    return replace(known, segments=none)


def test_classes_of_whole_videos_are_learnt_of_labels(tmp_path: Path) -> None:
    """The classifier of `bmn.classes: video` gets no gradient from segments, and learns."""
    from haan.train import Trainer

    config = tiny_of("bmn", tmp_path / "data")
    assert isinstance(config, BmnConfig)
    config = replace(config, bmn=replace(config.bmn, classes="video", pool_share=1.0))
    trainer = Trainer(config, *tiny_table(config))  # type: ignore[arg-type]  # of any method
    losses = [epoch.losses["class"] for epoch in trainer.epochs()]
    assert losses[-1] < losses[0] < 1.1 * math.log(4) + 0.3
