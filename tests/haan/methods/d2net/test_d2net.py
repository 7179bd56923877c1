"""D2-Net: numbers worked by hand, agreement with plain loops over single videos, and laws of its network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.data.table import ClipTable, Split
from haan.errors import TrainingError
from haan.methods.d2net import losses
from haan.methods.d2net.config import D2, D2NetConfig, D2NetDetect, Model
from haan.methods.d2net.method import D2Net, detector, sequences
from haan.methods.ragged import Ragged
from haan.train import Trainer
from tests.haan.detectors.plain import plain_grid
from tests.methods import tiny_of
from tests.planted import tiny_table

SEARCH = settings(max_examples=60, deadline=None, derandomize=True)
Problem = tuple[D2NetConfig, ClipTable, Split]


def doubles(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("like", "unlike", "expected"), [(0.3, (0.1, 0.2), 0.27913676), (0.0, (0.0, 0.0), 0.08619497)])
def test_the_discriminative_loss_worked_by_hand(like: float, unlike: tuple[float, float], expected: float) -> None:
    # Class 0 of two is there: 2 (1 - 0.6 + 0.3 + 0.01 x 0.1)^2 -ln 0.6, and (0.2 + 0.3 + 0.01 x 0.2)^2 -ln 0.8, halved.
    p, labels = doubles([0.6, 0.2]), doubles([1.0, 0.0])
    (got,) = losses.discriminative(p, labels, doubles(unlike[0]), doubles(unlike[1]), doubles(like), 0.01).tolist()
    assert got == pytest.approx(expected, abs=1e-8)
    if not like:
        assert expected == pytest.approx((-2 * 0.4**2 * math.log(0.6) - 0.2**2 * math.log(0.8)) / 2, abs=1e-8)


def test_the_condition_of_two_rows_worked_by_hand() -> None:
    # ((.9, .1), (.2, .8)) has the singular values 1.009583 and 0.693355; rows that tell all apart have two equal ones.
    got = losses.log_condition(doubles(0.9, 1.0, 0.0), doubles(0.2, 0.0, 1.0))
    assert got.tolist() == pytest.approx([math.log(1.009583 / 0.693355), 0, 0], abs=1e-5)
    assert float(got[0]) == pytest.approx(0.37575009, abs=1e-8)


def test_the_condition_of_two_rows_is_that_of_their_singular_values() -> None:
    grid = torch.linspace(0, 1, 21, dtype=torch.float64)
    u, v = (one[torch.eye(21) == 0] for one in torch.meshgrid(grid, grid, indexing="ij"))
    values = torch.linalg.svdvals(torch.stack([torch.stack([u, 1 - u], 1), torch.stack([v, 1 - v], 1)], 1))
    torch.testing.assert_close(losses.log_condition(u, v), (values[:, 0] / values[:, 1]).log(), atol=1e-6, rtol=1e-9)


@pytest.mark.parametrize(("u", "v"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.0, 0.0), (0.3, 0.3 + 1e-9)])
def test_where_rows_are_equal_or_tell_all_apart_gradients_are_finite(u: float, v: float) -> None:
    rows = torch.tensor([u, v], requires_grad=True)
    losses.log_condition(rows[:1], rows[1:]).sum().backward()
    assert rows.grad is not None and rows.grad.isfinite().all() and rows.grad.abs().max() <= 1e3


def test_the_denoising_of_videos_worked_by_hand() -> None:
    # A fifth of (.6, .2) is .12: its shares are .75 and .25; those of (.2, .8) .2 and .8. One video a class: the table
    # ((.75, .25), (.2, .8)); by the closed form 2 ln((hypot(1.55, .05) + hypot(.45, .05)) / 2) - ln .55.
    p, labels = torch.tensor([[0.6, 0.2], [0.2, 0.8]]), torch.eye(2)
    assert float(losses.video_denoising(p, labels)) == pytest.approx(0.60140931, abs=1e-6)
    # Of (.9, .1), (.1, .9) a fifth, .18, is more than the smaller ones: classes are told apart, in any order.
    assert float(losses.video_denoising(torch.tensor([[0.9, 0.1], [0.1, 0.9]]), torch.eye(2).flip(0))) == 0
    # One class alone is told from nothing.
    assert float(losses.video_denoising(p, torch.tensor([[1.0, 0.0]] * 2))) == 0


def test_the_running_background_worked_by_hand() -> None:
    # Of the first video clip 1 is most background, (2, 4); the second has none; so a tenth of the way from (1, 0).
    features = doubles([[9.0, 9.0], [2.0, 4.0]], [[7.0, 7.0], [8.0, 8.0]])
    got = losses.moved(doubles(1.0, 0.0), features, doubles([0.6, 0.8], [0.0, 0.0]))
    assert got.tolist() == pytest.approx([1.1, 0.4])
    assert losses.moved(got, features, torch.zeros(2, 2)).tolist() == got.tolist()


def cosine(some: list[float], others: list[float]) -> float:
    lengths = math.hypot(*some) * math.hypot(*others)
    return sum(a * b for a, b in zip(some, others, strict=True)) / lengths if lengths else 0.0


def plain_mean(features: list[list[float]], weights: list[float]) -> list[float] | None:
    if not sum(weights):
        return None
    columns = zip(*features, strict=True)
    return [sum(w * x for w, x in zip(weights, of, strict=True)) / sum(weights) for of in columns]


def plain_weights(
    means: list[tuple[list[float] | None, list[float] | None]], draws: list[list[float]]
) -> list[tuple[float, float, float]]:
    """Of each video how unlike its foreground is to another, and its background, and how like the two kinds are."""
    found = [[0.0, 0.0, 0.0] for _ in means]
    dealt = [
        sorted((i for i, mean in enumerate(means) if mean[side] is not None), key=lambda i: draws[i][number])
        for number, side in enumerate((0, 1, 0, 1))
    ]
    for side in (0, 1):
        for one, other in zip(sorted(dealt[side]), dealt[side], strict=True):
            mine, theirs = means[one][side], means[other][side]
            assert mine is not None and theirs is not None
            found[one][side] = 1 - cosine(mine, theirs)
    for one, other in zip(dealt[2], dealt[3], strict=False):
        action, rest = means[one][0], means[other][1]
        assert action is not None and rest is not None
        found[one][2] = max(0.0, cosine(action, rest))
    return [(a, b, c) for a, b, c in found]


def plain_condition(table: list[list[float]]) -> float:
    values = [value for value in np.linalg.svd(np.array(table), compute_uv=False).tolist() if value > 1e-5]
    return math.log(values[0] / values[-1]) if len(values) > 1 else 0.0


def plain_clips(probability: list[list[float]], unlike: list[float], labels: list[int]) -> float | None:
    """Of one video; None where it has not both kinds of clips."""
    action = [
        max(p for p, y in zip(row, labels, strict=True) if y)
        for row, s in zip(probability, unlike, strict=True)
        if s > 0.5
    ]
    rest = [max(row) for row, s in zip(probability, unlike, strict=True) if s < 0.5]
    if not action or not rest:
        return None
    u, v = sum(action) / len(action), sum(rest) / len(rest)
    large, small = np.linalg.svd(np.array([[u, 1 - u], [v, 1 - v]]), compute_uv=False).tolist()
    return 2 * math.log(large) - math.log(max(large * small, 1e-3))  # which multiply to |u - v|


@SEARCH
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_losses_are_those_of_plain_loops(seed: int, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch, clips, setting = Ragged.of(torch.tensor(sizes), max(sizes) + 1), sum(sizes), D2(pool_share=0.3)
    # Of whole videos that are likely, unlikely or both, so that some have no foreground, and some no background.
    level = torch.repeat_interleave(torch.rand(len(sizes), generator=generator), batch.num_clips).double()
    probability = (0.7 * level[:, None] + 0.5 * torch.rand(clips, 3, generator=generator).double()).clamp(0.01, 0.99)
    features = torch.randn(clips, 4, generator=generator).double()
    running, draws = torch.randn(4, generator=generator).double(), torch.rand(len(sizes), 4, generator=generator)
    labels = torch.nn.functional.one_hot(torch.randint(3, (len(sizes),), generator=generator), 3).double()
    labels = (labels + (torch.rand(len(sizes), 3, generator=generator) < 0.3)).clamp(max=1)

    laid_out, laid_features = batch.pad(probability), batch.pad(features)
    p = losses.pooled(laid_out, batch, setting.pool_share)
    sides = losses.attention(laid_out, batch, setting)
    foreground, background = (losses.weighted_mean(laid_features, side) for side in sides)
    have = sides[0].any(dim=1), sides[1].any(dim=1)
    drawn = draws.unbind(dim=1)
    unlike = losses.unlike(foreground, have[0], drawn[0]), losses.unlike(background, have[1], drawn[1])
    like = losses.mistaken(foreground, background, have, (drawn[2], drawn[3]))
    score = losses.unlikeness(laid_features, running)

    first, means, of_videos, of_clips = 0, [], [], []
    for number, size in enumerate(sizes):
        own = slice(first, first + size)
        rows, vectors, first = probability[own].tolist(), features[own].tolist(), first + size
        action = [max(row) for row in rows]
        weights = [a if a >= 0.5 else 0.0 for a in action], [1 - a if 1 - a >= 0.5 else 0.0 for a in action]
        means.append((plain_mean(vectors, weights[0]), plain_mean(vectors, weights[1])))
        k = max(1, math.ceil(round(0.3 * size, 9)))
        of_videos.append([sum(sorted(column, reverse=True)[:k]) / k for column in zip(*rows, strict=True)])
        scores = [(1 - cosine(vector, running.tolist())) / 2 for vector in vectors]
        of_clips.append(plain_clips(rows, scores, labels[number].int().tolist()))
    torch.testing.assert_close(p, torch.tensor(of_videos, dtype=torch.float64).clamp(1e-3, 1 - 1e-3))
    expected = plain_weights(means, draws.tolist())
    torch.testing.assert_close(torch.stack([*unlike, like], dim=1), doubles(*expected), atol=1e-9, rtol=0)

    counted = [value for value in of_clips if value is not None]
    got = float(losses.clip_denoising(laid_out, score, labels, batch))
    assert got == pytest.approx(sum(counted) / max(len(counted), 1), abs=1e-9)

    counts = labels.sum(dim=0).tolist()
    shown = [[x if x > 0.2 * max(row) else 0.0 for x in row] for row in p.tolist()]
    shares = [[x / sum(row) for x in row] for row in shown]
    of_class = [
        [sum(y[c] * share[k] for y, share in zip(labels.tolist(), shares, strict=True)) / counts[c] for k in range(3)]
        for c in range(3)
        if counts[c]
    ]
    got = float(losses.video_denoising(p, labels))
    assert got == pytest.approx(plain_condition(of_class), rel=1e-6, abs=1e-7)


def network(streams: int = 2, dropout: float = 0.0) -> D2Net:
    torch.manual_seed(0)
    made = D2Net(Model(streams=streams, dropout=dropout), 6, 3)  # type: ignore[arg-type]
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    made.background.normal_()
    return made.eval()


def test_streams_never_mix() -> None:
    # So what both say together is a sum of what each half says.
    made, there = network(), torch.ones(4, 5, dtype=torch.bool)
    a, b = torch.randn(2, 5, 6)
    exchanged = torch.cat([a[:, :3], b[:, 3:]], dim=1), torch.cat([b[:, :3], a[:, 3:]], dim=1)
    for said in made(torch.stack([a, b, *exchanged]), there):
        torch.testing.assert_close(said[0] + said[1], said[2] + said[3])
        assert not torch.allclose(said[0], said[2])


@pytest.mark.parametrize("streams", [1, 2])
def test_a_clip_says_something_of_two_neighbours_a_side_of_its_own_video(streams: int) -> None:
    made, clips, sizes = network(streams), torch.randn(14, 6), np.array([4, 7, 3])
    before = made.of_videos(clips, sizes)
    clips[6] += 1  # the third of the second video
    differs = (made.of_videos(clips, sizes) != before).any(dim=1)
    assert differs.nonzero().flatten().tolist() == [4, 5, 6, 7, 8]


def test_a_training_batch_says_of_a_video_what_it_says_of_it_alone() -> None:
    made, clips, sizes = network(), torch.randn(14, 6), [4, 7, 3]
    batch = Ragged.of(torch.tensor(sizes), 9)
    for said, video, size in zip(
        zip(*made(batch.pad(clips), batch.there), strict=True), clips.split(sizes), sizes, strict=True
    ):
        alone = made(video[None], torch.ones(1, size, dtype=torch.bool))
        for got, expected in zip(said, alone, strict=True):
            torch.testing.assert_close(got[:size], expected[0])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    config = tiny_of("d2net", tmp_path_factory.mktemp("planted") / "data")
    assert isinstance(config, D2NetConfig)
    config = replace(config, optim=replace(config.optim, batch_videos=7), d2=D2(start_epoch=2))
    return config, *tiny_table(config)  # type: ignore[arg-type]  # of any method


def test_every_other_step_denoises_from_its_first_epoch_on(tiny: Problem) -> None:
    # 18 videos are 3 steps of 7; so in epoch 2 step 4 is its second one, and in epoch 3 step 6 the first.
    trainer = Trainer(*tiny)
    found = []
    for epoch in (1, 2, 3):
        trainer.method.renew(epoch)
        steps = trainer.begin(trainer.method.order(epoch), epoch)
        found.append([bool(trainer.train_step(step)[2] > 0) for step in range(steps)])
    assert found == [[False] * 3, [False, True, False], [True, False, True]]


def test_a_batch_is_of_labelled_videos_that_may_repeat(tiny: Problem) -> None:
    config, table, parts = tiny
    method = Trainer(config, table, parts).method
    method.known = replace(method.known, fine=method.known.fine & (np.arange(18) < 4)[:, None])
    order = method.order(1)
    assert len(order) == 21 and set(order.tolist()) == {0, 1, 2, 3}
    assert order.tolist() == method.order(1).tolist() != method.order(2).tolist()


def test_numbers_that_are_none_are_said_where_singular_values_are_sought(tiny: Problem) -> None:
    config, *data = tiny
    trainer = Trainer(replace(config, d2=D2(start_epoch=1)), *data)
    trainer.model.classifier.bias.data.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match="loss discriminative is nan in epoch 1, step 1"):
        trainer.train_epoch()


def test_classes_are_kept_by_their_part_of_the_best_and_settings_come_with_their_places() -> None:
    generator = torch.Generator().manual_seed(3)
    sizes, per_s = [7, 12, 1], [1.0, 2.0, 0.5]
    numbers, offsets = torch.rand(20, 3, generator=generator).square().numpy(), np.cumsum([0, *sizes])
    wanted = [
        D2NetDetect(top_clips=top, class_threshold=part, nms_tiou=tiou, min_positions=least)
        for top in (0.1, 0.5)
        for part in (0.6, 1.0)
        for tiou in (0.3, 0.8)
        for least in (2, 1)
    ]
    got = {place: make() for place, make in detector(numbers, offsets, np.array(per_s), wanted)}
    assert sorted(got) == list(range(len(wanted)))
    for place, setting in enumerate(wanted):
        videos = [numbers[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        parts = []
        for clips in videos:
            k = max(1, math.ceil(round(setting.top_clips * len(clips), 9)))
            means = [sum(sorted(column, reverse=True)[:k]) / k for column in zip(*clips, strict=True)]
            parts.append([mean / max(means) for mean in means])
        np.testing.assert_allclose(sequences(numbers, offsets, setting.top_clips).probability, parts)
        expected = plain_grid(videos, parts, per_s, setting)
        names = ("video", "label", "start_s", "end_s", "score")
        rows = zip(*(getattr(got[place], name).tolist() for name in names), strict=True)
        assert sorted(rows) == [pytest.approx(row, abs=1e-7) for row in sorted(expected)]
    assert len({len(one) for one in got.values()}) > 4, "the settings differ"
