"""CASE: transport and losses against plain loops and numbers worked by hand, and what its detector reads."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.methods.asl.config import Model
from haan.methods.asl.method import video_losses
from haan.methods.case.config import Case
from haan.methods.case.method import cluster_losses, read
from haan.methods.case.network import CASE, OfStream
from haan.methods.case.transport import transport
from haan.methods.ragged import Ragged

SEARCH = settings(max_examples=40, deadline=None, derandomize=True)


def plain_transport(logits: list[list[float]], shares: list[float]) -> list[list[float]]:
    """Three rounds: groups to their shares, entries to 1 / n; then entries to 1."""
    plan = [[math.exp(2 * value) for value in row] for row in logits]
    total = sum(map(sum, plan))
    plan = [[value / total for value in row] for row in plan]
    for _ in range(3):
        sums = [sum(row[k] for row in plan) for k in range(len(shares))]
        plan = [[value / sums[k] * shares[k] for k, value in enumerate(row)] for row in plan]
        plan = [[value / sum(row) / len(plan) for value in row] for row in plan]
    return [[value * len(plan) for value in row] for row in plan]


def normal(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def log_softmax(row: list[float]) -> list[float]:
    norm = math.log(sum(map(math.exp, row)))
    return [value - norm for value in row]


def plain_cluster_losses(
    streams: list[tuple[Tensor, Tensor]], positive: list[bool]
) -> tuple[float, float, list[list[float]]]:
    """streams: of all clips of a batch encoded clips and cluster logits, by stream. Clip by clip."""
    clips, groups = streams[0][1].shape
    mean = [[sum(float(c[n, k]) for _, c in streams) / len(streams) for k in range(groups)] for n in range(clips)]
    targets = plain_transport(mean, [1 / groups] * groups)
    clusters = sum(
        -targets[n][k] * log_softmax(c[n].tolist())[k] for _, c in streams for n in range(clips) for k in range(groups)
    )
    cosines = []
    for encoded, _ in streams:
        sides = [normal(sum(encoded[n] for n in range(clips) if positive[n] == side)) for side in (True, False)]
        own = [normal(sum(targets[n][k] * encoded[n] for n in range(clips))) for k in range(groups)]
        cosines.append([[10 * float(one @ side) for side in sides] for one in own])
    middle = [[sum(c[k][s] for c in cosines) / len(cosines) for s in range(2)] for k in range(groups)]
    share = sum(positive) / clips
    wanted = plain_transport(middle, [share, 1 - share])
    foreground = sum(
        -sum(w * x for w, x in zip(wanted[k], log_softmax(c[k]), strict=True)) / groups
        for c in cosines
        for k in range(groups)
    )
    return clusters / clips, foreground, wanted


def test_transport_worked_by_hand() -> None:
    even = torch.full((2,), 0.5, dtype=torch.float64)
    first = transport(torch.tensor([[10.0, 0], [9, 0], [8, 0], [7, 0]], dtype=torch.float64), even, torch.ones(4))
    assert first[:, 0].tolist() == pytest.approx([0.9281, 0.6359, 0.1912, 0.0310], abs=5e-5)
    assert transport(torch.zeros(5, 2, dtype=torch.float64), even, torch.ones(5)).tolist() == [[0.5, 0.5]] * 5
    one_hot = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(transport(10 * one_hot, even, torch.ones(2)), one_hot, atol=1e-8, rtol=0)


def test_transport_where_nothing_is_of_a_group() -> None:
    plan = transport(torch.randn(4, 2), torch.tensor([0.0, 1.0]), torch.ones(4))
    assert plan.tolist() == [[0.0, 1.0]] * 4


@SEARCH
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(2, 5), st.integers(0, 3))
def test_transport_is_that_of_plain_loops(seed: int, n: int, groups: int, filled: int) -> None:
    torch.manual_seed(seed)
    logits, shares = 10 * torch.rand(n + filled, groups, dtype=torch.float64), torch.rand(groups).double()
    shares /= shares.sum()
    got = transport(logits, shares, (torch.arange(n + filled) < n).double())
    np.testing.assert_allclose(got[:n], plain_transport(logits[:n].tolist(), shares.tolist()), rtol=1e-9)
    assert not got[n:].any() and torch.allclose(got[:n].sum(dim=1), torch.ones(n).double())


@SEARCH
@given(st.integers(0, 10**6), st.lists(st.integers(1, 7), min_size=1, max_size=3), st.integers(1, 2))
def test_losses_of_clusters_are_those_of_plain_loops(seed: int, sizes: list[int], streams: int) -> None:
    torch.manual_seed(seed)
    clips, groups = sum(sizes) + 1, 3
    sizes = [*sizes, 1]
    positive = torch.rand(clips) < 0.5
    positive[0], positive[1] = True, False
    said = [(torch.rand(clips, 5).double(), 3 * torch.randn(clips, groups).double()) for _ in range(streams)]
    filled = [[torch.cat([part, torch.full((2, part.shape[1]), 9.0).double()]) for part in one] for one in said]
    nothing = torch.zeros(clips + 2, 1).double()
    # The last video has clips, which are what fills up, and no label: they don't count.
    batch = Ragged.of(torch.tensor([*sizes, 0, 2]), max(sizes) + 1)
    laid_out = batch.pad(torch.cat([positive, torch.ones(2, dtype=torch.bool)]), False)
    labelled = torch.arange(len(sizes) + 2) <= len(sizes)
    got = cluster_losses([OfStream(nothing, nothing[:, 0], e, c) for e, c in filled], laid_out, labelled, batch)
    *expected, wanted = plain_cluster_losses(said, positive.tolist())
    assert [float(loss) for loss in got[:2]] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(got[2], wanted, rtol=1e-5)


def test_the_loss_of_a_video_is_the_mean_of_the_streams() -> None:
    torch.manual_seed(0)
    first, second, labels = torch.randn(9, 3), torch.randn(9, 3), torch.tensor([[1.0, 0.0, 1.0]])
    batch, actionness = Ragged.of(torch.tensor([9]), 9), torch.full((9, 2), 0.5)
    whole = Case(pool_share=1.0)  # all clips: what each stream selects doesn't matter
    both, alone = (
        [float(video_losses(heads, actionness, labels, batch, whole)[0][0]) for heads in heads_of]
        for heads_of in ([[first, second]], [[first], [second]])
    )
    assert both[0] == pytest.approx(sum(alone) / 2, rel=1e-6)


def test_what_it_says_of_a_clip() -> None:
    torch.manual_seed(0)
    network = CASE(Model(width=6), 4, 8, 3).eval()
    network.foreground.copy_(torch.rand(4, 2))
    clips = torch.randn(7, 8)
    said, streams = read(network.activations(clips)), network(clips)
    of_clusters = [one.clusters.softmax(dim=1) @ network.foreground[:, 0] for one in streams]
    expected = sum(one.logits.softmax(dim=1) for one in streams)[:, 1] + (
        sum(one.actionness for one in streams) + sum(of_clusters)
    )
    # The released mixture of a class: the mean softmax, two heads of actionness and two of clusters, a fifth each.
    released = (expected - sum(one.logits.softmax(dim=1)[:, 1] for one in streams) / 2) / 5
    torch.testing.assert_close(said.evidence(0.2)[:, 1], released)
    torch.testing.assert_close(said.classes.sum(dim=1), torch.ones(7))
    for number, clip in enumerate(clips):
        torch.testing.assert_close(network.activations(clip[None])[0], network.activations(clips)[number])


def test_prototypes_have_length_1_in_each_step_and_at_inference() -> None:
    torch.manual_seed(0)
    network, clips = CASE(Model(width=6, streams=1), 4, 8, 3), torch.randn(5, 8)
    expected = network(clips)[0].clusters
    with torch.no_grad():
        network.streams[0].prototypes.mul_(7.0)
    torch.testing.assert_close(network.eval()(clips)[0].clusters, expected)
    torch.testing.assert_close(network.train()(clips)[0].clusters, expected)
    torch.testing.assert_close(network.streams[0].prototypes.norm(dim=1), torch.ones(4))
