"""An epoch's batches: what a step reads by its number, on its own and filled up to a fixed shape."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haan.data.table import offsets_of
from haan.fixed import Layout, capacities
from haan.methods.haan.concepts import ranked
from haan.schedule import Column, Schedule, Shape

CPU = torch.device("cpu")
NUM_CLIPS = np.array([3, 1, 4, 2, 5])


def test_an_epoch_worked_by_hand() -> None:
    """Videos 4, 0, 1, 3, 2 in batches of two: clips 5 + 3, 1 + 2, 4."""
    schedule = Schedule(np.array([4, 0, 1, 3, 2]), NUM_CLIPS, 2, CPU)
    assert len(schedule) == 3
    assert [schedule.videos(step) for step in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert [schedule.clips(step) for step in range(3)] == [slice(0, 8), slice(8, 11), slice(11, 15)]
    assert schedule.video.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    assert schedule.index.tolist() == [4, 0, 1, 3, 2]
    # Clips of all videos in their own order: 0 1 2, 3, 4 5 6 7, 8 9, 10 to 14.
    assert schedule.clip.tolist() == [10, 11, 12, 13, 14, 0, 1, 2, 3, 8, 9, 4, 5, 6, 7]


def test_one_batch_may_hold_more_than_all_videos() -> None:
    schedule = Schedule(np.arange(5), NUM_CLIPS, 7, CPU)
    assert len(schedule) == 1
    assert (schedule.videos(0), schedule.clips(0)) == (slice(0, 5), slice(0, 15))


@given(st.data(), st.integers(1, 4), st.integers(1, 5))
def test_ranks_of_all_clips_are_in_any_order_those_of_each_batch_alone(
    data: st.DataObject, batch: int, clusters: int
) -> None:
    order = np.array(data.draw(st.permutations(range(len(NUM_CLIPS)))))
    schedule = Schedule(order, NUM_CLIPS, batch, CPU)
    count = int(NUM_CLIPS.sum())
    labels = np.array(data.draw(st.lists(st.integers(0, clusters - 1), min_size=count, max_size=count)))
    within, part, present = ranked(labels, offsets_of(NUM_CLIPS), clusters)
    for step in range(len(schedule)):
        videos, clips = schedule.videos(step), schedule.clip[schedule.clips(step)].numpy()
        offsets = schedule.offsets[videos.start : videos.stop + 1]
        alone = ranked(labels[clips], offsets - offsets[0], clusters)
        expected = within[clips], part[clips], present[order[videos]]
        assert all(np.array_equal(*pair) for pair in zip(expected, alone, strict=True))


def columns(schedule: Schedule) -> dict[str, Column]:
    """Numbers that say where they stand."""
    clips, videos = int(schedule.offsets[-1]), len(schedule.order)
    return {
        "clip": Column(torch.arange(clips, dtype=torch.int32), True, -1),
        "video": Column(torch.arange(videos, dtype=torch.float32)[:, None] + torch.tensor([0.25, 0.5]), False, 7.5),
    }


def test_rows_filled_up_worked_by_hand() -> None:
    """Clips 5 + 3, 1 + 2, 4 by two videos; the last batch has one video alone."""
    schedule = Schedule(np.array([4, 0, 1, 3, 2]), NUM_CLIPS, 2, CPU)
    layout = Layout(columns(schedule), Shape(6, 5), 2)
    packed = layout.pack(schedule, columns(schedule), np.array([1, 2]))
    assert (packed.shape, packed[:, -1].tolist()) == ((2, 6 + 4 + 1), [1, 2])
    first, second = layout.rows(packed[0]), layout.rows(packed[1])
    assert first["clip"].tolist() == [8, 9, 10, -1, -1, -1] and second["clip"].tolist() == [11, 12, 13, 14, -1, -1]
    assert first["video"].tolist() == [[2.25, 2.5], [3.25, 3.5]]
    assert second["video"].tolist() == [[4.25, 4.5], [7.5, 7.5]]


@given(st.permutations(range(len(NUM_CLIPS))), st.integers(1, 6))
def test_filled_up_rows_begin_with_the_batchs_own(order: list[int], batch: int) -> None:
    schedule = Schedule(np.array(order), NUM_CLIPS, batch, CPU)
    known = columns(schedule)
    layout = Layout(known, Shape(20, 5), batch)
    packed = layout.pack(schedule, known, np.arange(len(schedule)))
    for step in range(len(schedule)):
        rows = layout.rows(packed[step])
        for name, own in schedule.rows(known, step).items():
            assert torch.equal(rows[name][: len(own)], own)
            assert bool((rows[name][len(own) :] == known[name].pad).all())


def test_videos_of_one_length_have_one_capacity() -> None:
    assert capacities(np.full(50, 100), 2) == [Shape(200, 100)]
    assert capacities(np.array([100]), 2) == [Shape(100, 100)]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 8))
def test_the_largest_capacity_holds_the_longest_videos(lengths: list[int], videos: int, most: int) -> None:
    shapes = capacities(np.array(lengths), videos, most)
    sizes = [shape.clips for shape in shapes]
    assert sizes == sorted(set(sizes)) and len(sizes) <= most
    assert sizes[-1] == sum(sorted(lengths)[-videos:])
    assert all(shape.longest == min(shape.clips, max(lengths)) for shape in shapes)


def test_capacities_are_where_they_fill_up_least() -> None:
    """Lengths 8 and 80, one video a batch: two capacities fill nothing up, one fills the short up to the long."""
    lengths = np.array([8] * 9 + [80])
    assert [shape.clips for shape in capacities(lengths, 1, most=2)] == [8, 80]
    assert [shape.clips for shape in capacities(lengths, 1, most=1)] == [80]


def test_fine_gyms_lengths_fill_up_little() -> None:
    """5 to 309 clips, 60 on average: by 16 capacities a batch of two is filled up by a tenth (9.6 %)."""
    rng = np.random.default_rng(3)
    lengths = rng.exponential(60, 3000).clip(5, 309).astype(np.int64)
    sizes = np.array([shape.clips for shape in capacities(lengths, 2)])
    batches = rng.permutation(lengths).reshape(-1, 2).sum(axis=1)
    filled = sizes[np.searchsorted(sizes, batches)]
    assert filled.sum() < 1.1 * batches.sum()


def test_what_an_epoch_holds_lies_where_its_steps_read_it() -> None:
    assert Schedule(np.arange(5), NUM_CLIPS, 2, torch.device("meta")).index.device.type == "meta"
    with pytest.raises(IndexError):
        Schedule(np.array([5]), NUM_CLIPS, 2, CPU)
