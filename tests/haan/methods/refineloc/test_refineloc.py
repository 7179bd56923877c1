"""RefineLoc: numbers worked by hand, agreement with plain loops over single videos, and how iterations follow."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from haan.checked import RuleError
from haan.data.table import ClipTable, Split
from haan.errors import TrainingError
from haan.feed import Feed
from haan.methods.base import Labelled, mix_seed
from haan.methods.ragged import Ragged
from haan.methods.refineloc.config import Model, RefineConfig
from haan.methods.refineloc.method import (
    RefineLoc,
    RefineMethod,
    clip_weights,
    detector,
    ignored,
    pseudo_loss,
    sequences,
    video_loss,
)
from haan.score import activations
from haan.train import Trainer
from tests.methods import tiny_of
from tests.planted import tiny_table

SEARCH = settings(max_examples=60, deadline=None, derandomize=True)
LN3 = math.log(3)
Problem = tuple[RefineConfig, ClipTable, Split]


def softmax(row: list[float]) -> list[float]:
    total = sum(map(math.exp, row))
    return [math.exp(value) / total for value in row]


def test_the_loss_of_a_video_is_a_mean_of_logarithms() -> None:
    # Attention of 0 and ln 3 is 1/4 and 3/4; P(label) is 0.5 and 0.8: -ln 0.5 / 4 - 3 ln 0.8 / 4. Of a mean of P it
    # were -ln 0.725 = 0.32158.
    logits = torch.tensor([[0.5, 0.5], [0.8, 0.2]]).log()
    batch = Ragged.of(torch.tensor([2]), 2)
    got = video_loss(logits, torch.tensor([0.0, LN3]), batch, torch.tensor([[1.0, 0.0]]))
    assert float(got) == pytest.approx(0.34064446, abs=1e-7)


def test_labels_of_a_video_share_its_loss() -> None:
    # One clip, P of 0.5, 0.2 and 0.3; the first two are labels: (-ln 0.5 - ln 0.2) / 2.
    logits, labels = torch.tensor([[0.5, 0.2, 0.3]]).log(), torch.tensor([[1.0, 1.0, 0.0]])
    got = video_loss(logits, torch.zeros(1), Ragged.of(torch.tensor([1]), 1), labels)
    assert float(got) == pytest.approx(-math.log(0.1) / 2, abs=1e-6)


def test_with_two_outputs_attention_is_a_softmax_of_a_softmax() -> None:
    # Foreground's share is 0.1 and 0.9: e^0.1 / (e^0.1 + e^0.9) and the rest.
    network = RefineLoc(Model(layers=1, attention_outputs=2), dim=2, num_fine=1)
    with torch.no_grad():
        network.attention[0].weight.copy_(torch.eye(2))  # type: ignore[union-attr]
        network.attention[0].bias.zero_()  # type: ignore[union-attr]
        numbers = network.activations(torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log())
    torch.testing.assert_close(numbers[:, 1:], torch.tensor([[0.1, 0.1], [0.9, 0.9]]))
    found = sequences(torch.cat([torch.tensor([[LN3, 0.0], [0.0, LN3]]), numbers[:, 1:]], 1).numpy(), np.array([0, 2]))
    # P of the first class is 3/4 and 1/4.
    assert found.level[0, 0] == pytest.approx(0.310026 * 0.75 + 0.689974 * 0.25, abs=1e-6)


def of_labels(logit: list[float], labels: list[int], background: float, outputs: int, weighted: bool) -> float:
    """The loss of pseudo labels of one video."""
    weight = clip_weights(np.array(labels, np.int8), np.array([0, len(labels)]), background, outputs, weighted)
    positive = torch.tensor([float(label == 1) for label in labels])
    return float(pseudo_loss(torch.tensor(logit), positive, torch.from_numpy(weight)))


def test_the_loss_of_pseudo_labels_worked_by_hand() -> None:
    # The foreground weighs the root of 0.64: (ln 2 + 0.8 ln(4/3)) / 2. A clip without a label counts for nothing.
    assert of_labels([0.0, LN3], [0, 1], 0.64, 1, True) == pytest.approx(0.46164642, abs=1e-7)
    assert of_labels([0.0, LN3, 5.0], [0, 1, -1], 0.64, 1, True) == pytest.approx(0.46164642, abs=1e-7)
    assert of_labels([0.0, LN3], [0, 1], 0.64, 1, False) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    # With two outputs 0.36 and 0.64, of which the mean is, too, as PyTorch's weighted cross entropy has it.
    expected = nn.CrossEntropyLoss(weight=torch.tensor([0.36, 0.64]))(
        torch.tensor([[0.0, 0.0], [1.0, 1.0 + LN3]]), torch.tensor([0, 1])
    )
    assert of_labels([0.0, LN3], [0, 1], 0.64, 2, True) == pytest.approx(float(expected), abs=1e-7)


@pytest.mark.parametrize("outputs", [1, 2])
def test_background_alone_is_learnt_only_where_it_weighs_something(outputs: int) -> None:
    # The share of the background is 1: with two outputs it weighs 1 - 1, and no clip counts; else the loss is ln 2.
    got = of_labels([0.0, 0.0], [0, 0], 1.0, outputs, True)
    assert got == pytest.approx(math.log(2) if outputs == 1 else 0.0)


def plain_losses(
    logits: list[list[float]], shared: list[float], logit: list[float], labels: list[int], pseudo: list[int]
) -> list[float]:
    """Of one video: its own loss, and that of unweighted pseudo labels."""
    named, attention = [c for c, label in enumerate(labels) if label], softmax(shared)
    own = -sum(a * sum(math.log(softmax(row)[c]) for c in named) for a, row in zip(attention, logits, strict=True))
    terms = [math.log(1 + math.exp(-u if label else u)) for u, label in zip(logit, pseudo, strict=True) if label >= 0]
    return [own / len(named) if named else 0.0, sum(terms) / len(terms) if terms else 0.0]


@SEARCH
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_losses_are_those_of_plain_loops(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes])
    logits, shared, logit = (torch.from_numpy(rng.normal(size=(offsets[-1], n))) for n in (3, 1, 1))
    labels, pseudo = rng.integers(0, 2, (len(sizes), 3)), rng.integers(-1, 2, offsets[-1]).astype(np.int8)
    batch = Ragged.of(torch.tensor(sizes), max(sizes) + 1)
    got = video_loss(logits, shared[:, 0], batch, torch.from_numpy(labels).double()).tolist()
    weight = torch.from_numpy(clip_weights(pseudo, offsets, 0.5, 1, False)).double()
    of_pseudo = float(pseudo_loss(logit[:, 0], torch.from_numpy(pseudo == 1).double(), weight))
    expected = [
        plain_losses(
            logits[own].tolist(), shared[own, 0].tolist(), logit[own, 0].tolist(), row.tolist(), pseudo[own].tolist()
        )
        for own, row in zip(map(slice, offsets[:-1], offsets[1:]), labels, strict=True)
    ]
    assert got == pytest.approx([own for own, _ in expected], abs=1e-9)
    assert of_pseudo == pytest.approx(sum(other for _, other in expected), abs=1e-5)


@SEARCH
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_sequences_are_those_of_plain_loops(seed: int, sizes: list[int]) -> None:
    numbers = torch.randn(sum(sizes), 5, generator=torch.Generator().manual_seed(seed))
    found = sequences(numbers.numpy(), np.cumsum([0, *sizes]))
    for video, alone in enumerate(numbers.split(sizes)):
        p, attention = [softmax(row[:-2]) for row in alone.tolist()], softmax(alone[:, -1].tolist())
        level = [sum(a * row[c] for a, row in zip(attention, p, strict=True)) for c in range(3)]
        own = slice(sum(sizes[:video]), sum(sizes[: video + 1]))
        np.testing.assert_allclose(found.scores[own], p, atol=1e-6)
        assert found.level[video].tolist() == pytest.approx(level, abs=1e-9)
        assert torch.equal(torch.from_numpy(found.attention[own]), alone[:, -2])


def test_stacks_narrow_by_halves_and_no_further_than_their_outputs() -> None:
    network = RefineLoc(Model(layers=3), dim=20, num_fine=7)
    layers = [
        [tuple(part.weight.shape) for part in stack if isinstance(part, nn.Linear)] for stack in network.children()
    ]
    assert layers == [[(10, 20), (7, 10), (7, 7)], [(10, 20), (5, 10), (1, 5)]]


def test_a_share_of_each_video_s_clips_is_without_a_label() -> None:
    num_clips = np.array([1, 10, 100, 3])
    found = ignored(num_clips, 0.29, np.random.default_rng(0))
    assert [part.sum() for part in np.split(found, np.cumsum(num_clips)[:-1])] == [0, 2, 29, 0]
    assert not np.array_equal(found, ignored(num_clips, 0.29, np.random.default_rng(1)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    config = tiny_of("refineloc", tmp_path_factory.mktemp("planted") / "data")
    assert isinstance(config, RefineConfig)
    return config, *tiny_table(config)  # type: ignore[arg-type]  # of any method


def refined(config: RefineConfig, **settings: Any) -> RefineConfig:
    return replace(config, refine=replace(config.refine, **settings))


def after(problem: Problem, epochs: int) -> tuple[Trainer, RefineMethod]:
    trainer = Trainer(*problem)
    for _ in range(epochs):
        trainer.train_epoch()
    assert isinstance(trainer.method, RefineMethod)
    return trainer, trainer.method


def test_pseudo_labels_are_the_clips_of_detections_in_the_training_videos_by_the_last_epoch(tiny: Problem) -> None:
    config, table, parts = tiny
    config = refined(config, pseudo_dropout=0.0)
    trainer, method = after((config, table, parts), 2)
    num_clips, per_s = table.num_clips[parts.train], table.annotations.clips_per_s[parts.train]
    feed = Feed(table, trainer.device, int(table.num_clips.sum()))
    numbers = activations(trainer.model, [feed.videos(parts.train)], num_clips)
    offsets = np.concatenate([[0], np.cumsum(num_clips)])
    ((_, make),) = detector(numbers, offsets, per_s, [config.refine])
    expected, found = np.zeros(len(numbers), dtype=int), make()
    for video, start_s, end_s in zip(found.video, found.start_s, found.end_s, strict=True):
        first, last = (round(seconds * per_s[video]) for seconds in (start_s, end_s))
        expected[offsets[video] + first : offsets[video] + last] = 1
    method.renew(3)
    assert method.state()["pseudo.labels"].tolist() == expected.tolist()
    assert 0.05 < expected.mean() < 0.95
    assert float(method.state()["pseudo.background"]) == pytest.approx(1 - expected.mean())


def test_the_first_iteration_has_none(tiny: Problem) -> None:
    trainer, method = after(tiny, 0)
    found = [trainer.train_epoch().losses for _ in range(3)]
    assert [losses["pseudo"] > 0 for losses in found] == [False, False, True]
    assert (method.state()["pseudo.labels"] == -1).double().mean() == pytest.approx(0.3, abs=0.03)


def test_without_detections_all_is_background(tiny: Problem) -> None:
    config, table, parts = tiny
    _, method = after((refined(config, class_threshold=1.0, pseudo_dropout=0.0), table, parts), 0)
    method.renew(3)
    assert not method.state()["pseudo.labels"].any() and float(method.state()["pseudo.background"]) == 1


@pytest.mark.parametrize("reset", [True, False])
def test_an_iteration_begins_with_a_fresh_network_and_optimiser(tiny: Problem, reset: bool) -> None:
    """At a learning rate of next to nothing weights stay what they were drawn as."""
    config, table, parts = tiny
    config = replace(refined(config, reset=reset), optim=replace(config.optim, lr=1e-12, ema_epochs=1.0))
    trainer, method = after((config, table, parts), 2)
    before = [parameter.data_ptr() for parameter in trainer.model.parameters()]
    trainer.train_epoch()
    assert before == [parameter.data_ptr() for parameter in trainer.model.parameters()], "where graphs read them"
    torch.manual_seed(mix_seed(config.seed, 3) if reset else config.seed)
    fresh = method.build(config, table.dim, len(table.annotations.fine_names))
    for ours, theirs in zip(trainer.model.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    steps = trainer.begin(method.order(3))
    assert float(trainer._optimiser.state[0]["step"]) == (1 if reset else 3) * steps
    mass = 1 - math.exp(-1 if reset else -3)
    assert float(trainer._optimiser.state[0]["average_mass"]) == pytest.approx(mass)


@pytest.mark.parametrize("schedule_epochs", [None, 9])
def test_a_schedule_is_as_long_as_an_iteration(tiny: Problem, schedule_epochs: int | None) -> None:
    """Whatever a training of fewer epochs than a search's says that its schedule is of."""
    config, table, parts = tiny
    config = replace(config, optim=replace(config.optim, schedule="linear", schedule_epochs=schedule_epochs))
    trainer, method = after((config, table, parts), 0)
    steps, rates = len(parts.train) // 2, []
    for epoch in range(1, 5):
        trainer.begin(method.order(epoch), epoch)
        assert trainer._rates is not None
        rates += (trainer._rates / config.optim.lr).tolist()
    once = [1 - t / (2 * steps) for t in range(2 * steps)]
    assert rates == pytest.approx(once + once, abs=1e-6)


