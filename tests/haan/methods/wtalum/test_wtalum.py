"""WTAL-UM: numbers worked by hand, agreement with plain loops over single videos, and laws of its network."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.config import Data
from haan.methods.base import Labelled
from haan.methods.ragged import Ragged
from haan.methods.wtalum.config import Model, Um, UmConfig, UmDetect
from haan.methods.wtalum.method import WTALUM, UmMethod, detector, sequences, video_losses
from haan.schedule import Shape
from tests.haan.detectors.plain import plain_grid

SEARCH = settings(max_examples=60, deadline=None, derandomize=True)


def softmax(row: list[float]) -> list[float]:
    total = sum(map(math.exp, row))
    return [math.exp(value) / total for value in row]


def plain_bce(p: list[float], target: list[float]) -> float:
    """Mean over classes; logarithms are at least -100."""
    terms = [
        -t * max(-100.0, math.log(x)) - (1 - t) * max(-100.0, math.log(1 - x)) for x, t in zip(p, target, strict=True)
    ]
    return sum(terms) / len(terms)


def plain_extremes(lengths: list[float], kept: list[int], action: int, background: int) -> tuple[list[int], list[int]]:
    """Places of the longest and the shortest clips among those kept; of equal ones the earlier."""
    long = [length * keep for length, keep in zip(lengths, kept, strict=True)]
    short = [(max(lengths) - length) * keep for length, keep in zip(lengths, kept, strict=True)]
    first, second = (sorted(range(len(of)), key=lambda t: (-of[t], t)) for of in (long, short))
    return first[:action], second[:background]


def counts(clips: int, setting: Um | UmDetect) -> tuple[int, int]:
    return max(1, clips // setting.r_act), max(1, clips // setting.r_bkg)


def plain_pooled(logits: Tensor, k: int) -> list[float]:
    return [sum(sorted(column, reverse=True)[:k]) / k for column in logits.T.tolist()]


def plain_losses(features: Tensor, logits: Tensor, kept: list[int], labels: list[int], setting: Um) -> list[float]:
    """Of one video."""
    if not any(labels):
        return [0.0, 0.0, 0.0]
    k = counts(len(features), setting)
    action, background = plain_extremes([float(f.norm()) for f in features], kept, *k)
    classes = logits.shape[1]
    mean = [sum(float(logits[t, c]) for t in background) / len(background) for c in range(classes)]
    long, short = (float((sum(features[t] for t in of) / len(of)).norm()) for of in (action, background))
    return [
        plain_bce(softmax(plain_pooled(logits, k[0])), [label / sum(labels) for label in labels]),
        plain_bce(softmax(mean), [1 / classes] * classes),
        (max(0.0, setting.margin - long) + short) ** 2,
    ]


def test_losses_of_classes_worked_by_hand() -> None:
    # 4 classes of equal logits, two labels: p is 1/4, y/n is 1/2 or 0: (2 (-ln 1/4 - ln 3/4) / 2 - 2 ln 3/4) / 4.
    # Of the background y/n is 1/4: (-ln 1/4 / 4 - 3/4 ln 3/4), the same.
    batch = Ragged.of(torch.tensor([3]), 3)
    nothing = torch.zeros(1, 3, 2, dtype=torch.float64), torch.zeros(1, 3, 4, dtype=torch.float64)
    labels = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    got = [float(loss) for loss in video_losses(*nothing, torch.ones(1, 3), labels, batch, Um())]
    assert got[:2] == pytest.approx([0.56233514, 0.56233514], abs=1e-8)


def test_a_class_that_is_as_good_as_certain_is_learnt_still() -> None:
    # In float32 p of the other class is 0: its logarithm is 50 below, not cut off, and its gradient -1/2 / 2 classes.
    logits = torch.tensor([[[50.0, 0.0]]], requires_grad=True)
    batch = Ragged.of(torch.tensor([1]), 1)
    of_classes, *_ = video_losses(torch.zeros(1, 1, 2), logits, torch.ones(1, 1), torch.ones(1, 2), batch, Um())
    of_classes.sum().backward()
    assert logits.grad is not None and logits.grad[0, 0, 1] < -0.2


@pytest.mark.parametrize(("long", "short", "expected"), [(30.0, 2.0, 5184.0), (130.0, 0.0, 0.0)])
def test_the_loss_of_magnitudes_worked_by_hand(long: float, short: float, expected: float) -> None:
    # (100 - 30 + 2)^2 = 5184, of which the total has 5e-4: 2.592.
    features = torch.tensor([[[long, 0.0], [0.0, short]]])
    batch = Ragged.of(torch.tensor([2]), 2)
    got = video_losses(features, torch.zeros(1, 2, 2), torch.ones(1, 2), torch.ones(1, 2), batch, Um())
    assert float(got[2]) == expected and (Um().alpha * 5184) == pytest.approx(2.592)


def method(labels: list[list[int]], dim: int, width: int) -> UmMethod:
    """Of videos of these labels, by released settings, without dropout."""
    fine = np.array(labels, dtype=bool)
    known = Labelled(
        videos=np.arange(len(fine)), names=("",) * len(fine), num_clips=np.full(len(fine), 2),
        clips_per_s=np.ones(len(fine)), dim=dim, fine=fine, coarse=fine[:, :1], fine_names=("",) * fine.shape[1],
        coarse_of_fine=np.zeros(fine.shape[1], dtype=np.int64),
    )  # fmt: skip
    config = UmConfig(data=Data(root="none", features="none", train_videos=1), model=Model(width=width))
    feed: Any = None  # read by the trainer alone
    made = UmMethod(config, known, feed, torch.device("cpu"))
    made.network.eval()
    return made


def test_the_loss_of_magnitudes_has_its_weight_in_the_total() -> None:
    # Features are the clips, (30, 0) and (0, 2), and all logits 0: of two classes either loss of classes is ln 2.
    made = method([[1, 0]], dim=2, width=2)
    assert isinstance(made.network, WTALUM)
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.zero_()
        made.network.encoder.weight[:, :, 1] = torch.eye(2)
    rows = {"num_clips": torch.tensor([2]), "labels": torch.tensor([[1.0, 0.0]])}
    values, total = made.batch_losses(torch.tensor([[30.0, 0.0], [0.0, 2.0]]), rows, None)
    assert values.tolist() == pytest.approx([math.log(2), math.log(2), 5184.0, float(total.detach())])
    assert float(total.detach()) - 2 * math.log(2) == pytest.approx(2.592, abs=1e-5)


def test_the_length_is_of_the_mean_feature() -> None:
    # (3, 4) and (3, -4) are 5 long each, and their mean, of all clips, 3. The shortest clip, the first of equal ones,
    # is 5 long: (5 - 3 + 5)^2.
    batch, setting = Ragged.of(torch.tensor([2]), 2), Um(margin=5.0, r_act=1, r_bkg=2)
    features = torch.tensor([[[3.0, 4.0], [3.0, -4.0]]])
    got = video_losses(features, torch.zeros(1, 2, 2), torch.ones(1, 2), torch.ones(1, 2), batch, setting)
    assert float(got[2]) == pytest.approx(49.0)


@SEARCH
@given(
    st.integers(0, 10**6), st.lists(st.integers(1, 14), min_size=1, max_size=4), st.integers(1, 4), st.integers(1, 3)
)
def test_losses_are_those_of_plain_loops(seed: int, sizes: list[int], r_act: int, r_bkg: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes, setting = [*sizes, 0], Um(r_act=r_act, r_bkg=r_bkg, margin=2.0)
    batch, clips = Ragged.of(torch.tensor(sizes), max(sizes) + 1), sum(sizes)
    features = torch.rand(clips, 3, generator=generator).double()
    logits = 2 * torch.randn(clips, 4, generator=generator).double()
    kept = (torch.rand(clips, generator=generator) < 0.3).double()
    labels = (torch.rand(len(sizes), 4, generator=generator) < 0.5).double() * (batch.num_clips > 0)[:, None]
    got = torch.stack(video_losses(batch.pad(features), batch.pad(logits), batch.pad(kept), labels, batch, setting))
    first = 0
    for number, size in enumerate(sizes[:-1]):
        own = slice(first, first + size)
        expected = plain_losses(
            features[own], logits[own], kept[own].int().tolist(), labels[number].int().tolist(), setting
        )
        assert got[:, number].tolist() == pytest.approx(expected, abs=1e-9)
        first += size
    assert not got[:, -1].any()


def made(seed: int = 0) -> tuple[WTALUM, Tensor, np.ndarray]:
    torch.manual_seed(seed)
    sizes = np.array([5, 1, 8, 3])
    return WTALUM(Model(width=6), 0.7, 4, 3).eval(), torch.randn(int(sizes.sum()), 4), sizes


def test_a_video_says_the_same_alone_and_in_any_batch() -> None:
    network, clips, sizes = made()
    together = network.of_videos(clips, sizes)
    for alone, part in zip(clips.split(sizes.tolist()), together.split(sizes.tolist()), strict=True):
        torch.testing.assert_close(network.activations(alone), part, atol=1e-6, rtol=0)


def test_a_training_batch_says_of_a_video_what_it_says_of_it_alone() -> None:
    network, clips, sizes = made()
    batch = Ragged.of(torch.from_numpy(sizes), 11)
    said = network(batch.pad(clips), batch.there)
    assert not said[0][~batch.there].any(), "behind a video there are no features"
    for number, alone in enumerate(clips.split(sizes.tolist())):
        expected = network(alone[None], torch.ones(1, len(alone), dtype=torch.bool))
        for got, of_alone in zip(said, expected, strict=True):
            torch.testing.assert_close(got[number, : len(alone)], of_alone[0], atol=1e-6, rtol=0)


def test_losses_of_a_batch_are_those_of_its_videos_alone_in_any_order() -> None:
    torch.manual_seed(0)
    sizes, labels = [5, 1, 8, 3], [[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]]
    one, videos = method(labels, dim=4, width=6), torch.randn(17, 4).split(sizes)

    def losses(which: list[int], longest: int) -> Tensor:
        rows = {
            "num_clips": torch.tensor([sizes[i] for i in which]),
            "labels": torch.tensor([labels[i] for i in which]).float(),
        }
        clips = torch.cat([videos[i] for i in which])
        return one.batch_losses(clips, rows, Shape(len(clips), longest))[0]

    alone = sum(losses([i], sizes[i]) for i in range(4))
    torch.testing.assert_close(losses([0, 1, 2, 3], 8), alone, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(losses([2, 0, 3, 1], 13), alone, rtol=1e-6, atol=1e-6)


def test_a_clip_depends_on_its_neighbours_and_no_others() -> None:
    # Of a video of 8 clips the third is changed: the second to the fourth say something else.
    network, clips, _ = made()
    other = clips.clone()
    other[2] += 1
    differs = (network.activations(clips[:8]) - network.activations(other[:8])).abs().amax(dim=1) > 1e-6
    assert differs.tolist() == [False, True, True, True, False, False, False, False]


def test_a_step_passes_over_clips_and_inference_over_none() -> None:
    network, *_ = made()
    there = torch.ones(100, 20, dtype=torch.bool)
    kept = network.train().kept(there)
    assert set(kept.unique().tolist()) == {0.0, 1.0} and float(kept.mean()) == pytest.approx(0.3, abs=0.04)
    assert network.eval().kept(there).all()


def plain_sequences(numbers: Tensor, setting: UmDetect) -> tuple[Tensor, list[float], Tensor]:
    """Of one video: classes, their probabilities, magnitudes."""
    k = counts(len(numbers), setting)
    lengths = numbers[:, -1].tolist()
    action, background = plain_extremes(lengths, [1] * len(lengths), *k)
    high, low = (sum(lengths[t] for t in of) / len(of) for of in (action, background))
    magnitude = [min(1.0, max(0.0, (m - low) / (high - low if high > low else 1.0))) for m in lengths]
    shown = [[p * m for p in softmax(row[:-1])] for row, m in zip(numbers.tolist(), magnitude, strict=True)]
    columns = []
    for column in zip(*shown, strict=True):
        reach = max(column) - min(column)
        columns.append([(value - min(column)) / (reach if reach > 0 else 1.0) for value in column])
    return torch.tensor(columns).T, softmax(plain_pooled(numbers[:, :-1], k[0])), torch.tensor(magnitude)


@SEARCH
@given(st.integers(0, 10**6), st.lists(st.integers(1, 14), min_size=1, max_size=4), st.integers(1, 4))
def test_sequences_are_those_of_plain_loops(seed: int, sizes: list[int], r_act: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    numbers, setting = torch.rand(sum(sizes), 4, generator=generator), UmDetect(r_act=r_act, r_bkg=3)
    offsets = np.cumsum([0, *sizes])
    found = sequences(numbers.numpy(), offsets, r_act, 3)
    assert found.actionness is not None
    for number, alone in enumerate(numbers.split(sizes)):
        own = slice(offsets[number], offsets[number + 1])
        scores, probability, magnitude = plain_sequences(alone, setting)
        np.testing.assert_allclose(found.scores[own], scores, atol=1e-5)
        np.testing.assert_allclose(found.actionness[own], magnitude, atol=1e-5)
        np.testing.assert_allclose(found.probability[number], probability, atol=1e-6)


def test_settings_of_all_kinds_come_with_their_places() -> None:
    generator = torch.Generator().manual_seed(3)
    sizes, per_s = [7, 12, 4], [1.0, 2.0, 0.5]
    numbers = torch.cat([3 * torch.randn(23, 3, generator=generator), torch.rand(23, 1, generator=generator)], dim=1)
    offsets = np.cumsum([0, *sizes])
    wanted = [UmDetect(r_act=r, class_score_weight=w, nms_tiou=0.9) for r in (2, 9) for w in (0.2, 1.0)][::-1]
    got = {place: make() for place, make in detector(numbers.numpy(), offsets, np.array(per_s), wanted)}
    for place, setting in enumerate(wanted):
        found = sequences(numbers.numpy(), offsets, setting.r_act, setting.r_bkg)
        assert found.actionness is not None
        clips, actions = (
            [x[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
            for x in (found.scores, found.actionness)
        )
        expected = plain_grid(clips, found.probability.tolist(), per_s, setting, actions)
        names = ("video", "label", "start_s", "end_s", "score")
        rows = zip(*(getattr(got[place], name).tolist() for name in names), strict=True)
        assert sorted(rows) == [pytest.approx(row, abs=1e-9) for row in sorted(expected)]
