"""W-TALC's losses by numbers worked by hand, laws, and its batches."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from haan.config import Data
from haan.errors import InputError
from haan.feed import Feed
from haan.methods.base import Labelled
from haan.methods.ragged import Ragged
from haan.methods.wtalc.config import Wtalc, WtalcConfig, WtalcModel, WtalcOptim
from haan.methods.wtalc.method import WtalcMethod, co_activity_loss, mil_loss
from haan.schedule import Schedule, Shape
from haan.train import Trainer
from tests.planted import tiny_config, tiny_table

CPU = torch.device("cpu")


def ragged(*num_clips: int, longest: int | None = None) -> Ragged:
    return Ragged.of(torch.tensor(num_clips), longest or max(num_clips))


@pytest.mark.parametrize(("labels", "loss"), [((1.0, 0.0), 0.00055293), ((1.0, 1.0), 3.75055293)])
def test_a_video_s_scores_are_means_of_an_eighth_of_its_clips(labels: tuple[float, float], loss: float) -> None:
    # ceil(9 / 8) = 2 clips: scores 0..8 of class 0 give (8 + 7) / 2 = 7.5, class 1 gives 0: log(1 + e^-7.5) is
    # 0.00055293; with both labels, half of it and half of 7.5 more.
    scores = torch.stack([torch.arange(9.0), torch.zeros(9)], dim=1).double()
    (found,) = mil_loss(scores, ragged(9), torch.tensor([labels]).double(), 0.125).tolist()
    assert found == pytest.approx(loss, abs=1e-8)
    assert loss == pytest.approx(math.log1p(math.exp(-7.5)) + (3.75 if labels[1] else 0), abs=1e-8)


def test_pooled_scores_know_no_order_of_clips() -> None:
    rng = torch.Generator().manual_seed(0)
    videos = [torch.randn(n, 3, generator=rng).double() for n in (1, 9, 4, 17)]
    labels = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]]).double()
    mixed = [scores[torch.randperm(len(scores), generator=rng)] for scores in videos]
    assert any(not torch.equal(*both) for both in zip(videos, mixed, strict=True))
    first, second = (mil_loss(torch.cat(some), ragged(1, 9, 4, 17), labels, 0.3) for some in (videos, mixed))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


def pair(*logits: tuple[float, float], margin: float = 0.5) -> float:
    """Of two videos of two clips each, whose features are unit vectors; logits of the first class, which they share."""
    scores = torch.tensor(logits).double().reshape(4, 1)
    hidden = torch.eye(2).double().repeat(2, 1)
    return float(co_activity_loss(hidden, scores, ragged(2, 2), torch.ones(2, 1), margin))


def test_a_pair_is_to_attend_to_what_looks_alike_worked_by_hand() -> None:
    # Both attend to clip 0: high (1, 0), low (0, 1): 0 apart, 1 from the low ones, 0 - 1 + 0.5 < 0.
    assert pair((40, 0), (40, 0)) == pytest.approx(0, abs=1e-6)
    # One attends to clip 0, one to clip 1: 1 apart, 0 from the other's low: 1 - 0 + 0.5 on both sides.
    assert pair((40, 0), (0, 40)) == pytest.approx(1.5, abs=1e-6)
    # No attention: high and low are (0.5, 0.5) in both: the margin.
    assert pair((0, 0), (0, 0)) == pytest.approx(0.5, abs=1e-6)
    assert pair((0, 0), (0, 0), margin=0.2) == pytest.approx(0.2, abs=1e-6)


def plain_co_activity(videos: list[tuple[Tensor, Tensor]], labels: Tensor, margin: float) -> float:
    """By loops over pairs and classes; videos: hidden features and scores of each."""
    found = []
    for first in range(0, len(videos), 2):
        for c in range(labels.shape[1]):
            if labels[first, c] * labels[first + 1, c] == 0:
                continue
            sides = []
            for hidden, scores in videos[first : first + 2]:
                attention = scores[:, c].softmax(dim=0)
                high = sum(a * h for a, h in zip(attention, hidden, strict=True))
                low = sum((1 - a) * h for a, h in zip(attention, hidden, strict=True)) / max(len(hidden) - 1, 1)
                sides.append((high, low))
            (hi, li), (hj, lj) = sides

            def apart(a: Any, b: Any) -> float:
                lengths = float(a.norm()) * float(b.norm())
                return 1 - (float(a @ b) / lengths if lengths else 0.0)  # a video of one clip has no rest

            d1, d2, d3 = apart(hi, hj), apart(hi, lj), apart(hj, li)
            found.append(0.5 * max(0, d1 - d2 + margin) + 0.5 * max(0, d1 - d3 + margin))
    return sum(found) / len(found) if found else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_co_activity_is_that_of_plain_loops_in_any_shape_order_and_company(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    counts = [1, 5, 3, 7, 2, 2]
    videos = [(torch.rand(n, 4, generator=rng).double(), torch.randn(n, 3, generator=rng).double()) for n in counts]
    labels = (torch.rand(6, 3, generator=rng) < 0.7).double()

    def fast(some: list[tuple[Tensor, Tensor]], of: Tensor, more: int = 0) -> float:
        hidden, scores = (torch.cat([one[side] for one in some]) for side in (0, 1))
        filled = [torch.cat([values, torch.full((more, values.shape[1]), 9.0).double()]) for values in (hidden, scores)]
        num_clips = [len(one[0]) for one in some]
        return float(co_activity_loss(*filled, ragged(*num_clips, longest=max(num_clips) + more), of, 0.5))

    expected = plain_co_activity(videos, labels, 0.5)
    assert fast(videos, labels) == pytest.approx(expected, abs=1e-12)
    assert fast(videos, labels, more=5) == pytest.approx(expected, abs=1e-12), "rows that fill up weigh nothing"
    swapped = [videos[i ^ 1] for i in range(6)]
    assert fast(swapped, labels[[1, 0, 3, 2, 5, 4]]) == pytest.approx(expected, abs=1e-12), "a pair is symmetric"
    mixed = [
        tuple(side[torch.randperm(len(side), generator=torch.Generator().manual_seed(1))] for side in one)
        for one in videos
    ]
    assert fast(mixed, labels) == pytest.approx(expected, abs=1e-12), "nothing depends on the order of clips"


def known(labels: list[list[int]]) -> Labelled:
    fine = np.array(labels, dtype=bool)
    return Labelled(
        videos=np.arange(len(fine)), names=("",) * len(fine), num_clips=np.full(len(fine), 3),
        clips_per_s=np.ones(len(fine)), dim=4, fine=fine, coarse=fine[:, :1], fine_names=("",) * fine.shape[1],
        coarse_of_fine=np.zeros(fine.shape[1], dtype=np.int64),
    )  # fmt: skip


def method(of: Labelled, **setting: Any) -> WtalcMethod:
    config = WtalcConfig(data=Data(root="none", features="none", train_videos=1), wtalc=Wtalc(**setting))
    feed: Any = None  # read by the trainer alone
    return WtalcMethod(config, of, feed, CPU)


def test_a_batch_begins_with_pairs_of_one_class_and_has_no_video_without_a_label() -> None:
    # Class 2 has one video, which no pair may have by it; video 6 has no label.
    of = known([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], *[[1, 0, 0]] * 16])
    one = method(of)
    order = one.order(1)
    assert len(order) == 30, "23 videos are three batches of 10"
    for batch in order.reshape(3, 10):
        assert all((of.fine[i] & of.fine[j]).any() for i, j in batch[:6].reshape(3, 2))
        assert 5 not in batch[:6] and 6 not in batch
    assert one.order(1).tolist() == order.tolist() != one.order(2).tolist()
    assert sorted(set(np.concatenate([one.order(epoch) for epoch in range(1, 30)]).tolist())) == [
        *range(6),
        *range(7, 23),
    ]


def test_what_no_pair_can_be_of_is_refused() -> None:
    with pytest.raises(InputError, match="wtalc.pairs: must be 0 where no class has two training videos, got 3"):
        method(known([[1, 0], [0, 1]]))
    assert len(method(known([[1, 0], [0, 1]]), pairs=0).order(1)) == 10
    with pytest.raises(InputError, match="must have labels, got none"):
        method(known([[0, 0], [0, 0]]))


@pytest.fixture
def config(tmp_path: Path) -> WtalcConfig:
    like = tiny_config(tmp_path / "data")
    return WtalcConfig(
        data=like.data, eval=like.eval, device="cpu", threads=1, model=WtalcModel(dropout=0.0),
        optim=WtalcOptim(lr=3e-3, epochs=2),
    )  # fmt: skip


def test_steps_in_fixed_shapes_are_those_of_ragged_batches(config: WtalcConfig) -> None:
    """Losses and gradients of one batch, filled up with clips and time steps."""
    table, parts = tiny_table(config)
    trainer = Trainer(config, table, parts)
    one, order = trainer.method, trainer.method.order(1)
    schedule = Schedule(order, table.num_clips[parts.train], 10, CPU)
    columns = one.columns(schedule)
    videos = parts.train[schedule.order[schedule.videos(0)]]
    clips = Feed(table, CPU, 10 * int(table.num_clips.max())).videos(videos)
    rows = schedule.rows(columns, 0)
    more = torch.cat([clips, torch.full((7, clips.shape[1]), 3.0)])
    found = []
    for some, shape in ((clips, None), (more, Shape(len(more), int(table.num_clips.max()) + 4))):
        one.network.zero_grad()
        values, total = one.batch_losses(some, rows, shape)
        total.backward()
        found.append((values, torch.cat([p.grad.flatten() for p in one.network.parameters() if p.grad is not None])))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_balance_of_one_trains_on_pooled_scores_alone(config: WtalcConfig) -> None:
    alone = replace(config, wtalc=Wtalc(balance=1.0))
    result = Trainer(alone, *tiny_table(alone)).train_epoch()
    assert result.losses["total"] == pytest.approx(result.losses["mil"])
    both = Trainer(config, *tiny_table(config)).train_epoch()
    assert both.losses["total"] == pytest.approx(both.losses["mil"] / 2 + both.losses["co_activity"] / 2)