def test_a_warm_up_longer_than_an_iteration_is_refused(tiny: Problem) -> None:
    config = tiny[0]
    rule = r"optim.warmup_epochs: must be < refine.epochs_per_iteration \(2\), where that begins anew, got 2"
    with pytest.raises(RuleError, match=rule):
        replace(config, optim=replace(config.optim, warmup_epochs=2))
    replace(refined(config, reset=False), optim=replace(config.optim, warmup_epochs=2))


def test_a_video_without_labels_teaches_nothing(tiny: Problem) -> None:
    config, table, parts = tiny
    known = Labelled.of(table.annotations, parts.train, table.num_clips, table.dim)
    fine = known.fine.copy()
    fine[0] = False
    cpu = torch.device("cpu")
    config = refined(config, class_threshold=1.0)  # all are background
    method = RefineMethod(config, replace(known, fine=fine), Feed(table, cpu, int(table.num_clips.sum())), cpu)
    method.renew(3)
    first = int(known.num_clips[0])
    assert not method._weight[:first].any() and method._weight[first:].any()


def test_weights_blown_up_by_the_last_step_are_an_error_of_training(tiny: Problem) -> None:
    trainer, _ = after(tiny, 2)
    with torch.no_grad():
        trainer.model.classifier[0].bias.fill_(float("inf"))
    with pytest.raises(TrainingError, match="what is said of training clips is not finite before epoch 3"):
        trainer.train_epoch()


def test_pseudo_labels_of_other_videos_are_refused(tiny: Problem) -> None:
    _, method = after(tiny, 0)
    other: dict[str, Tensor] = method.state() | {"pseudo.labels": torch.zeros(3, dtype=torch.int8)}
    with pytest.raises(ValueError, match="pseudo labels must be of .* clips, got 3"):
        method.restore(other)


def test_a_network_needs_no_second_stream_and_no_class_more_than_one(tmp_path: Path) -> None:
    network = RefineLoc(Model(), dim=9, num_fine=1)
    assert network.activations(torch.zeros(4, 9)).shape == (4, 3)
