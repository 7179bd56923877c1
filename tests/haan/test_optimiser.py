"""Optimisers in one kernel against PyTorch's own, learning rates worked by hand, and no compiler of PyTorch's."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from haan.config import Optim
from haan.errors import InputError
from haan.optimiser import Optimiser, learning_rates
from haan.train import Trainer
from tests.paths import ROOT
from tests.planted import tiny_config, tiny_table

SHAPES = [(16, 8), (16,), (4, 16), ()]
KINDS: list[tuple[Optim, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (Optim(lr=3e-3), torch.optim.Adam, {}),
    (Optim(lr=3e-3, weight_decay=0.1), torch.optim.Adam, {"weight_decay": 0.1}),
    (Optim(lr=3e-3, kind="adamw"), torch.optim.AdamW, {"weight_decay": 0.0}),
    (Optim(lr=3e-3, kind="adamw", weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
    (Optim(lr=3e-3, kind="sgd"), torch.optim.SGD, {"momentum": 0.9}),
    (Optim(lr=3e-3, kind="sgd", momentum=0.0), torch.optim.SGD, {}),
    (
        Optim(lr=3e-3, kind="sgd", momentum=0.5, weight_decay=0.1),
        torch.optim.SGD,
        {"momentum": 0.5, "weight_decay": 0.1},
    ),
]
AVERAGED = [replace(optim, ema_epochs=2.0) for optim, _, _ in (KINDS[0], KINDS[5])]
WAYS = [*(optim for optim, _, _ in KINDS), *AVERAGED]


def parameters() -> list[Tensor]:
    """Some, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]


def gradients(step: int, skipped: int | None = None) -> list[Tensor | None]:
    """Those of a step; one parameter may have none."""
    generator = torch.Generator().manual_seed(step)
    found: list[Tensor | None] = [torch.randn(shape, generator=generator) for shape in SHAPES]
    if skipped is not None:
        found[skipped] = None
    return found


def give(to: list[Tensor], found: list[Tensor | None]) -> None:
    for parameter, gradient in zip(to, found, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("optim", "cls", "given"), KINDS)
@pytest.mark.parametrize("clip_norm", [None, 3.0])
def test_every_step_is_that_of_pytorchs_own_optimiser_bit_by_bit(
    optim: Optim, cls: type[torch.optim.Optimizer], given: dict[str, Any], clip_norm: float | None
) -> None:
    """The torch._fused_* kernels and torch._foreach_add_ are private: a PyTorch that moved them fails here."""
    ours, theirs = parameters(), parameters()
    optimiser = Optimiser(ours, replace(optim, clip_norm=clip_norm))
    reference = cls(theirs, lr=3e-3, fused=True, **given)  # type: ignore[call-arg]  # each has its own arguments
    late = optim.kind != "sgd"  # PyTorch's fused SGD can't take a parameter whose first gradient comes late
    for step in range(20):
        found = gradients(step, skipped=2 if late and step < 5 else None)
        give(ours, found)
        give(theirs, found)
        if clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(theirs, clip_norm)
            assert norm > clip_norm
        optimiser.step()
        reference.step()
        assert equal(ours, theirs)
    for number, parameter in enumerate(theirs):
        kept = {name: value for name, value in reference.state[parameter].items() if value is not None}
        assert optimiser.state[number].keys() == kept.keys()
        assert all(torch.equal(optimiser.state[number][name], kept[name]) for name in kept)


def test_the_first_step_of_adam_worked_by_hand() -> None:
    """From zero the first step is lr * g / (|g| + eps), whatever g's size: both moments are corrected to g and g^2."""
    value = torch.tensor([1.0, -2.0]).requires_grad_()
    value.grad = torch.tensor([10.0, -0.1])
    Optimiser([value], Optim(lr=0.5)).step()
    torch.testing.assert_close(value.detach(), torch.tensor([0.5, -1.5]), rtol=1e-6, atol=1e-6)


def test_two_steps_of_sgd_with_momentum_and_decay_worked_by_hand() -> None:
    """1: g = 1 + 0.5 * 2 = 2, v = 2, w = 2 - 0.25 * 2 = 1.5. 2: g = 1 + 0.75, v = 0.5 * 2 + 1.75, w = 1.5 - 0.6875."""
    value = torch.tensor([2.0]).requires_grad_()
    optimiser = Optimiser([value], Optim(lr=0.25, kind="sgd", momentum=0.5, weight_decay=0.5))
    for expected in (1.5, 0.8125):
        value.grad = torch.tensor([1.0])
        optimiser.step()
        assert value.item() == expected


