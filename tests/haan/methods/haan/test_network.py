"""The heads: sizes, dropout, and which feature the visual concepts are pooled from."""

import pytest
import torch

from haan.methods.haan.config import Model
from haan.methods.haan.network import HAAN
from haan.methods.parts import Dropout

# dim 5, width 8, 6 fine classes, 7 clusters; a linear layer's weight is [out, in].
SHAPES = {
    "encoder.0.weight": (8, 5), "encoder.0.bias": (8,), "encoder.3.weight": (8, 8), "encoder.3.bias": (8,),
    "classifier_hidden.0.weight": (8, 8), "classifier_hidden.0.bias": (8,),
    "classifier.weight": (6, 8), "classifier.bias": (6,),
    "concept_classifier.0.weight": (8, 8), "concept_classifier.0.bias": (8,),
    "concept_classifier.3.weight": (7, 8), "concept_classifier.3.bias": (7,),
    "coarse_classifier.0.weight": (8, 8), "coarse_classifier.0.bias": (8,),
    "coarse_classifier.3.weight": (1, 8), "coarse_classifier.3.bias": (1,),
}  # fmt: skip


def build(layers: int = 2, dropout: float = 0.5) -> HAAN:
    torch.manual_seed(0)
    return HAAN(Model(width=8, dropout=dropout, classifier_layers=layers), dim=5, num_fine=6, num_clusters=7)


@pytest.mark.parametrize("layers", [1, 2])
def test_parameters_have_the_sizes_of_the_released_heads(layers: int) -> None:
    expected = {name: shape for name, shape in SHAPES.items() if layers == 2 or "classifier_hidden" not in name}
    assert {name: tuple(value.shape) for name, value in build(layers).named_parameters()} == expected


def test_each_clip_gets_one_row_of_each_output() -> None:
    out = build()(torch.randn(3, 5))
    assert [tuple(t.shape) for t in (out.encoded, out.hidden, out.cas, out.cluster_logits)] == [
        (3, 8), (3, 8), (3, 6), (3, 7),
    ]  # fmt: skip


def test_dropout_acts_in_training_and_is_off_in_evaluation() -> None:
    model, clips = build(), torch.randn(9, 5)
    assert not torch.equal(model(clips).cas, model(clips).cas)
    model.eval()
    assert torch.equal(model(clips).cas, model(clips).cas)
    assert torch.equal(model(clips).cluster_logits, model(clips).cluster_logits)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99, 0.999999])
@pytest.mark.parametrize("shape", [(1000, 101), (3,), (0, 4)])
def test_dropout_drops_its_share_scales_the_rest_and_passes_the_same_mask_back(
    share: float, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x = torch.full(shape, 2.0, requires_grad=True)
    out = Dropout(share)(x)
    out.sum().backward()
    kept = out != 0
    # 0.3 x 65536 = 19660.8 is cut at 19661, so 65536 / (65536 - 19661) = 1.42858 scales what is kept.
    dropped = min(round(share * 65536), 65535) / 65536
    scale = 1 / (1 - dropped)
    assert torch.equal(out, torch.where(kept, torch.tensor(2 * scale), 0.0))
    assert x.grad is not None and torch.equal(x.grad, torch.where(kept, torch.tensor(scale), 0.0))
    if x.numel() > 1000:  # four standard deviations of a mean of 101,000 draws
        assert float(kept.float().mean()) == pytest.approx(
            1 - dropped, abs=4 * (dropped * (1 - dropped) / x.numel()) ** 0.5
        )
        assert (
            share not in (0.3, 0.5) or abs(float(torch.corrcoef(kept[:, :2].T.float())[0, 1])) < 0.13
        )  # neighbours, 4 sd


def test_dropout_follows_pytorchs_seed() -> None:
    x, drop = torch.ones(50, 7), Dropout(0.5)
    torch.manual_seed(3)
    first, second = drop(x), drop(x)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first) and not torch.equal(first, second)


def test_rounded_products_give_float32_near_the_exact_ones() -> None:
    torch.manual_seed(0)
    exact, rounded = build(dropout=0.0), HAAN(Model(width=8, dropout=0.0), 5, 6, 7, "bfloat16")
    rounded.load_state_dict(exact.state_dict())
    clips = torch.randn(40, 5)
    pairs = [
        (exact(clips).cas, rounded(clips).cas),
        (exact.encode(clips), rounded.encode(clips)),
        (exact.activations(clips), rounded.activations(clips)),
        (exact.coarse_logits(torch.randn(2, 3, 8)), rounded.coarse_logits(torch.randn(2, 3, 8))),
    ]
    assert all(b.dtype == torch.float32 for _, b in pairs)
    for a, b in pairs[:-1]:
        assert not torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.02)  # bfloat16 keeps 8 bits


def test_evaluation_equals_a_model_without_dropout() -> None:
    clips = torch.randn(9, 5)
    assert torch.equal(build(dropout=0.5).eval()(clips).cas, build(dropout=0.0)(clips).cas)


def test_one_layer_pools_concepts_from_x_itself() -> None:
    out = build(layers=1)(torch.randn(4, 5))
    assert out.hidden is out.encoded


def test_two_layers_pool_concepts_from_what_the_last_layer_reads() -> None:
    model = build(layers=2).eval()
    out = model(torch.randn(4, 5))
    assert not torch.equal(out.hidden, out.encoded)
    assert (out.hidden >= 0).all()
    torch.testing.assert_close(out.cas, out.hidden @ model.classifier.weight.T + model.classifier.bias)


@pytest.mark.parametrize("layers", [1, 2])
def test_activations_are_the_class_activation_sequence_of_the_full_pass(layers: int) -> None:
    model, clips = build(layers).eval(), torch.randn(4, 5)
    assert torch.equal(model.activations(clips), model(clips).cas)


def test_concept_classifier_reads_x_and_not_the_hidden_feature() -> None:
    model = build().eval()
    out = model(torch.randn(4, 5))
    assert torch.equal(out.cluster_logits, model.concept_classifier(out.encoded))
