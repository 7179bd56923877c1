"""ActionFormer in training: what a step's losses are, and what a graph of it may not move."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from haan.data.table import ClipTable, Split
from haan.errors import InputError
from haan.fixed import FixedStep
from haan.methods.actionformer.config import Actionformer, ActionformerConfig, Model
from haan.methods.actionformer.losses import class_loss, segment_loss, targets
from haan.methods.actionformer.method import ActionformerMethod
from haan.methods.actionformer.network import Points
from haan.methods.base import told
from haan.schedule import Shape
from haan.train import Trainer
from tests.methods import tiny_of, without_segments
from tests.planted import tiny_table

Problem = tuple[ActionformerConfig, ClipTable, Split]


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    config = tiny_of("actionformer", tmp_path / "data")
    assert isinstance(config, ActionformerConfig)
    model = replace(config.model, width=8, levels=2, blocks=1, dropout=0.0, drop_path=0.0)
    return replace(config, model=model), *tiny_table(config)  # type: ignore[arg-type]  # of any method


@pytest.mark.parametrize("points", [None, 7])
def test_a_step_s_losses_are_over_the_mean_number_of_points_with_a_segment(
    problem: Problem, points: int | None
) -> None:
    config, table, parts = problem
    config = replace(config, model=replace(config.model, points=points))
    trainer = Trainer(replace(config, actionformer=Actionformer(segment_weight=3.0)), table, parts)
    order = np.array([4, 1])
    trainer.begin(order)
    network, found, positives = trainer.method.network, torch.zeros(2), 0.0
    for video in parts.train[order].tolist():
        size, per_s = int(table.num_clips[video]), table.annotations.clips_per_s[video]
        first, last = table.annotations.segment_offsets[video : video + 2]
        clips = torch.from_numpy(table.chunks[0][table.offsets[video] : table.offsets[video + 1]]).float()
        x, there = network.laid_out(clips, torch.tensor([size]), size)
        logits, ends, there = network(x, there)
        times = table.annotations.segments[first:last] * per_s * (1 if points is None else points / size)
        fine = table.annotations.segment_fine[first:last]
        segments = torch.from_numpy(np.column_stack([times, fine, np.ones(len(fine))]))[None].float()
        target = targets(Points.of(x.shape[1], 2, x.device), there, segments, logits.shape[2], Actionformer())
        found += torch.stack([class_loss(logits, target, Actionformer()), segment_loss(ends, target)]).detach()
        positives += float(target.weight.sum())
    # 100 before any step, of which 9 parts of 10 stay; two videos, of which losses are the sum.
    expected = 2 * found / (0.9 * 100 + 0.1 * positives)
    got = trainer.train_step(0)
    assert positives > 0 and float(network.positives) == pytest.approx(90 + 0.1 * positives)
    torch.testing.assert_close(got[:2], expected, rtol=1e-4, atol=1e-6)
    assert float(got[2]) == pytest.approx(float(got[0] + 3 * got[1]), rel=1e-5)


def test_a_graph_s_recording_leaves_the_mean_number_as_it_was(problem: Problem) -> None:
    trainer = Trainer(*problem)
    trainer.begin(np.arange(4))
    trainer.train_step(0)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    steps = trainer.fixed_steps(graphs=False)
    recorded: list[Any] = []

    def record(step: FixedStep) -> None:
        recorded.append(step._recorded(lambda work: work))

    steps._take = record  # type: ignore[method-assign]  # in the place of a step
    videos = trainer.split.train[np.arange(4)]
    steps.epoch(trainer._schedule, trainer._columns, videos, trainer._rates)
    after = trainer.model.state_dict()
    assert recorded and all(torch.equal(before[name], after[name]) for name in before)


def test_training_videos_without_any_segment_are_refused(problem: Problem) -> None:
    config, table, parts = problem
    annotations = without_segments(table.annotations, parts.train)
    with pytest.raises(InputError, match="data: training videos must have a ground-truth segment, got none"):
        ActionformerMethod.check(config, told("full", annotations, parts.train, table.num_clips, table.dim))


def test_a_video_without_a_segment_is_background_alone(problem: Problem) -> None:
    config, table, parts = problem
    blind = without_segments(table.annotations, parts.train[:1])
    trainer = Trainer(config, replace(table, annotations=blind), parts)
    trainer.begin(np.array([0]))
    before = float(trainer.method.network.positives)
    classes, segments, _ = trainer.train_step(0).tolist()
    assert (
        classes > 0 and segments == 0 and float(trainer.method.network.positives) == pytest.approx(0.9 * before + 0.1)
    )


def test_what_detection_holds_of_a_gpu_is_without_gradients(problem: Problem) -> None:
    config, table, parts = problem
    known = told("full", table.annotations, parts.train, table.num_clips, table.dim)
    config = replace(config, model=Model(), optim=replace(config.optim, batch_videos=41))
    found = ActionformerMethod.numbers(config, replace(known, dim=4096), Shape(4100, 100))
    assert found.step / 20 < found.block < found.step / 4, "of 4,096 clips at once, and of 4,100"
    points = replace(config, model=Model(points=1000))
    few = ActionformerMethod.numbers(points, replace(known, num_clips=np.ones_like(known.num_clips)), Shape(41, 1))
    assert few.block > 2048 * 1000 * 2 * (3 + known.fine.shape[1]), "what is said of as many videos as clips"
