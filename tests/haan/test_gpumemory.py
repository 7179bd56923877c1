"""What a training takes of a GPU's memory: parts worked by hand, and laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haan.config import Data, Optim
from haan.data.table import IntArray
from haan.gpumemory import CUDA, gpu_need
from haan.methods.base import Labelled
from haan.methods.haan.config import Concepts, HaanConfig, Model


def config(width: int = 1024, clusters: int = 500, batch_videos: int = 2) -> HaanConfig:
    return HaanConfig(
        data=Data(root="none", features="none", train_videos=1),
        model=Model(width=width),
        concepts=Concepts(clusters=clusters),
        optim=Optim(batch_videos=batch_videos),
    )


def known(dim: int, num_fine: int, num_coarse: int, num_clips: IntArray) -> Labelled:
    """Training videos of so many clips each, without a label."""
    return Labelled(
        videos=np.arange(len(num_clips)),
        names=("",) * len(num_clips),
        num_clips=num_clips,
        clips_per_s=np.ones(len(num_clips)),
        dim=dim,
        fine=np.zeros((len(num_clips), num_fine), dtype=bool),
        coarse=np.zeros((len(num_clips), num_coarse), dtype=bool),
        fine_names=("",) * num_fine,
        coarse_of_fine=np.zeros(num_fine, dtype=np.int64),
    )


def test_weights_of_fine_action_worked_by_hand() -> None:
    # E 4096 x 1024 + 1024 x 1024; the hidden layers of S, F and S' 3 x 1024 x 1024, their last ones 1024 x (106 + 500 +
    # 1); biases 5 x 1024 + 607: 9,015,903 weights. Of each there are 14 floats while a graph is made.
    need = gpu_need(config(), known(4096, 106, 14, np.full(8440, 100)))
    assert need.weights == 56 * (4096 * 1024 + 4 * 1024 * 1024 + 1024 * 607 + 5 * 1024 + 607) == 56 * 9_015_903
    assert need.total == need.weights + need.steps + need.between + CUDA
    assert str(need).startswith("weights and moments 481.5 MiB, steps ")


def test_moving_averages_are_three_more_copies() -> None:
    some = known(64, 6, 4, np.full(20, 30))
    averaged = replace(config(), optim=Optim(batch_videos=2, ema_epochs=1.0))
    assert gpu_need(averaged, some).weights == gpu_need(config(), some).weights * 17 // 14


SIZES = st.fixed_dictionaries(
    {"dim": st.integers(1, 4096), "num_fine": st.integers(1, 200), "num_coarse": st.integers(1, 20)}
)


@given(
    SIZES, st.lists(st.integers(1, 300), min_size=5, max_size=20), st.sampled_from(["dim", "num_fine", "num_coarse"])
)
def test_more_of_anything_never_takes_less(sizes: dict[str, int], clips: list[int], key: str) -> None:
    lengths, some = np.array(clips), config(64, 10)
    need = gpu_need(some, known(num_clips=lengths, **sizes))
    more = [
        gpu_need(some, known(num_clips=lengths, **sizes | {key: 2 * sizes[key]})),
        gpu_need(some, known(num_clips=np.append(lengths, 2 * lengths.max()), **sizes)),
        gpu_need(replace(some, model=Model(width=128)), known(num_clips=lengths, **sizes)),
        gpu_need(replace(some, concepts=Concepts(clusters=20)), known(num_clips=lengths, **sizes)),
        gpu_need(replace(some, optim=Optim(batch_videos=4)), known(num_clips=lengths, **sizes)),
    ]
    assert all(other.total >= need.total for other in more)


@pytest.mark.parametrize("clusters", [8, 500])
def test_a_batch_of_few_clips_needs_no_row_a_cluster(clusters: int) -> None:
    few, many = (gpu_need(config(64, clusters), known(8, 4, 2, np.full(10, length))) for length in (3, 300))
    assert few.steps < many.steps
