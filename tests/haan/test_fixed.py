"""Steps in fixed shapes, taken kernel by kernel on a CPU: those of the training loop, whatever fills a batch up."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from haan.data.table import ClipTable, Split
from haan.fixed import FixedStep, FixedSteps
from haan.methods.haan.config import HaanConfig
from haan.train import Trainer
from tests.kernels import kernels
from tests.methods import tiny_of
from tests.planted import tiny_config, tiny_table

Problem = tuple[HaanConfig, ClipTable, Split]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """18 training videos of several lengths; without dropout, which draws by the number of rows."""
    config = tiny_config(tmp_path_factory.mktemp("planted") / "data")
    config = replace(config, model=replace(config.model, dropout=0.0))
    return config, *tiny_table(config)


def ready(problem: Problem, batch_videos: int = 2, stay: bool = False, **optim: Any) -> Trainer:
    """A trainer that has clustered and can take steps; stay: its clips are read where they lie on the device."""
    config, table, parts = problem
    trainer = Trainer(replace(config, optim=replace(config.optim, batch_videos=batch_videos, **optim)), table, parts)
    trainer._feed.stay = table.on(trainer.device) if stay else None
    trainer.method.renew(1)
    return trainer


def epochs(trainer: Trainer, steps: FixedSteps | None, count: int = 2) -> torch.Tensor:
    """The losses of some epochs, [steps, losses]."""
    found = []
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(len(trainer.split.train))
        number = trainer.begin(order, seed + 1)
        if steps is None:
            found.append(torch.stack([trainer.train_step(step) for step in range(number)]))
        else:
            videos = trainer.split.train[order]
            found.append(steps.epoch(trainer._schedule, trainer._columns, videos, trainer._rates).clone())
    return torch.cat(found)


@pytest.mark.parametrize("stay", [False, True])
@pytest.mark.parametrize("batch_videos", [1, 2, 4, 7, 50])
def test_steps_in_fixed_shapes_are_those_of_the_loop(tiny: Problem, batch_videos: int, stay: bool) -> None:
    # 18 videos: in batches of 4, 7 or 50 the last one has fewer videos than the shape has room for.
    loop, other = ready(tiny, batch_videos), ready(tiny, batch_videos, stay)
    expected = epochs(loop, None)
    got = epochs(other, other.fixed_steps(graphs=False))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(other.model.parameters(), loop.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_a_schedule_gives_each_repetition_its_own_learning_rate(tiny: Problem, kind: str) -> None:
    # The learning rates lie where a graph reads them: `remembering` fails where an epoch's lie elsewhere.
    given = {"kind": kind, "schedule": "cosine", "warmup_epochs": 1, "weight_decay": 0.01, "clip_norm": 1.0}
    loop, other, constant = ready(tiny, **given), ready(tiny, **given), ready(tiny, kind=kind)
    expected = epochs(loop, None, count=3)
    got = epochs(other, remembering(other), count=3)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(other.model.parameters(), loop.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(epochs(constant, None, count=3), expected, rtol=1e-3)


def test_each_batch_takes_the_smallest_shape_that_holds_it(tiny: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, taken = ready(tiny), []
    run = FixedStep.run

    def watched(step: FixedStep) -> None:
        taken.append((step.layout.shape.clips, int(step.layout.rows(step.row)["member"].sum())))
        run(step)

    monkeypatch.setattr(FixedStep, "run", watched)
    steps = trainer.fixed_steps(graphs=False)
    epochs(trainer, steps, count=1)
    sizes = sorted({clips for clips, _ in taken})
    assert len(sizes) > 1
    for clips, own in taken:
        assert own <= clips and all(other < own for other in sizes if other < clips)


def test_moments_that_begin_at_zero_are_those_that_adam_would_begin_with(tiny: Problem) -> None:
    begun, plain = ready(tiny), ready(tiny)
    begun._optimiser.begin()
    assert torch.equal(epochs(begun, None), epochs(plain, None))
    states = zip(begun._optimiser.state.values(), plain._optimiser.state.values(), strict=True)
    assert all(torch.equal(a[name], b[name]) and a.keys() == b.keys() for a, b in states for name in a)


class Recorder:
    """Stands in for CUDA's graphs: what it records is called once more, or is what it is told."""

    def __init__(self, make: Callable[[Callable[[], None]], Callable[[], None]]):
        self.record = make

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()

    def forget(self) -> None:
        pass


def recorded(trainer: Trainer, make: Callable[[Callable[[], None]], Callable[[], None]]) -> FixedSteps:
    steps = trainer.fixed_steps(graphs=False)
    steps._graphs = Recorder(make)
    return steps


def test_recording_a_step_changes_nothing_not_even_what_dropout_draws(tiny: Problem) -> None:
    config, *rest = tiny
    drawing = (replace(config, model=replace(config.model, dropout=0.3)), *rest)
    plain, other = ready(drawing), ready(drawing)
    found = []
    for trainer, steps in ((plain, plain.fixed_steps(graphs=False)), (other, recorded(other, lambda work: work))):
        torch.manual_seed(4)
        found.append(epochs(trainer, steps))
    assert torch.equal(*found)
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), other.model.parameters(), strict=True))


