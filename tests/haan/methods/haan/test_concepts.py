"""Clips -> visual concepts -> fine -> coarse representations: numbers worked by hand, ties, and laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from haan.methods.haan.concepts import Groups, Hierarchy, fine_representations, group, visual_concepts
from tests import oracle

CPU = torch.device("cpu")
LAWS = settings(max_examples=50, deadline=None, derandomize=True)


def one_video(num_present: int, clusters: int) -> Groups:
    """A video of one clip for each of the first `num_present` clusters."""
    return group(np.arange(num_present), np.array([0, num_present]), clusters, CPU)


def compose(concepts: list, prototypes: list, clusters: int, top_k: int, distance: str = "cosine") -> list:
    """e^j of one video for each prototype; concept n of the list is cluster n, the others are absent."""
    v, w = torch.tensor(concepts), torch.tensor(prototypes)
    return fine_representations(v[None], w, one_video(len(v), clusters), clusters, top_k, distance)[0].tolist()


def test_group_orders_concepts_by_video_and_then_by_label() -> None:
    # Video 0: labels 2, 0, 2 -> concepts 0 (1 clip), 2 (2 clips). Video 1: labels 1, 1 -> concept 1 (2 clips).
    groups = group(np.array([2, 0, 2, 1, 1]), np.array([0, 3, 5]), 3, CPU)
    assert groups.within.tolist() == [1, 0, 1, 0, 0]
    assert groups.part.tolist() == [[0.5, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]]
    assert (groups.present.tolist(), groups.rank.tolist()) == ([[2], [1]], [0, 1])


def test_visual_concept_is_the_mean_of_its_clips_within_one_video() -> None:
    # Video 0: label 0: (2, 0); label 2: mean of (1, 1) and (3, 5) = (2, 3). Video 1: label 2: (8, 8), not mixed in.
    hidden = torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 5.0], [8.0, 8.0]])
    groups = group(np.array([2, 0, 2, 2]), np.array([0, 3, 4]), 3, CPU)
    assert visual_concepts(hidden, groups).tolist() == [[[2.0, 0.0], [2.0, 3.0]], [[8.0, 8.0], [0.0, 0.0]]]


def test_fine_representation_is_the_mean_of_the_k_nearest_concepts() -> None:
    # Cosines to w = (1, 0): (4, 0): 1, (3, 3): 0.71, (0, 2): 0. Nearest two: ((4, 0) + (3, 3)) / 2 = (3.5, 1.5).
    # To w = (0, 5): (0, 2): 1, (3, 3): 0.71, (4, 0): 0. Nearest two: ((0, 2) + (3, 3)) / 2 = (1.5, 2.5).
    got = compose([[4.0, 0.0], [3.0, 3.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 5.0]], clusters=3, top_k=2)
    assert got == [[3.5, 1.5], [1.5, 2.5]]


def test_absent_concepts_take_the_place_of_concepts_that_point_away() -> None:
    # Cosines to w = (1, 0): 1, -1, and 0 for the two absent ones. k = 1: (2, 0). k = 2, 3: one, two zeros beside it:
    # (2, 0) / 2, (2, 0) / 3. k = 4: all four: ((2, 0) + (-6, 0)) / 4.
    v, w = [[-6.0, 0.0], [2.0, 0.0]], [[1.0, 0.0]]
    expected = {1: [2.0, 0.0], 2: [1.0, 0.0], 3: [2 / 3, 0.0], 4: [-1.0, 0.0]}
    for k, e in expected.items():
        assert compose(v, w, clusters=4, top_k=k)[0] == pytest.approx(e)


def test_without_absent_concepts_one_that_points_away_is_chosen() -> None:
    assert compose([[-6.0, 0.0]], [[1.0, 0.0]], clusters=1, top_k=1) == [[-6.0, 0.0]]
    assert compose([[-6.0, 0.0]], [[1.0, 0.0]], clusters=2, top_k=1) == [[0.0, 0.0]]


def test_euclidean_distance_chooses_by_length_as_well_as_direction() -> None:
    # w = (3, 0). To (1, 0): 2; to (10, 0): 7; to (3, 1): 1; to an absent one: 3. Order: (3, 1), (1, 0), 0, (10, 0).
    v, w = [[1.0, 0.0], [10.0, 0.0], [3.0, 1.0]], [[3.0, 0.0]]
    expected = {1: [3.0, 1.0], 2: [2.0, 0.5], 3: [4 / 3, 1 / 3], 4: [14 / 4, 1 / 4]}
    for k, e in expected.items():
        assert compose(v, w, clusters=4, top_k=k, distance="euclidean")[0] == pytest.approx(e)


def test_videos_of_one_batch_choose_among_their_own_concepts() -> None:
    # Clusters 0 and 1 in video 0, cluster 1 alone in video 1; N = 2, k = 1, w = (1, 0).
    # Video 0: cosines 0.6, 1 -> (2, 0). Video 1: -1 against 0 of absent cluster 0 -> the zero vector.
    concepts = torch.tensor([[[3.0, 4.0], [2.0, 0.0]], [[-5.0, 0.0], [0.0, 0.0]]])
    groups = group(np.array([0, 1, 1]), np.array([0, 2, 3]), 2, CPU)
    got = fine_representations(concepts, torch.tensor([[1.0, 0.0]]), groups, 2, 1, "cosine")
    assert got.tolist() == [[[2.0, 0.0]], [[0.0, 0.0]]]


def test_gradient_reaches_the_chosen_concepts_and_never_the_prototypes() -> None:
    concepts = torch.tensor([[4.0, 0.0], [3.0, 3.0], [0.0, 2.0]], requires_grad=True)
    prototypes = torch.tensor([[1.0, 0.0]], requires_grad=True)
    fine_representations(concepts[None], prototypes, one_video(3, 3), 3, 2, "cosine").sum().backward()
    assert concepts.grad is not None and concepts.grad.tolist() == [[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]
    assert prototypes.grad is None


def test_coarse_representation_is_the_maximum_or_mean_of_its_fine_classes() -> None:
    # Coarse 0 holds fine 0 and 2: (1, -4), (5, -2): max (5, -2), mean (3, -3). Coarse 1 holds fine 1: (-7, 2).
    fine = torch.tensor([[[1.0, -4.0], [-7.0, 2.0], [5.0, -2.0]]])
    hierarchy = Hierarchy(np.array([0, 1, 0]), CPU)
    assert hierarchy.compose(fine, "max").tolist() == [[[5.0, -2.0], [-7.0, 2.0]]]
    assert hierarchy.compose(fine, "mean").tolist() == [[[3.0, -3.0], [-7.0, 2.0]]]


def gradient_of_choice(concepts: list, w: list, clusters: int, top_k: int, distance: str = "cosine") -> list:
    """1 for each concept that was chosen for a single class, 0 for the others."""
    v = torch.tensor(concepts, requires_grad=True)
    e = fine_representations(v[None], torch.tensor([w]), one_video(len(v), clusters), clusters, top_k, distance)
    (e[..., 0].sum() * top_k).backward()
    assert v.grad is not None
    return v.grad[:, 0].tolist()


def test_of_equal_cosines_the_lower_clusters_are_chosen() -> None:
    # Lengths 4, 1, 2, 1 in the direction of w: cosine 1 for all, exact in binary.
    v = [[4.0, 0.0], [1.0, 0.0], [2.0, 0.0], [1.0, 0.0]]
    for k in range(1, 5):
        assert gradient_of_choice(v, [2.0, 0.0], clusters=4, top_k=k) == [1.0] * k + [0.0] * (4 - k)


def test_of_equal_euclidean_distances_the_lower_clusters_are_chosen() -> None:
    # w = (2, 0): distance 1 to (3, 0), (2, 1), (1, 0) and (2, -1).
    v = [[3.0, 0.0], [2.0, 1.0], [1.0, 0.0], [2.0, -1.0]]
    for k in range(1, 5):
        chosen = gradient_of_choice(v, [2.0, 0.0], clusters=6, top_k=k, distance="euclidean")
        assert chosen == [1.0] * k + [0.0] * (4 - k)


def test_at_right_angles_a_present_concept_goes_before_the_absent_ones() -> None:
    # Cosine 0 for cluster 1 (right angle) and for the absent clusters 2 and 3; cluster 0 points away.
    v, w = [[-1.0, 1.0], [0.0, 3.0]], [1.0, 0.0]
    assert gradient_of_choice(v, w, clusters=4, top_k=1) == [0.0, 1.0]
    assert gradient_of_choice(v, w, clusters=4, top_k=3) == [0.0, 1.0]
    assert gradient_of_choice(v, w, clusters=4, top_k=4) == [1.0, 1.0]


def test_at_an_absent_ones_euclidean_distance_a_present_concept_goes_first() -> None:
    # w = (3, 4) has length 5, the distance to an absent concept; (6, 8) and (3, 9) are 5 away as well.
    v, w = [[6.0, 8.0], [3.0, 9.0]], [3.0, 4.0]
    for k in range(1, 4):
        assert gradient_of_choice(v, w, clusters=3, top_k=k, distance="euclidean") == [1.0, float(k > 1)]


def test_a_present_zero_concept_goes_before_the_absent_ones_by_cosine() -> None:
    for seed in range(20):
        w = torch.randn(16, generator=torch.Generator().manual_seed(seed)).tolist()
        assert gradient_of_choice([[0.0] * 16], w, clusters=3, top_k=1) == [1.0]


def test_a_present_zero_concept_goes_before_the_absent_ones_by_euclidean_distance() -> None:
    for seed in range(20):
        w = torch.randn(64, generator=torch.Generator().manual_seed(seed)).tolist()
        assert gradient_of_choice([[0.0] * 64], w, clusters=3, top_k=1, distance="euclidean") == [1.0]


def test_maximum_of_0_passes_its_whole_gradient() -> None:
    # One fine class in its coarse class, e = 0: d max / d e = 1.
    fine = torch.zeros(1, 1, 1, requires_grad=True)
    Hierarchy(np.array([0]), CPU).compose(fine, "max").sum().backward()
    assert fine.grad is not None and fine.grad.item() == 1.0


@st.composite
def grids(draw: st.DrawFn) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray, int, int]:
    """Clips on a small grid, prototypes, labels, offsets, N and k; many distances are equal.

    The grid is so wide that the mean of up to 8 clips is a whole number: else equal distances differ by rounding.
    """
    num_clips = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    clusters = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    clips = torch.from_numpy(840.0 * rng.integers(-2, 3, size=(sum(num_clips), 3)))
    prototypes = torch.from_numpy(840.0 * rng.integers(-2, 3, size=(5, 3)))
    labels = rng.integers(clusters, size=len(clips))
    return clips, prototypes, labels, np.cumsum([0, *num_clips]), clusters, draw(st.integers(1, clusters))


def exact_distances(v: Tensor, w: Tensor, distance: str) -> list[float]:
    """Distances that keep the order and every tie: squares, rounded far below the gap between grid values."""
    if distance == "euclidean":
        return [round(x, 9) for x in (v - w).square().sum(dim=1).tolist()]
    return [round(x, 9) for x in oracle.distances(v, w, "cosine")]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(grids())
def test_ties_on_a_grid_are_broken_as_stated_by_euclidean_distance(problem: tuple) -> None:
    check_grid(*problem, distance="euclidean")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(grids())
def test_ties_on_a_grid_of_signs_are_broken_as_stated_by_cosine(problem: tuple) -> None:
    # Each concept and prototype is moved onto an axis, where a cosine is exactly -1, 0 or 1.
    clips, prototypes, _, offsets, clusters, top_k = problem
    on_axis = torch.zeros_like(clips)
    on_axis[:, 0] = clips[:, 0].sign()
    w = torch.zeros_like(prototypes)
    w[:, 0] = prototypes[:, 0].sign()
    alone = np.concatenate([np.arange(count) for count in np.diff(offsets)])  # one clip a concept: no means
    check_grid(on_axis, w, alone, offsets, clusters + 8, top_k, distance="cosine")


def check_grid(
    clips: Tensor, w: Tensor, labels: np.ndarray, offsets: np.ndarray, clusters: int, top_k: int, distance: str
) -> None:
    """Which concepts were chosen, seen in the gradient, against a ranking of exact distances."""
    groups = group(labels, offsets, clusters, CPU)
    formed = visual_concepts(clips, groups).requires_grad_()
    e = fine_representations(formed, w, groups, clusters, top_k, distance)
    for b, (first, last) in enumerate(zip(offsets, offsets[1:], strict=False)):
        v, present = oracle.concepts(clips[first:last], torch.from_numpy(labels[first:last]), clusters)
        names = np.flatnonzero(present)
        for j in range(len(w)):
            chosen = oracle.nearest(exact_distances(v, w[j], distance), present, top_k)
            torch.testing.assert_close(e[b, j], v[chosen].sum(dim=0) / top_k)
            (gradient,) = torch.autograd.grad(e[b, j, 0], formed, retain_graph=True)
            own = gradient[b, : len(names), 0] > 0
            assert set(names[own.numpy()]) == {n for n in chosen if present[n]}
            gradient[b, : len(names)] = 0
            assert not gradient.any()


def random_concepts(seed: int, present: int, positive: bool = False) -> tuple[Tensor, Tensor]:
    """Concepts [present, 6] and prototypes [4, 6]; positive: every cosine between them is above 0."""
    rng = torch.Generator().manual_seed(seed)
    v = torch.randn(present, 6, generator=rng, dtype=torch.float64)
    w = torch.randn(4, 6, generator=rng, dtype=torch.float64)
    return (v.abs(), w.abs()) if positive else (v, w)


SEEDS = st.integers(0, 2**31 - 1)


@LAWS
@given(SEEDS, st.integers(1, 8), st.integers(0, 30), st.data())
def test_further_absent_clusters_change_nothing_while_all_cosines_are_positive(
    seed: int, present: int, more: int, data: st.DataObject
) -> None:
    # Every present concept is nearer than an absent one, so N matters only where k takes absent ones as well.
    v, w = random_concepts(seed, present, positive=True)
    k = data.draw(st.integers(1, present + more))
    few = fine_representations(v[None], w, one_video(present, present + more), present + more, k, "cosine")
    many = fine_representations(v[None], w, one_video(present, present + more + 7), present + more + 7, k, "cosine")
    assert torch.equal(few, many)
    if k >= present:
        torch.testing.assert_close(few[0], (v.sum(dim=0) / k).expand(4, 6))


@LAWS
@given(SEEDS, st.integers(1, 8), st.integers(1, 9))
def test_concepts_that_all_point_away_leave_the_zero_vector(seed: int, present: int, k: int) -> None:
    v, w = random_concepts(seed, present, positive=True)
    clusters = present + k  # as many absent ones as places
    assert not fine_representations(-v[None], w, one_video(present, clusters), clusters, k, "cosine").any()


@LAWS
@given(SEEDS, st.integers(1, 8), st.integers(0, 6), st.sampled_from(["cosine", "euclidean"]))
def test_with_k_equal_to_n_every_class_gets_the_mean_of_all_concepts(
    seed: int, present: int, absent: int, distance: str
) -> None:
    v, w = random_concepts(seed, present)
    clusters = present + absent
    e = fine_representations(v[None], w, one_video(present, clusters), clusters, clusters, distance)
    torch.testing.assert_close(e[0], (v.sum(dim=0) / clusters).expand(4, 6))


@LAWS
@given(SEEDS, st.integers(1, 8), st.integers(0, 6), st.floats(0.01, 100.0), st.data())
def test_length_of_a_prototype_does_not_move_the_choice_by_cosine(
    seed: int, present: int, absent: int, factor: float, data: st.DataObject
) -> None:
    v, w = random_concepts(seed, present)
    clusters = present + absent
    k = data.draw(st.integers(1, clusters))
    groups = one_video(present, clusters)
    once = fine_representations(v[None], w, groups, clusters, k, "cosine")
    assert torch.equal(once, fine_representations(v[None], w * factor, groups, clusters, k, "cosine"))


@LAWS
@given(SEEDS, st.integers(1, 4), st.integers(4, 9), st.sampled_from(["max", "mean"]))
def test_order_of_the_fine_classes_does_not_move_the_coarse_ones(
    seed: int, num_coarse: int, num_fine: int, pooling: str
) -> None:
    rng = np.random.default_rng(seed)
    parents = np.concatenate([np.arange(num_coarse), rng.integers(num_coarse, size=num_fine - num_coarse)])
    fine = torch.from_numpy(rng.normal(size=(2, num_fine, 3)))
    order = rng.permutation(num_fine)
    moved = Hierarchy(parents[order], CPU).compose(fine[:, order], pooling)
    torch.testing.assert_close(moved, Hierarchy(parents, CPU).compose(fine, pooling))
