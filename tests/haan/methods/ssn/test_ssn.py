"""haan.methods.ssn: numbers worked by hand, agreement with plain loops, and laws."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.data.table import ClipTable, Split
from haan.errors import InputError
from haan.methods.base import Segmented, told
from haan.methods.ragged import Ragged
from haan.methods.ssn import detector, watershed
from haan.methods.ssn.config import Model, Ssn, SsnConfig, SsnDetect
from haan.methods.ssn.losses import (
    BACKGROUND,
    FOREGROUND,
    INCOMPLETE,
    NEITHER,
    Actions,
    Candidates,
    activity_loss,
    candidates,
    completeness_loss,
    drawn,
    moved,
    offsets_to,
    regression_loss,
)
from haan.methods.ssn.method import SsnMethod, actions, covered
from haan.methods.ssn.network import SSN, numbers_of, pyramid
from haan.methods.ssn.watershed import Proposed
from haan.metrics import Detections
from haan.train import Trainer
from tests.haan.detectors.plain import plain_tiou
from tests.methods import tiny_of
from tests.planted import tiny_table

SEARCH = settings(max_examples=60, deadline=None, derandomize=True)
Segment = tuple[float, float]


def network(**ssn: object) -> SSN:
    torch.manual_seed(0)
    return SSN(Model(width=8, dropout=0.0), replace(Ssn(actionness_width=4, most_proposals=9), **ssn), 6, 3).eval()


def segments_of(found: Proposed) -> list[tuple[int, int, int]]:
    return list(zip(found.video.tolist(), found.start.tolist(), found.end.tolist(), strict=True))


def plain_groups(p: list[float]) -> set[tuple[int, int]]:
    """Of one video, by loops: from each basin on to the right, and mirrored from each to the left."""
    found = set()
    for mirrored in (False, True):
        values = p[::-1] if mirrored else p
        for threshold in watershed.THRESHOLDS:
            wet = [value > threshold for value in values]
            basins, first = [], None
            for clip, one in enumerate([*wet, False]):
                if one and first is None:
                    first = clip
                if not one and first is not None:
                    basins.append((first, clip))
                    first = None
            for tolerance in watershed.TOLERANCES:
                for number, (start, end) in enumerate(basins):
                    for _, further in basins[number + 1 :]:
                        if wet[start:further].count(False) > tolerance * (further - start) + 1e-9:
                            break
                        end = further
                    found.add((len(p) - end, len(p) - start) if mirrored else (start, end))
    return found


@SEARCH
@given(
    st.lists(st.lists(st.sampled_from([0.005, 0.02, 0.3, 0.55, 0.99]), min_size=1, max_size=14), min_size=1, max_size=3)
)
def test_groups_are_those_of_plain_loops(videos: list[list[float]]) -> None:
    found = watershed.grouped(np.concatenate(videos), np.array([len(p) for p in videos]))
    expected = [(video, *rows) for video, p in enumerate(videos) for rows in sorted(plain_groups(p))]
    assert segments_of(found) == expected


def test_groups_worked_by_hand() -> None:
    # Basins at 0.5: [0, 2), [3, 4), [9, 10). To the second one 1 clip of 4 is dry, to the third 6 of 10.
    p = np.array([0.9, 0.9, 0, 0.9, 0, 0, 0, 0, 0, 0.9])
    found = [row[1:] for row in segments_of(watershed.grouped(p, np.array([10])))]
    # From the third to the left, the second is 5 dry clips of 7 away: that a tolerance of 0.8 lets pass.
    assert found == [(0, 2), (0, 4), (0, 10), (3, 4), (3, 10), (9, 10)]


def test_windows_worked_by_hand() -> None:
    ones, twos = [(i, i + 1) for i in range(9)], [(i, i + 2) for i in range(8)]
    fours, eight = [(0, 4), (2, 6), (4, 8)], [(0, 8)]  # steps of ceil(1.2), ceil(2.4)
    assert [tuple(row) for row in watershed.windows(9).tolist()] == [*ones, *twos, *fours, *eight]


def test_of_near_proposals_the_one_of_most_logits_is_left_and_no_more_than_asked_for() -> None:
    found = Proposed(np.zeros(4, dtype=int), np.array([0, 0, 0, 15]), np.array([20, 19, 10, 20]))
    logit = np.array([1.0] * 19 + [-1.0])
    # Sums 18, 19, 10, 3; the first overlaps the second by 19 / 20.
    assert segments_of(watershed.best(found, logit, np.array([20]), 9)) == [(0, 0, 19), (0, 0, 10), (0, 15, 20)]
    assert segments_of(watershed.best(found, logit, np.array([20]), 2)) == [(0, 0, 19), (0, 0, 10)]


def test_smoothing_keeps_to_its_video() -> None:
    p, sizes = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]), np.array([2, 4])
    found = watershed.smoothed(p, sizes, 1.0)
    assert found[:2].tolist() == pytest.approx([1, 1]) and found[4] < 1
    # A Gaussian of 4 sigma to both sides.
    weight = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    beyond = np.array([0.0] * 6 + [1.0, 0, 0, 0, 0])
    assert found[4] == pytest.approx((weight / weight.sum()) @ beyond[2:11])
    assert watershed.smoothed(p, sizes, 0.0) is p


@SEARCH
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4), st.sampled_from(["watershed", "windows", "both"]), st.data()
)
def test_no_video_has_more_proposals_than_said(sizes: list[int], kind: str, data: st.DataObject) -> None:
    many = sum(sizes)
    logit = np.array(data.draw(st.lists(st.floats(-6, 6), min_size=many, max_size=many)))
    setting = Ssn(proposals=kind, most_proposals=7, smoothing=0.5)  # type: ignore[arg-type]  # one of the three
    found = watershed.proposed(logit, np.array(sizes), setting)
    counts = np.bincount(found.video, minlength=len(sizes))
    assert (counts <= watershed.most(np.array(sizes), setting)).all() and (np.diff(found.video) >= 0).all()
    assert (found.start >= 0).all() and (found.end > found.start).all()
    assert (found.end <= np.array(sizes)[found.video]).all()


def test_pyramid_worked_by_hand() -> None:
    base = torch.tensor([[[1.0], [2.0], [4.0], [8.0], [0.0]]])
    segments = torch.tensor([[[1.0, 3.0], [0.0, 2.0], [1.5, 2.5], [0.0, 4.0], [0.0, 0.0]]])
    expected = [
        [1, 3, 8],  # clip 0; clips 1 and 2; clip 3
        [0, 1.5, 4],  # nothing is before the video
        [2, 3, 4],  # halves of clips 1; 1 and 2; 2
        [0, 3.75, 0],
        [0, 0, 0],
    ]
    assert pyramid(base, segments)[0, :, :, 0].tolist() == expected
    # Of the half before it, of 1.5 clips, two thirds are in the video: their mean times that part.
    cut = pyramid(base, torch.tensor([[[1.0, 4.0]]]))[0, 0, :, 0]
    assert cut.tolist() == pytest.approx([1 * 2 / 3, 14 / 3, 0])


@SEARCH
@given(st.integers(1, 9), st.integers(0, 8), st.integers(1, 9))
def test_of_whole_clips_the_pyramid_is_a_plain_mean(num_clips: int, start: int, half: int) -> None:
    base, end = torch.arange(1.0, 20.0).sqrt()[None, :, None], start + 2 * half
    base = base * (torch.arange(19)[:, None] < num_clips)
    stages = pyramid(base, torch.tensor([[[float(start), float(end)]]]))[0, 0, :, 0].tolist()
    clips = base[0, :, 0].tolist() + [0.0] * 20
    for stage, (low, high) in zip(stages, ((start - half, start), (start, end), (end, end + half)), strict=True):
        assert stage == pytest.approx(
            sum(clips[clip] for clip in range(low, high) if clip >= 0) / (high - low), abs=1e-5
        )


def test_completeness_worked_by_hand() -> None:
    # Actions 0.3 and -0.5; the hardest incomplete ones of two videos 0.5 and 0.1.
    complete, here = torch.tensor([[0.3], [-0.5]]), torch.ones(2, 1, dtype=torch.bool)
    incomplete = torch.tensor([[[0.5, -0.2]], [[-3.0, 0.1]]])
    all_here = torch.ones(2, 1, 2, dtype=torch.bool)
    assert float(completeness_loss(complete, here, incomplete, all_here)) == pytest.approx((2.2 + 2.6) / 4)
    # Where the second video has no incomplete one it doesn't count.
    one = all_here & torch.tensor([True, False])[:, None, None]
    assert float(completeness_loss(complete, here, incomplete, one)) == pytest.approx((2.2 + 1.5) / 3)
    assert float(completeness_loss(complete, ~here, incomplete, ~all_here)) == 0


def test_offsets_worked_by_hand() -> None:
    # The released code counts from 10 to 20 eleven frames, from 12 to 24 thirteen.
    segment, own = torch.tensor([10.0, 21.0]), torch.tensor([12.0, 25.0])
    found = offsets_to(segment, own)
    assert found.tolist() == pytest.approx([0.27272727, 0.16705408])
    assert moved(segment, *found).tolist() == pytest.approx([12, 25])


def test_losses_of_classes_and_ends_are_means_over_what_is_there() -> None:
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [9.0, 0.0]]])
    here = torch.tensor([[True, True, False]])
    found = activity_loss(logits, torch.tensor([[0, 1, 1]]), here)
    assert float(found) == pytest.approx((math.log(2) + math.log(4)) / 2)
    said = torch.tensor([[[0.5, 0.0], [3.0, 0.0], [7.0, 7.0]]])
    # 0.5^2 / 2 and 3 - 0.5.
    assert float(regression_loss(said, torch.zeros(1, 3, 2), here)) == pytest.approx((0.125 + 2.5) / 2)


def test_kinds_worked_by_hand() -> None:
    true = Actions(np.array([0, 0]), np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([2, 1]))
    rows = [(10, 18), (11, 12), (32, 34), (40, 45), (40, 41), (8, 16), (0, 99)]
    # tIoU 0.8; 0.1, inside; 0.2, inside; 0; 0, and no more than 2 % of the video; 0.5; 0.101, of which 0.101 is inside.
    wanted = [FOREGROUND, INCOMPLETE, INCOMPLETE, BACKGROUND, NEITHER, NEITHER]
    found = Proposed(np.zeros(7, dtype=int), *np.array(rows).T)
    sizes, rng = np.array([100, 9]), np.random.default_rng(0)
    made = candidates(true, found, sizes, 0.01, rng)
    assert made.kind.tolist() == [FOREGROUND, FOREGROUND, *wanted, INCOMPLETE]
    assert made.label[:5].tolist() == [2, 1, 2, 2, 1] and made.own[3].tolist() == [10, 20]
    assert candidates(true, found, sizes, 0.7, rng).kind.tolist() == [FOREGROUND, FOREGROUND, *wanted, NEITHER]
    # Of a video without a true segment all is background.
    other = candidates(true, Proposed(np.array([1]), np.array([0]), np.array([2])), sizes, 0.01, rng)
    assert other.kind[2:].tolist() == [BACKGROUND]


def test_of_equal_segments_each_gives_its_class_at_times() -> None:
    true = Actions(np.array([0, 0]), np.array([[0.0, 4.0], [0.0, 4.0]]), np.array([0, 1]))
    found = Proposed(np.zeros(20, dtype=int), np.zeros(20, dtype=int), np.full(20, 4))
    made = candidates(true, found, np.array([4]), 0.01, np.random.default_rng(0))
    assert made.label[:2].tolist() == [0, 1] and set(made.label[2:].tolist()) == {0, 1}


def test_draws_take_each_kind_of_a_video_and_repeat_where_there_are_too_few() -> None:
    kind = np.array([FOREGROUND, FOREGROUND, *[INCOMPLETE] * 20, BACKGROUND, NEITHER, INCOMPLETE])
    video = np.array([0, 1, *[0] * 20, 1, 0, 1])
    nothing, label = np.zeros((len(kind), 2)), np.zeros(len(kind), dtype=int)
    made = Candidates(video, nothing, nothing, label, kind, kind > FOREGROUND)
    found = drawn(made, 3, 2, np.random.default_rng(0))
    assert found.shape == (3, 16) and (found[2] == -1).all()
    assert found[0, :2].tolist() == [0, 0] and len(set(found[0, 2:14].tolist())) == 12 and (found[0, 14:] == -1).all()
    assert ((found[0, 2:14] >= 2) & (found[0, 2:14] < 22)).all()
    assert found[1].tolist() == [1, 1, *[24] * 12, 22, 22]


def test_each_segment_of_a_video_has_its_turn() -> None:
    many = 30
    made = Candidates(*[np.zeros(many, dtype=int)] * 5, np.zeros(many, dtype=bool))
    drawings = [drawn(made, 1, 3, np.random.default_rng(seed))[0, :3].tolist() for seed in range(40)]
    assert {place for one in drawings for place in one} == set(range(many))
    assert all(len(set(one)) == 3 for one in drawings)


def test_covered_worked_by_hand() -> None:
    true = Actions(
        np.array([0, 1, 1, 1]), np.array([[0.5, 2.25], [0.0, 0.25], [0.5, 1.0], [1.0, 2.0]]), np.zeros(4, int)
    )
    assert covered(true, np.array([4, 2])).tolist() == [0.5, 1, 0.25, 0, 0.75, 1]


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> tuple[SsnConfig, ClipTable, Split]:
    config = tiny_of("ssn", tmp_path_factory.mktemp("planted") / "data")
    assert isinstance(config, SsnConfig)
    return config, *tiny_table(config)  # type: ignore[arg-type]  # of any method


def known_of(problem: tuple[SsnConfig, ClipTable, Split]) -> Segmented:
    _, table, parts = problem
    known = told("full", table.annotations, parts.train, table.num_clips, table.dim)
    assert isinstance(known, Segmented)
    return known


def test_a_video_without_segments_is_refused_when_all_are(problem: tuple[SsnConfig, ClipTable, Split]) -> None:
    config, known = problem[0], known_of(problem)
    none = replace(
        known.segments, **{name: getattr(known.segments, name)[:0] for name in ("video", "label", "start_s", "end_s")}
    )
    with pytest.raises(InputError, match="data: training videos must have segments, got none"):
        SsnMethod.check(config, replace(known, segments=none))


def test_segments_end_with_their_video(problem: tuple[SsnConfig, ClipTable, Split]) -> None:
    known = known_of(problem)
    found = actions(replace(known, segments=replace(known.segments, end_s=known.segments.end_s + 1000)))
    assert (found.segment[:, 1] == known.num_clips[found.video]).all() and (np.diff(found.video) >= 0).all()


def test_actionness_of_a_video_is_learnt_of_the_others(problem: tuple[SsnConfig, ClipTable, Split]) -> None:
    """A step on one video moves the network of the other fold alone, and with one fold that one."""
    config, table, parts = problem
    for folds, moves in ((2, [True, False]), (1, [True])):
        one = replace(config, ssn=replace(config.ssn, folds=folds))
        trainer = Trainer(one, table, parts)
        trainer.method.renew(1)
        trainer.begin(np.array([1]))  # of fold 1
        clips = trainer._feed.videos(parts.train[[1]])
        trainer.method.batch_losses(clips, trainer._schedule.rows(trainer._columns, 0), None)[1].backward()
        last = trainer.model.action[2]
        assert [bool(row.abs().sum() > 0) for row in last.weight.grad] == moves


def test_offsets_are_learnt_in_units_of_those_of_proposals(problem: tuple[SsnConfig, ClipTable, Split]) -> None:
    config, table, parts = problem
    trainer = Trainer(replace(config, ssn=replace(config.ssn, proposals="both")), table, parts)
    trainer.method.renew(1)
    found = trainer.method._candidates
    some = found.proposed & (found.kind == FOREGROUND)
    rows = []
    for (start, end), (low, high) in zip(found.segment[some].tolist(), found.own[some].tolist(), strict=True):
        rows.append([((low + high) - (start + end)) / 2 / (end - start), math.log((high - low) / (end - start))])
    assert len(rows) > 5
    assert trainer.model.mean.tolist() == pytest.approx(np.mean(rows, axis=0), abs=1e-6)
    assert trainer.model.std.tolist() == pytest.approx(np.std(rows, axis=0, ddof=1), abs=1e-6)


@pytest.mark.parametrize("kind", ["watershed", "windows", "both"])
def test_a_video_reads_its_own_clips(kind: str) -> None:
    made, clips, sizes = network(proposals=kind), torch.randn(30, 6) * 3, np.array([8, 1, 21])
    together = made.of_videos(clips, sizes).split(made.rows(sizes).tolist())
    for alone, rows in zip(clips.split(sizes.tolist()), together, strict=True):
        torch.testing.assert_close(made.activations(alone), rows, atol=1e-5, rtol=1e-5)
        assert rows.shape[1] == numbers_of(3) and rows[:, 0].tolist() == [1.0] + [0.0] * (len(rows) - 1)


@torch.no_grad()
def test_numbers_are_those_of_plain_arithmetic() -> None:
    made, clips = network(proposals="windows"), torch.randn(7, 6)
    made.mean.copy_(torch.tensor([0.1, -0.2]))
    made.std.copy_(torch.tensor([2.0, 0.5]))
    for layer in (made.activity, made.completeness, made.regression):
        torch.nn.init.normal_(layer.weight, std=0.3)
    rows, segments = made.activations(clips), watershed.windows(7)
    batch = Ragged.of(torch.tensor([7]), 7)
    said = made(clips, batch, torch.from_numpy(segments)[None].float())
    for number, (start, end) in enumerate(segments.tolist()):
        p = said.activity[0, number].exp()
        assert rows[number, 1:3].tolist() == [start, end]
        assert float(rows[number, 3]) == pytest.approx(1 - float(p[3] / p.sum()), abs=1e-6)
        score = p[:3] / p[:3].sum() * said.completeness[0, number].exp()
        order = score.argsort(descending=True).tolist()
        for place, label in enumerate(order):
            centre, length = (said.offsets[0, number, label] * made.std + made.mean).tolist()
            middle = (start + end) / 2 + centre * (end - start)
            half = (end - start) * math.exp(length) / 2
            expected = [label, float(score[label]), min(max(middle - half, 0), 7), min(max(middle + half, 0), 7)]
            assert rows[number, 4 + 4 * place : 8 + 4 * place].tolist() == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_a_score_worked_by_hand() -> None:
    # Softmax 0.6, completeness 0.5.
    made = network(proposals="windows")
    for layer in (made.activity, made.completeness):
        torch.nn.init.zeros_(layer.weight)
    made.activity.bias.data = torch.tensor([0.6, 0.3, 0.1, 1.0]).log()
    made.completeness.bias.data.fill_(0.5)
    row = made.activations(torch.randn(1, 6))[0]
    assert row[:5].tolist() == pytest.approx([1, 0, 1, 0.5, 0]) and float(row[5]) == pytest.approx(0.98923276)


@torch.no_grad()
def test_a_video_without_a_proposal_leaves_the_others_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its actionness is next to nothing everywhere; that of the first and the last video is not."""
    made, sizes = network(proposals="watershed", folds=1), np.array([5, 4, 6])
    logits = torch.tensor([6.0, -12.0, 6.0]).repeat_interleave(torch.from_numpy(sizes))[:, None]
    monkeypatch.setattr(made, "actionness", lambda clips: logits)
    rows = made.of_videos(torch.randn(15, 6), sizes).numpy()
    assert np.flatnonzero(rows[:, 0]).tolist() == np.concatenate([[0], np.cumsum(made.rows(sizes))[:2]]).tolist()
    found = detector.pairs(rows, np.ones(3)).proposed
    assert set(found.video.tolist()) == {0, 2}


