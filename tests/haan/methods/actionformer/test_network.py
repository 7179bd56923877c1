"""ActionFormer's network and detector: laws, and candidates by plain loops."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from haan.methods.actionformer.config import Model
from haan.methods.actionformer.method import candidates
from haan.methods.actionformer.network import ActionFormer, Points, every_point

CPU = torch.device("cpu")
SIZES = np.array([5, 1, 8, 3])


def made(**model: Any) -> tuple[ActionFormer, Tensor]:
    torch.manual_seed(0)
    setting = Model(**{"width": 8, "levels": 3, "heads": 2, "window": 5} | model)
    return ActionFormer(setting, 4, 3).eval(), torch.randn(int(SIZES.sum()), 4)


def test_each_level_has_half_the_points_of_the_one_before() -> None:
    # Of 5 clips: 5, 3 and 2, at the centres of the clips 0 to 4; 0, 2 and 4; 0 and 4.
    points = Points.of(5, 3, CPU)
    assert points.time.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 0.5, 2.5, 4.5, 0.5, 4.5]
    assert points.stride.tolist() == [1] * 5 + [2] * 3 + [4] * 2
    assert every_point(SIZES, 3).tolist() == [10, 3, 14, 6]


@pytest.mark.parametrize("points", [None, 6])
def test_a_video_says_the_same_alone_and_in_any_batch(points: int | None) -> None:
    network, clips = made(points=points)
    together = network.of_videos(clips, SIZES)
    rows = network.rows(SIZES)
    assert len(together) == rows.sum() and together[:, 0][together[:, 0] > 0].tolist() == rows.tolist()
    for alone, part in zip(clips.split(SIZES.tolist()), together.split(rows.tolist()), strict=True):
        torch.testing.assert_close(network.activations(alone), part, atol=1e-6, rtol=0)


def test_what_fills_a_batch_up_moves_nothing() -> None:
    network, clips = made()
    said = []
    for longest in (8, 11):
        x, there = network.laid_out(clips, torch.from_numpy(np.append(SIZES, 0)), longest)
        logits, ends, there = network(x, there)
        said.append(torch.cat([logits, ends], dim=2)[there])
    torch.testing.assert_close(*said, atol=1e-6, rtol=0)


def test_a_point_sees_its_window_and_no_farther() -> None:
    # One block of a window of 3: a convolution, and what two in the stem, one before the attention and three in a head
    # see are 1 clip each, the attention's neighbours 1: the clips up to 7 away.
    network, _ = made(levels=1, blocks=1, window=3)
    clips = torch.randn(30, 4)
    other = clips.clone()
    other[12] += 1
    differs = (network.activations(clips) - network.activations(other)).abs().amax(dim=1) > 0
    assert differs.nonzero().flatten().tolist() == list(range(12 - 7, 12 + 8))
    network, _ = made(levels=1, blocks=1, window=None)
    assert ((network.activations(clips) - network.activations(other)).abs().amax(dim=1) > 0).all()


def test_segments_lie_around_their_points_and_within_the_video() -> None:
    network, clips = made()
    network.scales.data.fill_(1e3)
    said = network.of_videos(clips, SIZES).split(every_point(SIZES, 3).tolist())
    for one, size in zip(said, SIZES.tolist(), strict=True):
        time = Points.of(size, 3, CPU).time
        assert (one[:, 1] >= 0).all() and (one[:, 2] <= size).all()
        assert (one[:, 1] <= time).all() and (one[:, 2] >= time.clamp_max(size)).all()


def test_a_video_is_rescaled_between_the_centres_of_its_clips() -> None:
    # 3 clips of 0, 3 and 6 to 6 points: centres at 0.25, .75, .., less the clip's own 0.5: -0.25 (the first), 0.25, ..
    network, _ = made(points=6)
    clips = torch.tensor([[0.0] * 4, [3.0] * 4, [6.0] * 4])
    x, there = network.laid_out(clips, torch.tensor([3, 0]), 3)
    assert x[0, :, 0].tolist() == [0, 0.75, 2.25, 3.75, 5.25, 6] and there.tolist() == [[True] * 6, [False] * 6]
    same, _ = made(points=3)
    assert torch.equal(same.laid_out(clips, torch.tensor([3]), 3)[0][0], clips)


def test_before_any_training_every_class_is_rare() -> None:
    network, clips = made()
    assert network.of_videos(clips, SIZES)[:, 3:].sigmoid().mean().item() == pytest.approx(0.01, abs=0.01)


def plain_candidates(said: list[Tensor], per_s: list[float], least: float, most: int) -> list[tuple]:
    found = []
    for video, rows in enumerate(said):
        own = [
            (1 / (1 + math.exp(-logit)), video, label, start / per_s[video], end / per_s[video])
            for _, start, end, *logits in rows.double().tolist()
            for label, logit in enumerate(logits)
            if end > start and 1 / (1 + math.exp(-logit)) > least
        ]
        found += sorted(own, key=lambda one: -one[0])[:most]
    return [(video, label, start, end, score) for score, video, label, start, end in found]


@pytest.mark.parametrize(("least", "most"), [(0.0, 1000), (0.5, 1000), (0.5, 7), (0.99, 5), (1.0, 5)])
def test_candidates_are_those_of_plain_loops(least: float, most: int) -> None:
    network, clips = made()
    said = network.of_videos(clips, SIZES).detach()
    said[:, 3:] = 2 * torch.randn(len(said), 3)
    said[4, 1:3] = 2.0  # of no length
    per_s = [1.0, 2.0, 0.5, 3.0]
    got = candidates(said.numpy(), np.array(per_s), least, most)
    rows = zip(*(getattr(got, name).tolist() for name in ("video", "label", "start_s", "end_s", "score")), strict=True)
    expected = plain_candidates(list(said.split(every_point(SIZES, 3).tolist())), per_s, least, most)
    assert sorted(rows) == [pytest.approx(row) for row in sorted(expected)]