def test_gradients_that_are_too_long_together_are_shortened_to_the_norm_and_others_stay() -> None:
    """(3, 4) is 5 long: at a norm of 1 it becomes (0.6, 0.8). (0.3, 0.4), 0.5 long, stays."""
    for sizes, expected in (((3.0, 4.0), (0.6, 0.8)), ((0.3, 0.4), (0.3, 0.4))):
        first, second = (torch.zeros(1).requires_grad_() for _ in range(2))
        first.grad, second.grad = (torch.tensor([size]) for size in sizes)
        Optimiser([first, second], Optim(lr=1.0, kind="sgd", momentum=0.0, clip_norm=1.0)).step()
        moved = torch.cat([first, second]).detach()
        torch.testing.assert_close(moved, -torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optim", WAYS)
def test_a_learning_rate_that_lies_in_memory_gives_the_bits_of_the_same_number(optim: Optim) -> None:
    """As a CUDA graph needs it: 2**-8 is the same in float32."""
    memory, number = parameters(), parameters()
    one, other = Optimiser(memory, optim), Optimiser(number, replace(optim, lr=2.0**-8))
    for step in range(5):
        give(memory, gradients(step))
        give(number, gradients(step))
        one.step(torch.tensor(2.0**-8))
        other.step()
    assert equal(memory, number) and not equal(memory, parameters())


@pytest.mark.parametrize("optim", WAYS)
def test_a_parameter_without_a_gradient_stays_and_has_no_moments(optim: Optim) -> None:
    values = parameters()
    optimiser = Optimiser(values, optim)
    give(values, gradients(0, skipped=1))
    before = values[1].clone()
    optimiser.step()
    assert torch.equal(values[1], before) and sorted(optimiser.state) == [0, 2, 3]
    optimiser.forget_gradients()
    assert all(value.grad is None for value in values)
    kept = {number: {name: t.clone() for name, t in one.items()} for number, one in optimiser.state.items()}
    optimiser.step()
    assert all(torch.equal(optimiser.state[n][name], t) for n, one in kept.items() for name, t in one.items())


@pytest.mark.parametrize("optim", WAYS)
def test_moments_that_are_taken_up_give_the_steps_of_an_unbroken_one(optim: Optim) -> None:
    whole, first, second = parameters(), parameters(), parameters()
    unbroken, begun, resumed = Optimiser(whole, optim), Optimiser(first, optim), Optimiser(second, optim)
    for step in range(6):
        give(whole, gradients(step))
        unbroken.step()
    for step in range(3):
        give(first, gradients(step))
        begun.step()
    with torch.no_grad():
        for to, value in zip(second, first, strict=True):
            to.copy_(value)
    resumed.load({number: {name: t.clone() for name, t in one.items()} for number, one in begun.state.items()})
    for step in range(3, 6):
        give(second, gradients(step))
        resumed.step()
    assert equal(whole, second)


@pytest.mark.parametrize("state", [{9: {}}, {0: {"step": torch.zeros(())}}, {0: {"momentum_buffer": torch.zeros(())}}])
def test_moments_of_another_network_or_optimiser_are_refused(state: dict[int, dict[str, Tensor]]) -> None:
    with pytest.raises(KeyError):
        Optimiser(parameters(), Optim()).load(state)


def test_averaged_weights_worked_by_hand_and_the_weights_as_without() -> None:
    """SGD of rate 1 from 0 along gradients -1, -2: the weights are 1, then 3; e^(-1/2) is left a step of two epochs.

    torch._foreach_lerp_ is private: a PyTorch that moved it fails here.
    """
    value = torch.zeros(()).requires_grad_()
    still = torch.ones(()).requires_grad_()
    optimiser = Optimiser([value, still], Optim(lr=1.0, kind="sgd", momentum=0.0, ema_epochs=2.0))
    optimiser.begin()
    left = math.exp(-0.5)
    for gradient, expected in ((-1.0, 1.0), (-2.0, (left * 1 + 3) / (left + 1))):
        value.grad = torch.tensor(gradient)
        optimiser.step()
        averages = optimiser.averages()
        assert averages is not None and averages[0].item() == pytest.approx(expected)
        assert averages[1].item() == 1.0  # never moved
    assert value.item() == 3.0
    assert Optimiser([value], Optim()).averages() is None


@pytest.mark.parametrize("optim", AVERAGED)
def test_averaging_changes_no_step(optim: Optim) -> None:
    with_average, without = parameters(), parameters()
    averaged, plain = Optimiser(with_average, optim), Optimiser(without, replace(optim, ema_epochs=0.0))
    for step in range(5):
        for to, optimiser in ((with_average, averaged), (without, plain)):
            give(to, gradients(step, skipped=1 if step < 2 and optim.kind == "adam" else None))
            optimiser.step()
    assert equal(with_average, without)


def rates(epochs: int = 3, steps: int = 2, **given: Any) -> list[list[float] | None]:
    """Learning rates, epoch by epoch; at most 1."""
    return [learning_rates(Optim(lr=1.0, epochs=3, **given), epoch, steps) for epoch in range(1, epochs + 1)]


def test_a_constant_learning_rate_is_none_that_has_to_be_told() -> None:
    assert rates() == [None, None, None]


def test_learning_rates_worked_by_hand() -> None:
    """Six steps: t of 6 are taken before one, so 1 - t/6 is left. A warm-up of 2 steps rises by halves, then 4 fall."""
    sixths = [pytest.approx([a / 6, b / 6]) for a, b in ((6, 5), (4, 3), (2, 1))]
    assert rates(schedule="linear") == sixths
    assert rates(schedule="linear", warmup_epochs=1) == [[0.5, 1.0], [1.0, 0.75], [0.5, 0.25]]
    assert rates(warmup_epochs=2) == [[0.25, 0.5], [0.75, 1.0], [1.0, 1.0]]
    half = 0.5**0.5  # cos(pi / 4)
    assert rates(schedule="cosine", warmup_epochs=1) == [
        [0.5, 1.0],
        pytest.approx([1.0, (1 + half) / 2]),
        pytest.approx([0.5, (1 - half) / 2]),
    ]


def test_a_longer_schedule_is_that_of_a_longer_training_and_stays_at_its_end() -> None:
    longer = Optim(lr=1.0, epochs=4, schedule="cosine")
    short = replace(longer, epochs=2, schedule_epochs=4)
    assert [learning_rates(short, one, 5) for one in (1, 2, 3)] == [learning_rates(longer, one, 5) for one in (1, 2, 3)]
    assert rates(epochs=4, schedule="linear")[3] == [0.0, 0.0]


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup_epochs": 1},
        {"kind": "sgd", "lr": 0.1, "schedule": "linear", "clip_norm": 0.5},
        {"kind": "sgd", "momentum": 0.0, "warmup_epochs": 2},
        {"ema_epochs": 1.5},
    ],
)
def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path, given: dict[str, Any]) -> None:
    config = tiny_config(tmp_path / "data", **given)
    data = tiny_table(config)
    unbroken, begun, resumed = (Trainer(config, *data) for _ in range(3))
    whole = [(result.losses, result.avg_map) for result in unbroken.epochs()]
    first = [(result.losses, result.avg_map) for result in (begun.train_epoch() for _ in range(2))]
    begun.save(tmp_path / "state")
    resumed.load(tmp_path / "state")
    assert first + [(result.losses, result.avg_map) for result in resumed.epochs()] == whole
    assert equal(list(resumed.model.parameters()), list(unbroken.model.parameters()))
    key, value = next(iter(given.items()))
    with pytest.raises(
        InputError, match=f"a checkpoint of this configuration, got one of another: .*optim.{key} {value}, not"
    ):
        Trainer(tiny_config(tmp_path / "data"), *data).load(tmp_path / "state")


def test_a_process_that_trains_imports_no_compiler_of_pytorchs(tmp_path: Path) -> None:
    tiny_table(tiny_config(tmp_path / "data"))  # plants it
    script = """
import sys
from pathlib import Path
from haan.train import Trainer
from tests.planted import tiny_config, tiny_table
for kind in ("adam", "adamw", "sgd"):
    config = tiny_config(Path(sys.argv[1]), kind=kind, schedule="cosine", clip_norm=1.0)
    trainer = Trainer(config, *tiny_table(config))
    trainer.train_epoch()
print(sorted(set(sys.modules) & {"torch._dynamo", "torch._inductor", "sympy"}))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
