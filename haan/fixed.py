"""Training steps in fixed shapes, each of which a GPU repeats as one CUDA graph.

A GPU can take a step in a millisecond, and the host needs ten times as long to ask for its kernels one by one. A graph
is asked for once; it reads and writes the same memory at each repetition, so what differs between steps is
copied there first: the batch's clips, and its row of a table that holds all that the epoch's steps need. Batches differ
in their clips, so there are a few capacities; rows that fill a batch up weigh nothing. Losses are kept on the device
until the epoch has ended.

Trials that share a GPU are processes with a graph each, not one stack. Measured on an H200: 16 processes under MPS took
3,448 of these steps a second at FineAction's size, one 1,333 (16 of the steps before graphs: 1,669); as a sketch, the
heads alone of 16 trials in one graph 5,550, of one 2,390. At the small size a stack gains more: 64,000 for 5,000.

All but the graphs themselves runs on a CPU as well, step by step, which is how it is tested.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from haan.data.table import IntArray, offsets_of
from haan.feed import Feed
from haan.methods.base import Method
from haan.optimiser import Optimiser
from haan.schedule import Column, Schedule, Shape

_PLACE = "place"  # the column of each clip's place in the table, where the whole table stays on the device
_CAPACITIES = 16
_DRAWN = 4096  # batches that the capacities are chosen by
_MULTIPLE = 8  # of clips in a capacity: what matrix units like
_APART = 0.05  # of the step's length, by which a repetition may move the weights otherwise: rounding turns a few signs


def most_clips(num_clips: IntArray, batch_videos: int, repeats: bool = False) -> int:
    """Of the largest batch; repeats: which may hold a video more than once."""
    return int(num_clips.max()) * batch_videos if repeats else int(np.sort(num_clips)[-batch_videos:].sum())


def capacities(num_clips: IntArray, batch_videos: int, most: int = _CAPACITIES, repeats: bool = False) -> list[Shape]:
    """Shapes that hold any batch of so many videos, ascending: those, at most so many, that fill up the fewest clips.

    num_clips: [videos] of each training video. repeats: as of `most_clips`. Chosen by batches drawn with a fixed seed.
    """
    videos = batch_videos if repeats else min(batch_videos, len(num_clips))
    largest = most_clips(num_clips, videos, repeats)
    rng = np.random.default_rng(0)
    drawn = num_clips[rng.integers(len(num_clips), size=(_DRAWN, videos))].sum(axis=1)
    rounded = np.minimum(-(-drawn // _MULTIPLE) * _MULTIPLE, largest)
    sizes, counts = np.unique(np.append(rounded, largest), return_counts=True)
    longest = int(num_clips.max())
    return [Shape(int(size), min(int(size), longest)) for size in _cover(sizes, counts, most)]


def _cover(sizes: IntArray, counts: IntArray, most: int) -> list[int]:
    """Of ascending sizes at most so many, the largest among them, to which all are rounded up at the least cost.

    A size costs what it is rounded up by, times its count.
    """
    number, before, filled = len(sizes), offsets_of(counts), offsets_of(counts * sizes)
    # [i, j]: what the sizes behind the i-th up to the j-th cost, rounded up to the j-th; they count from 1 here.
    cost = (before - before[:, None]) * np.append(0, sizes) - (filled - filled[:, None])
    cost = np.where(np.triu(np.ones_like(cost), k=1) > 0, cost, np.inf)
    least, parents = np.append(0.0, np.full(number, np.inf)), []
    for _ in range(min(most, number)):
        through = least[:, None] + cost
        parents.append(through.argmin(axis=0))
        least = through.min(axis=0)
    chosen, place = [], number
    for parent in reversed(parents):
        chosen.append(int(sizes[place - 1]))
        place = int(parent[place])
    return chosen[::-1]


class Layout:
    """Where each column's rows of one batch lie in a row of numbers of four bytes, whose last one is the step's own."""

    def __init__(self, columns: Mapping[str, Column], shape: Shape, videos: int):
        self.shape, self.videos = shape, videos
        self._parts: dict[str, tuple[slice, tuple[int, ...], torch.dtype]] = {}
        first = 0
        for name, column in columns.items():
            many = (shape.clips if column.of_clips else videos, *column.values.shape[1:])
            self._parts[name] = slice(first, first + math.prod(many)), many, column.values.dtype
            first += math.prod(many)
        self.numbers = first + 1

    def pack(self, schedule: Schedule, columns: Mapping[str, Column], steps: IntArray) -> Int[Tensor, "steps numbers"]:
        """The rows of some batches, each filled up to the shape, on the schedule's device."""
        videos, clips = (
            (schedule.on_device(first[steps]), schedule.on_device(np.diff(first)[steps]))
            for first in (schedule.first_video, schedule.offsets[schedule.first_video])
        )
        places = {True: _places(*clips, self.shape.clips), False: _places(*videos, self.videos)}
        packed = [
            torch.where(
                (there := places[column.of_clips][1]).view(*there.shape, *[1] * (column.values.dim() - 1)),
                column.values[places[column.of_clips][0]],
                column.pad,
            )
            .to(column.values.dtype)
            .view(torch.int32)
            .flatten(1)
            for column in columns.values()
        ]
        return torch.cat([*packed, schedule.on_device(steps.astype(np.int32))[:, None]], dim=1)

    def rows(self, row: Int[Tensor, " numbers"]) -> dict[str, Tensor]:
        """Each column's rows of one batch, as views of its row."""
        return {name: row[part].view(dtype).view(many) for name, (part, many, dtype) in self._parts.items()}


