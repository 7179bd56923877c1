"""Whether a GPU trains every method as a CPU does, as graphs where it can be repeated, and how long a step takes.

On tiny planted videos, without dropout, and with nothing drawn on the device: both take the same steps then.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from haan.config import Config
from haan.data.table import ClipTable, IntArray, Split
from haan.methods.base import mix_seed
from haan.methods.names import CONFIGS
from haan.methods.parts import Dropout
from haan.methods.refineloc.config import RefineConfig
from haan.train import Trainer
from tests.gpu.rows import Row
from tests.gpu.speed import seconds
from tests.methods import tiny_of, write_teacher
from tests.planted import tiny_config, tiny_table

EPOCHS = (1, 2)
STEPS = 40  # that are timed, of one batch: of one graph
APART = 1e-3  # of a loss's largest value: sums in another order, and what Adam makes of gradients near 0


def rows(device: str, tiny: bool) -> Iterator[Row]:
    """device: held against a CPU. tiny: a few steps are timed."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        write_teacher(root, root)
        table, parts = tiny_table(tiny_config(root))
        for name in CONFIGS:
            yield from _of(_config(name, root), table, parts, device, tiny)


def _config(name: str, root: Path) -> Config:
    config = replace(tiny_of(name, root), precision="float32")
    if isinstance(config, RefineConfig):  # the second epoch learns pseudo labels, with a fresh network
        config = replace(config, refine=replace(config.refine, epochs_per_iteration=1))
    return config


def _of(config: Config, table: ClipTable, parts: Split, device: str, tiny: bool) -> Iterator[Row]:
    ours, theirs = (_trainer(replace(config, device=name), table, parts) for name in (device, "cpu"))
    name, apart = config.method, 0.0
    with mock.patch.object(torch, "rand", _half):
        for epoch in EPOCHS:
            expected, found = _steps(ours, theirs, epoch)
            apart = max(apart, float(((found - expected).abs() / expected.abs().amax(dim=0).clamp_min(1e-6)).max()))
        work = f"{name}: losses of {len(EPOCHS)} epochs"
        yield Row(part="methods", work=work, value=apart, unit="relative", goal=APART)
        graphs = ours._fixed is not None and ours._fixed._graphs is not None
        repeatable = ours.method.repeatable
        yield Row(
            part="methods", work=f"{name}: steps are graphs", value=float(graphs), unit="",
            goal=1.0 if repeatable else None, most=False, note="" if repeatable else "its steps can't be repeated",
        )  # fmt: skip
        again = np.tile(ours.method.order(1)[: config.optim.batch_videos], 4 if tiny else STEPS)
        each = []
        for eager in (False, True):
            take = partial(_taken, ours, again, EPOCHS[-1], eager)
            take()
            each.append(1e3 * seconds(take) / ours.begin(again, EPOCHS[-1]))
    for what, value in zip(("a step", "a step, eager"), each, strict=True):
        yield Row(part="methods", work=f"{name}: {what}", value=value, unit="ms")
    ours.close()


def _trainer(config: Config, table: ClipTable, parts: Split) -> Trainer:
    made = Trainer(config, table, parts, alone=True)
    for module in made.model.modules():
        if isinstance(module, Dropout):
            module.share = 0.0
    return made


def _half(*size: int, device: Any = None) -> Tensor:
    """In place of what BMN draws on the device."""
    return torch.full(size, 0.5, device=device)


def _steps(ours: Trainer, theirs: Trainer, epoch: int) -> tuple[Tensor, Tensor]:
    """The losses of each step of an epoch, of the loop that a CPU takes and of ours, from the same of everything."""
    for one in (theirs, ours):
        torch.manual_seed(mix_seed(one.config.seed, epoch))
        if not one.method.is_ready or (epoch - 1) % one.config.period == 0:
            one.method.renew(epoch)
            if one.config.restarts and epoch > 1:
                one._restart()
    ours._take_up(theirs._state(epoch - 1).copied())
    order = theirs.method.order(epoch)
    return _taken(theirs, order, epoch, eager=True), _taken(ours, order, epoch, eager=False)


def _taken(trainer: Trainer, order: IntArray, epoch: int, eager: bool) -> Tensor:
    """Takes the steps on some videos; their losses. eager: by the loop, else in fixed shapes where the method can."""
    torch.manual_seed(mix_seed(trainer.config.seed, epoch))
    steps = trainer.begin(order, epoch)
    if eager or not trainer.method.repeatable:
        return torch.stack([trainer.train_step(step) for step in range(steps)]).cpu()
    fixed = trainer._fixed or trainer.fixed_steps(graphs=False)
    return fixed.epoch(trainer._schedule, trainer._columns, trainer.split.train[order], trainer._rates).cpu().clone()
