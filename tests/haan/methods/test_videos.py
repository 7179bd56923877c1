"""ASL, CASE and WTAL-UM in the training loop: resampled videos, batches of many sizes, refused input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from haan.config import Data
from haan.data.table import ClipTable, Split
from haan.errors import InputError
from haan.methods.asl.config import AslConfig, AslDetect, AslOptim, Model
from haan.methods.case.config import Case, CaseConfig, CaseDetect, CaseOptim
from haan.methods.videos import VideoMethod
from haan.methods.wtalum.config import Model as UmModel
from haan.methods.wtalum.config import Um, UmConfig, UmOptim
from haan.optimiser import Optimiser
from haan.train import Trainer
from tests.planted import tiny_config, tiny_table

EVAL = tiny_config(Path()).eval
Configured = AslConfig | CaseConfig | UmConfig
Problem = tuple[Configured, ClipTable, Split]


def asl(data: Data) -> AslConfig:
    optim = AslOptim(lr=3e-3, batch_videos=4, epochs=4, weight_decay=0.0)
    detect = AslDetect(class_threshold=0.1)
    return AslConfig(data=data, model=Model(width=16), optim=optim, detect=detect, eval=EVAL, device="cpu", threads=1)


def case(data: Data) -> CaseConfig:
    optim = CaseOptim(lr=3e-3, batch_videos=4, epochs=4, weight_decay=0.0)
    parts = {"case": Case(clusters=4), "detect": CaseDetect(class_threshold=0.1), "eval": EVAL}
    return CaseConfig(data=data, model=Model(width=16), optim=optim, **parts, device="cpu", threads=1)


def wtalum(data: Data) -> UmConfig:
    """Without dropout, which draws by the number of rows."""
    optim = UmOptim(lr=3e-3, batch_videos=4, epochs=4, weight_decay=0.0)
    parts = {"model": UmModel(width=16, dropout=0.0), "um": Um(margin=3.0, alpha=0.01, clip_dropout=0.0)}
    return UmConfig(data=data, **parts, optim=optim, eval=EVAL, device="cpu", threads=1)


def resampled(config: Configured, clips: int | None) -> Configured:
    key = "um" if config.method == "wtalum" else config.method
    return replace(config, **{key: replace(getattr(config, key), clips=clips)})


@pytest.fixture(scope="module", params=[asl, case, wtalum])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Problem:
    config = tiny_config(tmp_path_factory.mktemp("planted") / "data")
    return request.param(config.data), *tiny_table(config)


@pytest.mark.parametrize("clips", [None, 30])
@pytest.mark.parametrize("batch_videos", [1, 4, 50])
def test_steps_in_fixed_shapes_are_those_of_the_loop(tiny: Problem, batch_videos: int, clips: int | None) -> None:
    config, table, parts = tiny
    config = replace(resampled(config, clips), optim=replace(config.optim, batch_videos=batch_videos))
    loop, other = Trainer(config, table, parts), Trainer(config, table, parts)
    order, steps = loop.method.order(1), other.fixed_steps(graphs=False)
    torch.manual_seed(1)
    expected = torch.stack([loop.train_step(step) for step in range(loop.begin(order))])
    torch.manual_seed(1)
    other.begin(order)
    got = steps.epoch(other._schedule, other._columns, parts.train[order], other._rates)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(other.model.parameters(), loop.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_resumed_training_draws_the_same_clips(tiny: Problem, tmp_path: Path) -> None:
    config, table, parts = tiny
    config = resampled(config, 30)
    unbroken = Trainer(config, table, parts)
    expected = [(result.losses, result.avg_map) for result in unbroken.epochs()]
    first, second = Trainer(config, table, parts), Trainer(config, table, parts)
    got = [(result.losses, result.avg_map) for result in (first.train_epoch(), first.train_epoch())]
    first.save(tmp_path / "state.safetensors")
    second.load(tmp_path / "state.safetensors")
    got += [(result.losses, result.avg_map) for result in second.epochs()]
    assert got == expected


def test_losses_fall(tiny: Problem) -> None:
    trainer = Trainer(*tiny)
    assert isinstance(trainer.method, VideoMethod)
    losses = [result.losses for result in trainer.epochs()]
    assert losses[-1]["total"] < losses[0]["total"]
    *parts, total = losses[0].values()
    weights = trainer.method.weights()
    assert total == pytest.approx(sum(weight * part for weight, part in zip(weights, parts, strict=True)), rel=1e-5)


def test_a_loss_without_weight_may_be_infinite(tiny: Problem) -> None:
    """It is reported as it is, and nothing of it reaches the total or the weights."""
    trainer = Trainer(*tiny)
    method = trainer.method
    assert isinstance(method, VideoMethod)
    with pytest.MonkeyPatch.context() as patch:
        sums = method.sums
        patch.setattr(method, "sums", lambda *of: [loss * (torch.inf if n else 1) for n, loss in enumerate(sums(*of))])
        patch.setattr(method, "weights", lambda: [1.0] + [0.0] * (len(method.losses) - 2))
        found = trainer.train_epoch().losses
    assert np.isfinite(found["total"]) and found["total"] == pytest.approx(found["video"])
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_averages_are_over_the_steps_that_an_epoch_has(tiny: Problem) -> None:
    # Of CASE, which leaves the last batch out that isn't full, these are fewer.
    config, table, parts = tiny
    size = len(parts.train) - 1
    config = replace(config, optim=replace(config.optim, batch_videos=size, ema_epochs=1.0))
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        patch.setattr("haan.train.Optimiser", lambda *given: asked.append(given[2]) or Optimiser(*given))
        trainer = Trainer(config, table, parts)
    assert asked == [1 if config.method == "case" else 2] == [-(-len(trainer.method.order(1)) // size)]


def test_streams_must_part_a_clip(tiny: Problem) -> None:
    if isinstance(tiny[0], UmConfig):
        return
    method = Trainer(*tiny).method
    with pytest.raises(InputError, match="streams: must divide the size of a clip, got 2 streams and clips of 9 num"):
        method.check(tiny[0], replace(method.known, dim=9))


def test_some_training_video_must_have_a_label(tiny: Problem) -> None:
    method = Trainer(*tiny).method
    with pytest.raises(InputError, match="data: training videos must have labels, got none"):
        method.check(tiny[0], replace(method.known, fine=np.zeros_like(method.known.fine)))
