"""ASL: agreement with plain loops over single videos, laws of its network and losses, and what its detector reads."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.methods.asl.config import Asl, AslDetect, Model
from haan.methods.asl.detector import sequences
from haan.methods.asl.method import AslMethod, read, video_losses
from haan.methods.asl.network import ASL
from haan.methods.ragged import Ragged
from haan.methods.resampling import uniform
from tests.haan.detectors.plain import Found, plain_grid
from tests.haan.methods.plain import plain_gce, plain_top

SEARCH = settings(max_examples=60, deadline=None, derandomize=True)


def plain_select(logits: Tensor, actionness: Tensor, setting: Asl) -> tuple[list[list[int]], list[float]]:
    """Of one video the clips of each class, and the mean of its logits over them."""
    clips, classes = logits.shape
    k = max(1, math.floor(round(setting.pool_share * clips, 9)))
    shown = setting.class_share * logits.softmax(dim=1) + (1 - setting.class_share) * actionness.mean(dim=1)[:, None]
    chosen = plain_top(shown, k)
    return chosen, [sum(float(logits[t, c]) for t in chosen[c]) / k for c in range(classes)]


def plain_losses(logits: Tensor, actionness: Tensor, labels: list[int], setting: Asl) -> tuple[float, float]:
    """Of one video."""
    if not any(labels):
        return 0.0, 0.0
    chosen, pooled = plain_select(logits, actionness, setting)
    norm = math.log(sum(math.exp(z) for z in pooled))
    video = sum((norm - z) / sum(labels) for z, label in zip(pooled, labels, strict=True) if label)
    selected = {t for c, label in enumerate(labels) if label for t in chosen[c]}
    positive = [int(t in selected) for t in range(len(logits))]
    return video, sum(plain_gce(p.tolist(), positive, setting.q) for p in actionness.unbind(dim=1))


@st.composite
def videos(draw: st.DrawFn) -> list[tuple[Tensor, Tensor, list[int]]]:
    """Logits, actionness of one or two streams and labels of some videos."""
    classes, streams = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    made = []
    for size in draw(st.lists(st.integers(1, 20), min_size=1, max_size=4)):
        generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
        logits = 2 * torch.randn(size, classes, generator=generator, dtype=torch.float64)
        actionness = torch.rand(size, streams, generator=generator, dtype=torch.float64)
        made.append((logits, actionness, draw(st.lists(st.integers(0, 1), min_size=classes, max_size=classes))))
    return made


def in_one_batch(
    made: list[tuple[Tensor, Tensor, list[int]]], filled: int = 0
) -> tuple[Tensor, Tensor, Tensor, Ragged]:
    """The same in a batch, with so many clips and a video more that only fill it up."""
    logits, actionness = (torch.cat([one[i] for one in made]) for i in (0, 1))
    more = [torch.full((filled, x.shape[1]), 0.5, dtype=x.dtype) for x in (logits, actionness)]
    labels = torch.tensor([one[2] for one in made] + [[0] * logits.shape[1]] * bool(filled)).double()
    sizes = [len(one[0]) for one in made] + [0] * bool(filled)
    batch = Ragged.of(torch.tensor(sizes), max(sizes) + filled)
    return torch.cat([logits, more[0]]), torch.cat([actionness, more[1]]), labels, batch


@SEARCH
@given(videos(), st.sampled_from([1 / 8, 0.3, 1.0]), st.sampled_from([0.0, 1 / 3, 1.0]), st.integers(0, 3))
def test_losses_are_those_of_plain_loops(
    made: list[tuple[Tensor, Tensor, list[int]]], share: float, class_share: float, filled: int
) -> None:
    setting = Asl(pool_share=share, class_share=class_share)
    logits, *rest = in_one_batch(made, filled)
    got, _ = video_losses([logits], *rest, setting)
    for number, (logits, actionness, labels) in enumerate(made):
        assert got[:, number].tolist() == pytest.approx(plain_losses(logits, actionness, labels, setting), abs=1e-9)
    assert not filled or not got[:, -1].any()


def test_losses_of_a_video_worked_by_hand() -> None:
    # 4 clips, 2 classes, k = 2, by the logits alone (the softmax rises with z0 - z1): clips 0 and 1 for class 0, 2 and
    # 3 for class 1. Logits of the video: (4 + 2) / 2 = 3 and (3 + 1) / 2 = 2; label 0: ln(1 + e^-1) = 0.31326169.
    # Actionness 1/2 everywhere: GCE_0.7 of 2 positives of 4 is 2 (1 - 0.5^0.7) / 0.7 = 1.09836512.
    logits = torch.tensor([[4.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 1.0]], dtype=torch.float64)
    actionness = torch.full((4, 1), 0.5, dtype=torch.float64)
    batch = Ragged.of(torch.tensor([4]), 4)
    labels = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    got, _ = video_losses([logits], actionness, labels, batch, Asl(pool_share=0.5, class_share=1.0))
    assert got[:, 0].tolist() == pytest.approx([0.31326169, 1.09836512], abs=1e-5)


def test_a_video_of_which_all_clips_are_selected_has_no_others() -> None:
    logits, actionness = torch.randn(3, 2), torch.full((3, 1), 0.5)
    batch, labels = Ragged.of(torch.tensor([3]), 3), torch.ones(1, 2)
    got, _ = video_losses([logits], actionness, labels, batch, Asl(pool_share=1.0))
    assert float(got[1]) == pytest.approx((1 - 0.5**0.7) / 0.7, abs=1e-5)


def test_selection_gets_no_gradient() -> None:
    # Of the video's loss actionness gets none at all; of its own none reaches the logits.
    logits, raw = torch.randn(9, 3, requires_grad=True), torch.randn(9, 1, requires_grad=True)
    batch, labels = Ragged.of(torch.tensor([9]), 9), torch.tensor([[1.0, 0.0, 1.0]])
    losses, _ = video_losses([logits], raw.sigmoid(), labels, batch, Asl())
    video, actionness = losses.sum(dim=1)
    (of_actionness,) = torch.autograd.grad(video, raw, retain_graph=True)
    (of_logits,) = torch.autograd.grad(actionness, logits)
    assert not of_actionness.any() and not of_logits.any()


def test_swapping_the_streams_changes_nothing() -> None:
    torch.manual_seed(0)
    network, swapped = ASL(Model(width=5), 8, 3), ASL(Model(width=5), 8, 3)
    swapped.load_state_dict(network.state_dict())
    swapped.actionness = swapped.actionness[::-1]
    with torch.no_grad():
        swapped.classifier[0].weight.copy_(network.classifier[0].weight.roll(4, dims=1))
    clips = torch.randn(6, 8)
    torch.testing.assert_close(swapped.activations(clips.roll(4, dims=1)), network.activations(clips))
    batch, labels, found = Ragged.of(torch.tensor([4, 2]), 5), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), []
    for made, of in ((network, clips), (swapped, clips.roll(4, dims=1))):
        logits, actionness = made(of)
        found.append((*video_losses([logits], actionness.sigmoid(), labels, batch, Asl()), actionness))
    torch.testing.assert_close(found[0][:2], found[1][:2])
    torch.testing.assert_close(found[0][2], found[1][2].flip(1))
    assert not torch.allclose(found[0][2], found[1][2]), "the streams differ"


def test_a_clip_says_the_same_alone_and_among_others() -> None:
    torch.manual_seed(0)
    network, clips = ASL(Model(width=16), 8, 3), torch.randn(20, 8)
    together = network.activations(clips)
    for number, clip in enumerate(clips):
        torch.testing.assert_close(network.activations(clip[None])[0], together[number], atol=1e-6, rtol=0)


def said(made: list[tuple[Tensor, Tensor, list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    """What a network would say of the clips, and the first clip of each video."""
    numbers = torch.cat([torch.cat([logits, a.mean(dim=1, keepdim=True)], dim=1) for logits, a, _ in made])
    return numbers.numpy().astype(np.float32), np.cumsum([0] + [len(logits) for logits, *_ in made])


@SEARCH
@given(videos(), st.sampled_from([1 / 8, 0.5]), st.sampled_from([1 / 3, 0.9]), st.sampled_from([None, 5, 30]))
def test_its_detector_reads_evidence_and_probabilities(
    made: list[tuple[Tensor, Tensor, list[int]]], top_clips: float, class_share: float, clips: int | None
) -> None:
    numbers, offsets = said(made)
    found = sequences(read, numbers, offsets, top_clips, class_share, clips)
    for number, (first, last) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        alone = torch.from_numpy(numbers[first:last]).double()
        shown = read(alone).evidence(class_share)
        np.testing.assert_allclose(found.scores[first:last], shown, atol=1e-6)
        picked = alone if clips is None else alone[uniform(np.array([last - first]), clips)[0]]
        _, pooled = plain_select(picked[:, :-1], picked[:, -1:], Asl(pool_share=top_clips, class_share=class_share))
        expected = torch.tensor(pooled).softmax(dim=0)
        np.testing.assert_allclose(found.probability[number], expected, atol=1e-5)


def test_settings_of_all_kinds_come_with_their_places() -> None:
    torch.manual_seed(0)
    made = [(3 * torch.randn(12, 3), torch.rand(12, 1), [1, 0, 0]) for _ in range(3)]
    numbers, offsets = said(made)
    per_s = np.array([1.0, 2.0, 0.5])
    one = AslDetect(nms="hard", class_threshold=0.1)
    wanted = [replace(one, top_clips=k, class_share=share) for k in (0.125, 0.5) for share in (0.3, 0.9)][::-1]
    got = {place: make() for place, make in AslMethod.detector(numbers, offsets, per_s, wanted)}
    for place, setting in enumerate(wanted):
        found = sequences(read, numbers, offsets, setting.top_clips, setting.class_share, None)
        clips = [found.scores[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        expected = plain_grid(clips, found.probability.tolist(), per_s.tolist(), setting)
        names = ("video", "label", "start_s", "end_s", "score")
        rows: list[Found] = list(zip(*(getattr(got[place], name).tolist() for name in names), strict=True))
        assert sorted(rows) == [pytest.approx(row, abs=1e-9) for row in sorted(expected)]