def _places(
    first: Int[Tensor, " steps"], count: Int[Tensor, " steps"], capacity: int
) -> tuple[Int[Tensor, "steps capacity"], Bool[Tensor, "steps capacity"]]:
    """The places of each batch's rows in the epoch's, and which of them are its own; the others are any."""
    rank = torch.arange(capacity, device=first.device)
    there = rank < count[:, None]
    return torch.where(there, first[:, None] + rank, 0), there


class Graphs:
    """All that only a CUDA device can do: its graphs, which share memory for what lies between their kernels.

    One runs at a time. They are made and repeated on a stream of their own, for the default one can't be recorded.
    """

    def __init__(self) -> None:
        self._memory, self._stream = torch.cuda.graph_pool_handle(), _stream()

    def forget(self) -> None:
        """Once none of its graphs is left: their memory can't be recorded into again."""
        self._memory = torch.cuda.graph_pool_handle()

    @contextmanager
    def apart(self) -> Iterator[None]:
        """On that stream, after what was asked for before, and before what is asked for then."""
        outside = torch.cuda.current_stream()
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A repetition of some work, which is not done now. Raises RuntimeError where it can't be repeated."""
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(self._memory, capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            with suppress(RuntimeError):  # what made it impossible is the reason to name
                graph.capture_end()
            _recording_ended()
            raise
        try:
            graph.capture_end()
        except RuntimeError:
            _recording_ended()
            raise
        return graph.replay


@cache
def _stream() -> torch.cuda.Stream:
    """One a process: each holds a workspace of cuBLAS for good."""
    return torch.cuda.Stream()


def _recording_ended() -> None:
    """After a recording that failed the random generator would take itself to be recorded still, and refuse dropout."""
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    generator.graphsafe_set_state(generator.clone_state())


class FixedStep:
    """One step in one shape. `run` takes it on what `clips` and `row` hold.

    clips: [clips, d] the batch's in the table's own type; or all of the table, where the row has their places. row: as
    `layout` has it. history: [steps, losses], which keeps the losses at the step's number. rates: its learning rate is
    there; None where it is the same in all steps.
    """

    def __init__(
        self,
        method: Method,
        optimiser: Optimiser,
        layout: Layout,
        history: Float[Tensor, "steps losses"],
        rates: Float[Tensor, " steps"] | None,
        clips: Float[Tensor, "clips d"],
    ):
        self._method, self._optimiser, self.layout, self.clips = method, optimiser, layout, clips
        self._history, self._rates = history, rates
        self.row = torch.zeros(layout.numbers, dtype=torch.int32, device=history.device)
        self._parameters = optimiser.parameters
        self._repetition: Callable[[], None] | None = None

    def run(self) -> None:
        """The step, kernel by kernel."""
        rows = self.layout.rows(self.row)
        place = rows.pop(_PLACE, None)
        clips = self.clips if place is None else self.clips.index_select(0, place)
        values, total = self._method.batch_losses(clips.float(), rows, self.layout.shape)
        # Gradients are new tensors each time: nothing is filled with zeros, and nothing added up.
        found = torch.autograd.grad(total, self._parameters, allow_unused=True)
        for parameter, gradient in zip(self._parameters, found, strict=True):
            parameter.grad = gradient
        step = self.row[-1:].long()
        self._history.index_copy_(0, step, values[None])
        self._optimiser.step(None if self._rates is None else self._rates.index_select(0, step)[0])

    def repeat(self, record: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        """The step as one call, recorded the first time. Raises RuntimeError where its repetition is not the step."""
        if self._repetition is None:
            self._repetition = self._recorded(record)
        self._repetition()

    def forget(self) -> None:
        """What was recorded, and its memory."""
        self._repetition = None

    def _recorded(self, record: Callable[[Callable[[], None]], Callable[[], None]]) -> Callable[[], None]:
        """Leaves all as it was, random numbers too: a resumed run records its steps elsewhere.

        The step is taken kernel by kernel first: libraries set themselves up in it, and it says what a repetition must
        give.
        """
        self._optimiser.begin()  # in a graph a step would make them anew each time
        moments = (value for state in self._optimiser.state.values() for value in state.values())
        changed = [*self._parameters, *self._method.network.buffers(), *moments]
        before = [value.detach().clone() for value in changed]
        expected = self._moved(self.run, changed, before)
        repetition = record(self.run)
        got = self._moved(repetition, changed, before)
        apart, length = float((got - expected).norm()), float(expected.norm())
        if math.isfinite(length) and not apart <= _APART * length:  # a loss that is not finite is told by its epoch
            raise RuntimeError(f"a repetition left the weights {apart:.3g} from where the step, {length:.3g} long, did")
        return repetition

    @torch.no_grad()
    def _moved(
        self, work: Callable[[], None], changed: list[Tensor], before: list[Tensor]
    ) -> Float[Tensor, " weights"]:
        """By how much some work moves the weights, which are put back, with all that it changed."""
        device = self._history.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            work()
        pairs = list(zip(changed, before, strict=True))
        moved = torch.cat([(now - then).flatten() for now, then in pairs[: len(self._parameters)]])
        for now, then in pairs:
            now.copy_(then)
        return moved


class FixedSteps:
    """The steps of a training, each in the smallest capacity that holds its batch.

    graphs: whether they are repeated as CUDA graphs, or taken kernel by kernel. Where no graph can be made it says so
    in one warning, and goes on without.
    """

    def __init__(self, method: Method, optimiser: Optimiser, feed: Feed, shapes: Sequence[Shape], graphs: bool):
        """shapes: ascending."""
        self._method, self._optimiser, self._feed, self._shapes = method, optimiser, feed, shapes
        self._graphs = Graphs() if graphs else None
        self._steps: dict[Shape, FixedStep] = {}
        self._history = torch.empty(0, len(method.losses))
        self._rates: Float[Tensor, " steps"] | None = None  # where the graphs read them

    def forget(self) -> None:
        """Of weights or moments that lie elsewhere from now on."""
        self._steps.clear()
        if self._graphs is not None:
            self._graphs.forget()

    def epoch(
        self,
        schedule: Schedule,
        columns: Mapping[str, Column],
        videos: IntArray,
        rates: Float[Tensor, " steps"] | None = None,
    ) -> Float[Tensor, "steps losses"]:
        """Takes all steps of an epoch; their losses, on the device.

        videos: of the table, in the schedule's order. rates: their learning rates, in every epoch or in none.
        """
        if len(schedule) > len(self._history):  # as many as before, in every epoch of a training
            self.forget()
            self._history = torch.zeros(len(schedule), len(self._method.losses), device=schedule.device)
            self._rates = None if rates is None else torch.empty_like(rates)
        if rates is not None and self._rates is not None:
            self._rates[: len(rates)].copy_(rates)
        if self._feed.stay is not None:
            places = self._feed.places(videos).astype(np.int32)
            columns = {**columns, _PLACE: Column(schedule.on_device(places), of_clips=True)}
        clips = np.diff(schedule.offsets[schedule.first_video])
        which = np.searchsorted([shape.clips for shape in self._shapes], clips)
        packed, place = {}, np.empty(len(schedule), dtype=np.int64)
        for number in np.unique(which).tolist():
            steps = np.flatnonzero(which == number)
            place[steps] = np.arange(len(steps))
            packed[number] = self._step(number, schedule, columns).layout.pack(schedule, columns, steps)
        with nullcontext() if self._graphs is None else self._graphs.apart():
            for step, number in enumerate(which.tolist()):
                one = self._steps[self._shapes[number]]
                if self._feed.stay is None:
                    self._feed.fill(videos[schedule.videos(step)], one.clips)
                one.row.copy_(packed[number][place[step]])
                self._take(one)
        return self._history[: len(schedule)]

    def _step(self, number: int, schedule: Schedule, columns: Mapping[str, Column]) -> FixedStep:
        shape = self._shapes[number]
        if shape not in self._steps:
            layout = Layout(columns, shape, schedule.batch_videos)
            clips = self._feed.empty(shape.clips) if self._feed.stay is None else self._feed.stay
            self._steps[shape] = FixedStep(self._method, self._optimiser, layout, self._history, self._rates, clips)
        return self._steps[shape]

    def _take(self, one: FixedStep) -> None:
        if self._graphs is None:
            one.run()
            return
        try:
            one.repeat(self._graphs.record)
        except RuntimeError as error:
            rule = "the training goes on without CUDA graphs, several times slower, for none could be made"
            warnings.warn(f"{rule}: {str(error).splitlines()[0]}", stacklevel=2)
            self._graphs = None
            for step in self._steps.values():
                step.forget()
            one.run()