def plain_detections(rows: np.ndarray, setting: SsnDetect) -> list[tuple[int, float, float, float]]:
    """Of one video of one clip a second, by loops."""
    pairs = [
        (
            row[4 + 4 * k],
            row[5 + 4 * k] * row[3] ** setting.background_power,
            row[1],
            row[2],
            *row[6 + 4 * k : 8 + 4 * k],
        )
        for row in rows.astype(float).tolist()
        if row[2] > row[1]
        for k in range((len(row) - 4) // 4)
    ]
    pairs = sorted(pairs, key=lambda pair: -pair[1])[: setting.most_proposals]
    found = []
    for label, score, start, end, low, high in pairs:
        better = [one for one in found if one[0] == label]
        if all(plain_tiou((0, start, end, 0), (0, one[2], one[3], 0), setting) < setting.nms_tiou for one in better):
            found.append((label, score, start, end, low, high))
    found = found[: setting.most_detections]
    return [(int(label), low, high, score) for label, score, _, _, low, high in found if high > low]


def rows_of(found: Detections) -> list[tuple[float, ...]]:
    return list(
        zip(*(getattr(found, name).tolist() for name in ("video", "label", "start_s", "end_s", "score")), strict=True)
    )


def test_detections_of_every_setting_are_those_of_plain_loops() -> None:
    rng, parts = np.random.default_rng(0), []
    for many, filled in ((25, 3), (0, 2), (12, 0)):  # the second video has no proposal
        rows = np.zeros((many + filled, 4 + 4 * 3), dtype=np.float32)
        rows[0, 0] = 1
        rows[:many, 1] = rng.integers(0, 9, many)
        rows[:many, 2] = rows[:many, 1] + rng.integers(1, 6, many)
        rows[:many, 3] = rng.random(many)
        for k in range(3):
            rows[:many, 4 + 4 * k] = k
            rows[:many, 5 + 4 * k] = rng.random(many)
            rows[:many, 6 + 4 * k : 8 + 4 * k] = np.sort(rng.integers(0, 9, (many, 2)), axis=1)
        parts.append(rows)
    one = SsnDetect()
    wanted = [
        one, replace(one, nms_tiou=0.6), replace(one, background_power=1.0), replace(one, background_power=0.5),
        replace(one, most_proposals=20), replace(one, most_proposals=20, background_power=1.0),
        replace(one, most_detections=4, nms_tiou=0.5),
    ]  # fmt: skip
    made = {
        place: make()
        for place, make in detector.makers(np.concatenate(parts), np.array([0, 5, 9, 40]), np.ones(3), wanted)
    }
    for place, setting in enumerate(wanted):
        expected = [(video, *row) for video, rows in enumerate(parts) for row in plain_detections(rows, setting)]
        np.testing.assert_allclose(sorted(rows_of(made[place])), sorted(expected), rtol=0, atol=1e-7)
    twice = detector.pairs(np.concatenate(parts), np.array([2.0, 2.0, 2.0]))
    assert twice.ends.max() == pytest.approx(4.0) and twice.proposed.end_s.max() <= 7
