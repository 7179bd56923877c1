"""The four losses: numbers worked by hand, agreement with the plain oracle in value and gradient, and laws."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan import losses
from haan.methods.haan import losses as haan_losses
from haan.methods.haan.config import Concepts, Loss, Model
from haan.methods.haan.network import HAAN
from tests import oracle
from tests.fast import fast_losses
from tests.oracle import Padded, near_tie, random_batch

# Every setting that the losses read, with all its values; `distance` and `classifier_layers` are no keys of `loss`.
CHOICES = {
    "coarse_pooling": ("max", "mean"),
    "class_weights": ("balanced", "none"),
    "pseudo_weights": ("frequency", "none"),
    "pseudo_per_clip": (True, False),
    "concept_reduction": ("mean", "sum"),
    "detach_prototypes": (True, False),
    "distance": ("cosine", "euclidean"),
    "classifier_layers": (1, 2),
}
# Weights of Eq. 10 near 1, so that an error in any loss shows in the total's gradient.
WEIGHTS = {"mil": 0.9, "pseudo": 0.8, "concept": 0.7, "coarse": 0.6}
TOLERANCE = 1e-5


def split_choice(choice: dict) -> tuple[Loss, str, int]:
    """A combination of CHOICES as loss settings, distance and classifier layers."""
    rest = {name: value for name, value in choice.items() if name not in ("distance", "classifier_layers")}
    return Loss(**WEIGHTS, **rest), choice["distance"], choice["classifier_layers"]


def build(seed: int, batch: Padded, clusters: int, layers: int = 2, width: int = 8, dead: bool = False) -> HAAN:
    """A random model without dropout, of the batch's precision.

    dead: no hidden unit ever fires, so that every concept is the zero vector (with one layer: x is zero, the same).
    """
    torch.manual_seed(seed)
    config = Model(width=width, dropout=0.0, classifier_layers=layers)
    model = HAAN(config, batch.clips.shape[2], batch.fine.shape[1], clusters).to(batch.clips.dtype)
    with torch.no_grad():
        if dead:
            target = model.classifier_hidden[0] if layers == 2 else model.encoder[-1]
            target.weight.zero_()
            target.bias.fill_(-1.0 if layers == 2 else 0.0)
    return model


def gradients(model: HAAN, total: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    total.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def assert_agree(model: HAAN, loss: Loss, setting: Concepts, batch: Padded, tolerance: float = TOLERANCE) -> None:
    """Each loss and the gradient of the total by each parameter, fast against oracle."""
    expected = oracle.losses(model, loss, setting, batch)
    of_oracle = gradients(model, expected["total"])
    got = fast_losses(model, loss, setting, batch)
    of_fast = gradients(model, got["total"])
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
    for name, value in of_oracle.items():
        torch.testing.assert_close(
            of_fast[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"gradient of {n}: {m}"
        )


def values(model: HAAN, loss: Loss, setting: Concepts, batch: Padded) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in fast_losses(model, loss, setting, batch).items()}


def entropy(probability: float) -> float:
    return -math.log(probability)


def one_video(scores: list[list[float]]) -> Tensor:
    """Eq. 1 on one video given as rows of clips."""
    cas = torch.tensor(scores)
    return losses.pool(cas, torch.ones(len(cas), 1), torch.tensor([[float(len(cas))]]))


def test_pool_averages_the_scores_that_reach_the_mean() -> None:
    # Class 0: 1, 2, 6: mean 3, only 6 reaches it -> 6.  Class 1: 1, 3, 2: mean 2, 3 and 2 (equal) reach it -> 2.5.
    assert one_video([[1.0, 1.0], [2.0, 3.0], [6.0, 2.0]]).tolist() == [[6.0, 2.5]]


def test_pool_takes_the_mean_of_each_video_apart() -> None:
    # Video 0: 0, 4: mean 2 -> 4.  Video 1: 10: itself.  Video 2: -3, -1, -2: mean -2 -> (-1 - 2) / 2 = -1.5.
    cas = torch.tensor([[0.0], [4.0], [10.0], [-3.0], [-1.0], [-2.0]])
    got = losses.pool(cas, losses.members(torch.tensor([0, 0, 1, 2, 2, 2]), 3), torch.tensor([[2.0], [1.0], [3.0]]))
    assert got.tolist() == [[4.0], [10.0], [-1.5]]


def test_pool_gives_each_chosen_clip_an_equal_share_of_the_gradient() -> None:
    # 1, 3, 2: 3 and 2 are chosen, so d/ds = 0, 1/2, 1/2; the threshold itself passes no gradient.
    cas = torch.tensor([[1.0], [3.0], [2.0]], requires_grad=True)
    losses.pool(cas, torch.ones(3, 1), torch.tensor([[3.0]])).sum().backward()
    assert cas.grad is not None and cas.grad.squeeze(1).tolist() == [0.0, 0.5, 0.5]


def test_pool_of_a_collapsed_column_is_its_mean_and_not_nan() -> None:
    # 56 float32 scores of -0.30184281: their rounded sum over 56 lies 6e-8 above each of them, so none reaches it.
    cas = torch.full((56, 1), -0.30184281, requires_grad=True)
    video, num_clips = torch.zeros(56, dtype=torch.long), torch.tensor([[56.0]])
    mean = torch.zeros(1, 1).index_add(0, video, cas.detach()) / num_clips
    assert not (cas >= mean).any(), "the column must spring the trap here, or this test shows nothing"
    got = losses.pool(cas, losses.members(video, 1), num_clips)
    assert got.item() == mean.item() == pytest.approx(-0.30184281, abs=1e-7)
    got.sum().backward()
    assert cas.grad is not None
    torch.testing.assert_close(cas.grad, torch.full((56, 1), 1 / 56))


def test_collapsed_video_beside_a_live_one_leaves_the_live_one_alone() -> None:
    # Video 1: 1, 3: mean 2 -> 3.
    cas = torch.cat([torch.full((56, 1), -0.30184281), torch.tensor([[1.0], [3.0]])])
    member = losses.members(torch.tensor([0] * 56 + [1] * 2), 2)
    got = losses.pool(cas, member, torch.tensor([[56.0], [2.0]]))
    assert got[0].item() == pytest.approx(-0.30184281, abs=1e-7) and got[1].item() == 3.0


def bce(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    return losses.bce(logits, labels.float(), losses.label_weights(labels, weights))


def test_bce_is_the_mean_over_classes_summed_over_videos() -> None:
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4.
    # Video 0: label 1 at 0 -> -ln 1/2; label 0 at ln 3 -> -ln 1/4.  Video 1: label 0 at 0, label 1 at ln 3 -> -ln 3/4.
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    labels = torch.tensor([[True, False], [False, True]])
    expected = (entropy(1 / 2) + entropy(1 / 4)) / 2 + (entropy(1 / 2) + entropy(3 / 4)) / 2
    assert bce(logits, labels, None).item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_classes_over_videos_without_and_with_the_class() -> None:
    # 4 videos, C = 2. Class 0 is in 1 video: 2 / 3 for label 0, 2 / 1 for label 1. Class 1 is in 3: 2 / 1 and 2 / 3.
    labels = torch.tensor([[True, True], [False, True], [False, True], [False, False]])
    expected = torch.tensor([[2 / 3, 2.0], [2.0, 2 / 3]])
    torch.testing.assert_close(losses.balanced_weights(labels), expected)


def test_weighted_bce_weighs_each_class_by_its_label() -> None:
    # Weights as above. Logits 0 and ln 3, labels 1 and 0: (2 * -ln 1/2 + 2 * -ln 1/4) / 2 = 3 ln 2 = ln 8.
    # Labels 0 and 1: (2/3 * -ln 1/2 + 2/3 * -ln 3/4) / 2 = ln(8/3) / 3.
    logits, weights = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[2 / 3, 2.0], [2.0, 2 / 3]])
    rare = bce(logits, torch.tensor([[True, False]]), weights)
    common = bce(logits, torch.tensor([[False, True]]), weights)
    assert rare.item() == pytest.approx(math.log(8), rel=1e-6)
    assert common.item() == pytest.approx(math.log(8 / 3) / 3, rel=1e-6)


# Two clips of logits (0, ln 3), softmax (1/4, 3/4), with labels 0 and 1: -ln 1/4 and -ln 3/4. Then a video of one clip.
@pytest.mark.parametrize(
    ("frequency", "per_clip", "expected"),
    [
        (None, False, (entropy(1 / 4) + entropy(3 / 4)) / 2 + entropy(1 / 4)),
        (None, True, (entropy(1 / 4) + entropy(3 / 4)) / 2 / 2 + entropy(1 / 4)),
        # Weights 0.2 and 0.6 sum to 0.8, so the shares are 1/4 and 3/4; a lone clip's weight cancels out.
        ([0.2, 0.6], False, entropy(1 / 4) / 4 + entropy(3 / 4) * 3 / 4 + entropy(1 / 4)),
        ([0.2, 0.6], True, (entropy(1 / 4) / 4 + entropy(3 / 4) * 3 / 4) / 2 + entropy(1 / 4)),
    ],
)
def test_pseudo_loss_is_the_weighted_mean_over_each_videos_clips(
    frequency: list[float] | None, per_clip: bool, expected: float
) -> None:
    labels, offsets = np.array([0, 1, 0]), np.array([0, 2, 3])
    weights = haan_losses.clip_weights(labels, offsets, None if frequency is None else np.array(frequency), per_clip)
    logits = torch.tensor([[0.0, math.log(3)]] * 3)
    got = haan_losses.pseudo_loss(logits, torch.from_numpy(labels), torch.from_numpy(weights).float())
    assert got.item() == pytest.approx(expected, rel=1e-6)


# w = (1, 0) for each class; e = (3, 4): cosine 3/5, distance |(2, 4)| = sqrt 20. e = (-2, 0): cosine -1, distance 3.
# e = 0: cosine counts 0, distance 1. The first video contains all three classes, the second the first one only.
@pytest.mark.parametrize(
    ("distance", "reduction", "expected"),
    [
        ("cosine", "sum", (2 / 5 + 2 + 1) + 2 / 5),
        ("cosine", "mean", (2 / 5 + 2 + 1) / 3 + 2 / 5),
        ("euclidean", "sum", (math.sqrt(20) + 3 + 1) + math.sqrt(20)),
        ("euclidean", "mean", (math.sqrt(20) + 3 + 1) / 3 + math.sqrt(20)),
    ],
)
def test_concept_loss_measures_the_present_classes_alone(distance: str, reduction: str, expected: float) -> None:
    fine = torch.tensor([[3.0, 4.0], [-2.0, 0.0], [0.0, 0.0]]).expand(2, 3, 2)
    labels = torch.tensor([[True, True, True], [True, False, False]])
    shares = haan_losses.class_shares(labels.float(), reduction)
    got = haan_losses.concept_loss(fine, torch.tensor([[1.0, 0.0]] * 3), shares, distance)
    assert got.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_concept_loss_of_a_video_without_any_class_is_0(reduction: str) -> None:
    shares = haan_losses.class_shares(torch.zeros(1, 2), reduction)
    got = haan_losses.concept_loss(torch.ones(1, 2, 3), torch.ones(2, 3), shares, "cosine")
    assert got.item() == 0.0


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_concept_loss_passes_no_nan_gradient_from_zero_and_equal_vectors(distance: str) -> None:
    prototypes = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    fine = torch.tensor([[[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]], requires_grad=True)
    haan_losses.concept_loss(fine, prototypes, torch.ones(1, 4), distance).backward()
    assert fine.grad is not None and fine.grad.isfinite().all()
    assert prototypes.grad is not None and prototypes.grad.isfinite().all()


def test_total_is_the_weighted_sum_of_the_four() -> None:
    batch = random_batch(0, [3, 2], clusters=4)
    got = values(build(0, batch, 4), Loss(mil=2.0, pseudo=3.0, concept=5.0, coarse=7.0), concepts_of(4, 2), batch)
    expected = 2 * got["mil"] + 3 * got["pseudo"] + 5 * got["concept"] + 7 * got["coarse"]
    assert got["total"] == pytest.approx(expected, rel=1e-12)


def test_a_loss_of_weight_0_passes_no_gradient() -> None:
    batch = random_batch(0, [3, 2], clusters=4)
    model = build(0, batch, 4)
    only_mil = Loss(mil=1.0, pseudo=0.0, concept=0.0, coarse=0.0)
    got = gradients(model, fast_losses(model, only_mil, concepts_of(4, 2), batch)["total"])
    silent = {name for name, value in got.items() if not value.any()}
    assert silent == {name for name in got if name.startswith(("concept_classifier", "coarse_classifier"))}


@pytest.mark.parametrize("detach", [True, False])
def test_concept_loss_reaches_w_only_when_prototypes_are_not_detached(detach: bool) -> None:
    # mil reaches w too, so its gradient is taken off: with coarse and pseudo at 0 what is left comes from L_concept.
    batch = random_batch(0, [6, 4], clusters=4)
    model = build(0, batch, 4)
    base = Loss(mil=1.0, pseudo=0.0, concept=0.0, coarse=0.0)
    both = replace(base, concept=1.0, detach_prototypes=detach)
    without, with_concept = (
        gradients(model, fast_losses(model, one, concepts_of(4, 2), batch)["total"])["classifier.weight"]
        for one in (base, both)
    )
    assert torch.equal(without, with_concept) == detach


def concepts_of(clusters: int, top_k: int, distance: str = "cosine") -> Concepts:
    return Concepts(clusters=clusters, top_k=top_k, distance=distance)


@pytest.mark.parametrize("values_of", list(itertools.product(*CHOICES.values())), ids=lambda v: "-".join(map(str, v)))
def test_every_combination_of_settings_agrees_with_the_oracle(values_of: tuple) -> None:
    loss, distance, layers = split_choice(dict(zip(CHOICES, values_of, strict=True)))
    batch = random_batch(3, [5, 1, 8], clusters=6, distinct=7)
    assert_agree(build(3, batch, 6, layers), loss, concepts_of(6, 3, distance), batch)


@st.composite
def problems(draw: st.DrawFn) -> tuple[HAAN, Loss, Concepts, Padded]:
    loss, distance, layers = split_choice({name: draw(st.sampled_from(v)) for name, v in CHOICES.items()})
    num_clips = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    clusters = draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**31 - 1))
    distinct = draw(st.none() | st.integers(1, 6))
    batch = random_batch(seed, num_clips, clusters=clusters, distinct=distinct, pad=draw(st.integers(0, 3)))
    dead = draw(st.sampled_from([False, False, False, True]))
    model = build(seed, batch, clusters, layers, dead=dead)
    return model, loss, concepts_of(clusters, draw(st.integers(1, clusters)), distance), batch


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(problems())
def test_any_batch_agrees_with_the_oracle(problem: tuple[HAAN, Loss, Concepts, Padded]) -> None:
    model, loss, setting, batch = problem
    assume(not near_tie(model, setting, batch))
    assert_agree(model, loss, setting, batch)


@pytest.mark.parametrize("distance", CHOICES["distance"])
@pytest.mark.parametrize("pooling", CHOICES["coarse_pooling"])
def test_float32_at_a_larger_size_agrees_with_the_oracle(distance: str, pooling: str) -> None:
    batch = random_batch(11, [40, 25], clusters=30, dim=16, fine=20, coarse=4, dtype=torch.float32)
    model, setting = build(11, batch, 30, width=32), concepts_of(30, 5, distance)
    assert not near_tie(model, setting, batch, gap=1e-6)
    assert_agree(model, Loss(**WEIGHTS, coarse_pooling=pooling), setting, batch, tolerance=2e-5)


def test_float32_and_float64_give_the_same_losses() -> None:
    single = random_batch(11, [9, 4], clusters=6, dtype=torch.float32)
    double = replace(single, clips=single.clips.double(), frequency=single.frequency.double())
    model = build(11, single, 6)
    low = values(model, Loss(**WEIGHTS), concepts_of(6, 2), single)
    high = values(model.double(), Loss(**WEIGHTS), concepts_of(6, 2), double)
    assert low == pytest.approx(high, rel=1e-5)


def test_defaults_at_the_published_sizes_agree_with_the_oracle() -> None:
    # 50 clusters of which most are absent in each video, k = 5, the default weights of Eq. 10.
    batch = random_batch(5, [30, 12], clusters=50, dim=12, fine=15, coarse=5)
    assert_agree(build(5, batch, 50, width=16), Loss(), concepts_of(50, 5), batch, tolerance=1e-7)


LAWS = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def keep(batch: Padded, order: list[int]) -> Padded:
    """The videos of a batch in another order; the training set stays."""
    return replace(
        batch,
        clips=batch.clips[order],
        num_clips=[batch.num_clips[b] for b in order],
        labels=batch.labels[order],
        fine=batch.fine[order],
        coarse=batch.coarse[order],
    )


@LAWS
@given(problems(), st.integers(1, 9), st.floats(-1e3, 1e3))
def test_padding_moves_no_loss(problem: tuple, more: int, filler: float) -> None:
    model, loss, setting, batch = problem
    num_videos, _, dim = batch.clips.shape
    padded = replace(
        batch,
        clips=torch.cat([batch.clips, torch.full((num_videos, more, dim), filler, dtype=torch.float64)], dim=1),
        labels=torch.cat([batch.labels, torch.full((num_videos, more), -1)], dim=1),
    )
    assume(not near_tie(model, setting, batch))
    before = {name: value.item() for name, value in oracle.losses(model, loss, setting, batch).items()}
    after = {name: value.item() for name, value in oracle.losses(model, loss, setting, padded).items()}
    assert after == pytest.approx(before, rel=1e-9, abs=1e-9)
    assert values(model, loss, setting, padded) == pytest.approx(before, rel=1e-5, abs=1e-5)


@LAWS
@given(problems(), st.randoms())
def test_order_of_the_videos_moves_no_loss(problem: tuple, random: object) -> None:
    model, loss, setting, batch = problem
    assume(not near_tie(model, setting, batch))
    order = list(range(len(batch.num_clips)))
    random.shuffle(order)  # type: ignore[attr-defined]
    got = values(model, loss, setting, keep(batch, order))
    assert got == pytest.approx(values(model, loss, setting, batch), rel=1e-9, abs=1e-9)


@LAWS
@given(problems())
def test_losses_of_a_batch_are_the_sums_over_its_videos(problem: tuple) -> None:
    model, loss, setting, batch = problem
    assume(not near_tie(model, setting, batch))
    alone = [values(model, loss, setting, keep(batch, [b])) for b in range(len(batch.num_clips))]
    summed = {name: sum(one[name] for one in alone) for name in oracle.LOSSES}
    assert values(model, loss, setting, batch) == pytest.approx(summed, rel=1e-9, abs=1e-9)


@LAWS
@given(problems(), st.randoms())
def test_order_of_the_clips_moves_no_loss(problem: tuple, random: object) -> None:
    model, loss, setting, batch = problem
    assume(not near_tie(model, setting, batch))
    clips, labels = batch.clips.clone(), batch.labels.clone()
    for b, count in enumerate(batch.num_clips):
        order = list(range(count))
        random.shuffle(order)  # type: ignore[attr-defined]
        clips[b, :count], labels[b, :count] = batch.clips[b, order], batch.labels[b, order]
    got = values(model, loss, setting, replace(batch, clips=clips, labels=labels))
    assert got == pytest.approx(values(model, loss, setting, batch), rel=1e-9, abs=1e-9)


@LAWS
@given(problems(), st.integers(0, 3), st.integers(0, 9), st.integers(0, 3))
def test_rows_that_only_fill_a_batch_up_move_no_loss(problem: tuple, videos: int, clips: int, ranks: int) -> None:
    model, loss, setting, batch = problem
    assume(not near_tie(model, setting, batch))
    got, expected = fast_losses(model, loss, setting, batch, (videos, clips, ranks)), fast_losses(*problem)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    ours, theirs = gradients(model, got["total"]), gradients(model, expected["total"])
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@LAWS
@given(problems(), st.floats(0.1, 10.0))
def test_scale_of_the_frequencies_moves_no_loss(problem: tuple, factor: float) -> None:
    model, loss, setting, batch = problem
    got = values(model, loss, setting, replace(batch, frequency=batch.frequency * factor))
    assert got == pytest.approx(values(model, loss, setting, batch), rel=1e-9, abs=1e-9)


@example(batch_seed=0)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(batch_seed=st.integers(0, 1000))
def test_losses_are_never_negative(batch_seed: int) -> None:
    rng = np.random.default_rng(batch_seed)
    batch = random_batch(batch_seed, rng.integers(1, 13, size=2).tolist(), clusters=5)
    assert min(values(build(batch_seed, batch, 5), Loss(), concepts_of(5, 2), batch).values()) >= 0
