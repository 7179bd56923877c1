"""An epoch's batches: what a step reads by its number is what it would gather by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haan.methods.haan.concepts import Groups, group, group_batches
from haan.schedule import Schedule

CPU = torch.device("cpu")
NUM_CLIPS = np.array([3, 1, 4, 2, 5])


def test_an_epoch_worked_by_hand() -> None:
    """Videos 4, 0, 1, 3, 2 in batches of two: clips 5 + 3, 1 + 2, 4."""
    schedule = Schedule(np.array([4, 0, 1, 3, 2]), NUM_CLIPS, 2, CPU)
    assert len(schedule) == 3
    assert [schedule.videos(step) for step in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert [schedule.clips(step) for step in range(3)] == [slice(0, 8), slice(8, 11), slice(11, 15)]
    assert schedule.video.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    assert schedule.num_clips.tolist() == [[5.0], [3.0], [1.0], [2.0], [4.0]]
    assert schedule.index.tolist() == [4, 0, 1, 3, 2]


def test_one_batch_may_hold_more_than_all_videos() -> None:
    schedule = Schedule(np.arange(5), NUM_CLIPS, 7, CPU)
    assert len(schedule) == 1
    assert (schedule.videos(0), schedule.clips(0)) == (slice(0, 5), slice(0, 15))


@given(st.data(), st.integers(1, 4), st.integers(1, 5))
def test_groups_of_an_epoch_are_those_of_each_batch_alone(data: st.DataObject, batch: int, clusters: int) -> None:
    order = np.array(data.draw(st.permutations(range(len(NUM_CLIPS)))))
    schedule = Schedule(order, NUM_CLIPS, batch, CPU)
    count = int(NUM_CLIPS.sum())
    labels = np.array(data.draw(st.lists(st.integers(0, clusters - 1), min_size=count, max_size=count)))
    groups = group_batches(labels, schedule, clusters)
    for step in range(len(schedule)):
        videos, clips = schedule.videos(step), schedule.clips(step)
        offsets = schedule.offsets[videos.start : videos.stop + 1]
        alone = group(labels[clips], offsets - offsets[0], clusters, CPU)
        assert same(groups.of(videos, clips), alone)


def same(ours: Groups, theirs: Groups) -> bool:
    tensors = [(ours.of_clip, theirs.of_clip), (ours.size, theirs.size), (ours.video, theirs.video)]
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in tensors) and np.array_equal(
        ours.offsets, theirs.offsets
    )


def test_what_an_epoch_holds_lies_where_its_steps_read_it() -> None:
    schedule = Schedule(np.arange(5), NUM_CLIPS, 2, torch.device("meta"))
    assert {schedule.index.device.type, schedule.video.device.type, schedule.num_clips.device.type} == {"meta"}
    with pytest.raises(IndexError):
        Schedule(np.array([5]), NUM_CLIPS, 2, CPU)
