"""Adam in one kernel against PyTorch's own optimiser, and a process that trains without PyTorch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from haan.adam import Adam
from tests.paths import ROOT
from tests.planted import tiny_config, tiny_table

SHAPES = [(16, 8), (16,), (4, 16), ()]


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
        parameter.grad = gradient


def test_every_step_is_that_of_pytorchs_own_adam_bit_by_bit() -> None:
    """torch._fused_adam_ and torch._foreach_add_ are private: a PyTorch that moved them fails here."""
    ours, theirs = parameters(), parameters()
    adam, reference = Adam(ours, 3e-3), torch.optim.Adam(theirs, lr=3e-3, fused=True)
    for step in range(20):
        found = gradients(step, skipped=2 if step < 5 else None)  # one that has its first gradient late
        give(ours, found)
        give(theirs, found)
        adam.step()
        reference.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for number, parameter in enumerate(theirs):
        kept = reference.state[parameter]
        assert adam.state[number].keys() == kept.keys()
        assert all(torch.equal(adam.state[number][name], kept[name]) for name in kept)


def test_the_first_step_worked_by_hand() -> None:
    """From zero the first step is lr * g / (|g| + eps), whatever g's size: both moments are corrected to g and g^2."""
    value = torch.tensor([1.0, -2.0]).requires_grad_()
    value.grad = torch.tensor([10.0, -0.1])
    Adam([value], lr=0.5).step()
    torch.testing.assert_close(value.detach(), torch.tensor([0.5, -1.5]), rtol=1e-6, atol=1e-6)


def test_a_parameter_without_a_gradient_stays_and_has_no_moments() -> None:
    values = parameters()
    adam = Adam(values, 1.0)
    give(values, gradients(0, skipped=1))
    before = values[1].clone()
    adam.step()
    assert torch.equal(values[1], before) and sorted(adam.state) == [0, 2, 3]
    adam.forget_gradients()
    assert all(value.grad is None for value in values)
    adam.step()
    assert float(adam.state[0]["step"]) == 1


def test_moments_that_are_taken_up_give_the_steps_of_an_unbroken_one() -> None:
    whole, first, second = parameters(), parameters(), parameters()
    unbroken, begun, resumed = Adam(whole, 1e-2), Adam(first, 1e-2), Adam(second, 1e-2)
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
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


@pytest.mark.parametrize("state", [{9: {}}, {0: {"step": torch.zeros(())}}])
def test_moments_of_another_network_are_refused(state: dict[int, dict[str, Tensor]]) -> None:
    with pytest.raises(KeyError):
        Adam(parameters(), 1.0).load(state)


def test_a_process_that_trains_imports_no_compiler_of_pytorchs(tmp_path: Path) -> None:
    tiny_table(tiny_config(tmp_path / "data"))  # plants it
    script = """
import sys
from pathlib import Path
from haan.train import Trainer
from tests.planted import tiny_config, tiny_table
config = tiny_config(Path(sys.argv[1]))
trainer = Trainer(config, *tiny_table(config))
trainer.train_epoch()
print(sorted(set(sys.modules) & {"torch._dynamo", "torch._inductor", "sympy"}))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