def test_recording_a_step_changes_no_buffer(tmp_path: Path) -> None:
    # D2-Net's moves with each step.
    config = tiny_of("d2net", tmp_path / "data")
    trainers = [Trainer(config, *tiny_table(config)) for _ in range(2)]  # type: ignore[arg-type]  # of any method
    taken = trainers[0].fixed_steps(graphs=False), recorded(trainers[1], lambda work: work)
    for trainer, steps in zip(trainers, taken, strict=True):
        torch.manual_seed(4)
        epochs(trainer, steps)
    (one,), (other,) = (trainer.model.buffers() for trainer in trainers)
    assert one.any() and torch.equal(one, other)


def refuse(work: Callable[[], None]) -> Callable[[], None]:
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def forget(work: Callable[[], None]) -> Callable[[], None]:
    """A repetition that does nothing."""
    return lambda: None


def twice(work: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        work()
        work()

    return both


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (refuse, "operation not permitted when stream is capturing"),
        (forget, "a repetition left the weights .* from where the step, .* long, did"),
        (twice, "a repetition left the weights .* from where the step, .* long, did"),
    ],
)
def test_where_no_graph_can_be_made_the_training_goes_on_and_says_so_once(
    tiny: Problem, make: Callable, reason: str
) -> None:
    trainer, plain = ready(tiny), ready(tiny)
    with pytest.warns(UserWarning, match=f"without CUDA graphs.*: {reason}$") as said:
        got = epochs(trainer, recorded(trainer, make))
    assert len(said) == 1
    assert torch.equal(got, epochs(plain, plain.fixed_steps(graphs=False)))


def remembering(trainer: Trainer) -> FixedSteps:
    """Steps of which a repetition, like a graph's, knows weights, moments, losses and rates by where they lie."""

    def where() -> list[int]:
        moments = [value for state in trainer._optimiser.state.values() for value in state.values()]
        held = [steps._history, *([] if steps._rates is None else [steps._rates])]
        return [value.data_ptr() for value in (*trainer.model.parameters(), *moments, *held)]

    def make(work: Callable[[], None]) -> Callable[[], None]:
        known = where()

        def repetition() -> None:
            assert where() == known, "a graph would write where nobody reads any more"
            work()

        return repetition

    steps = recorded(trainer, make)
    return steps


@pytest.mark.parametrize("ema_epochs", [0.0, 1.0])
def test_after_a_checkpoint_is_taken_up_the_steps_use_its_moments(
    tiny: Problem, tmp_path: Path, ema_epochs: float
) -> None:
    config, table, parts = tiny
    config = replace(config, optim=replace(config.optim, ema_epochs=ema_epochs))
    trainers = [Trainer(config, table, parts) for _ in range(3)]
    for trainer in trainers:
        trainer._fixed = remembering(trainer)
    unbroken, broken, resumed = trainers
    whole = [unbroken.train_epoch() for _ in range(3)]
    broken.train_epoch()
    broken.save(tmp_path / "state.safetensors")
    resumed.train_epoch()  # has steps already; they must not go on with what lies there no more
    resumed.load(tmp_path / "state.safetensors")
    again = [resumed.train_epoch() for _ in range(2)]
    assert [result.losses for result in again] == [result.losses for result in whole[1:]]
    assert [result.avg_map for result in again] == [result.avg_map for result in whole[1:]]


def test_a_longer_epoch_after_a_shorter_one_keeps_all_its_losses(tiny: Problem) -> None:
    trainer, plain = ready(tiny), ready(tiny)
    steps, orders = remembering(trainer), [np.arange(6), np.arange(18), np.arange(4)]
    for order in orders:
        trainer.begin(order)
        got = steps.epoch(trainer._schedule, trainer._columns, trainer.split.train[order])
        expected = torch.stack([plain.train_step(step) for step in range(plain.begin(order))])
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)


def test_clips_that_stay_on_the_device_train_as_those_that_come_there(tiny: Problem) -> None:
    coming, staying = ready(tiny), ready(tiny, stay=True)
    assert coming.train_epoch().losses == staying.train_epoch().losses
    assert staying.table.on(staying.device) is staying.table.on(staying.device), "copied once"


def test_a_step_asks_a_gpu_for_few_kernels(tiny: Problem) -> None:
    # Of a microsecond and more each, they are what a step takes on a GPU; 198 of these operations were 224 kernels on
    # an H200 and a FineAction step's 0.75 ms. The heads alone, with Adam, ask for 45.
    trainer = ready(tiny)
    steps = trainer.fixed_steps(graphs=False)
    epochs(trainer, steps, count=1)
    asked = kernels(next(iter(steps._steps.values())).run)
    assert sum(asked.values()) <= 136, asked
