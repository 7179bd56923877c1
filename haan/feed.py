"""Clips of a table on the device, through host memory that is allocated once."""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from haan.data.table import ClipTable, IntArray, runs

BLOCK_CLIPS = 2048  # of an evaluation or clustering: enough for a full matrix product, little for a trial's own memory

HOST = torch.device("cpu")

Clips = Float[Tensor, "clips d"]


class Feed:
    """Reads clips of a table as float32 on the device. Each result holds until the next read.

    On a CPU clips become float32 as they are read from shared memory. To a GPU they go in the table's own dtype, half
    the bytes, from pinned memory, while the GPU still works on those before: of two buffers one is being read, and the
    other is filled. Where all clips stay on the GPU, they are read there.
    """

    def __init__(
        self, table: ClipTable, device: torch.device, most_clips: int, stay: Float[Tensor, "clips d"] | None = None
    ):
        """most_clips: of one read by `videos` or `sample`; a block has its own bound. stay: the whole table's clips."""
        self._table, self._device, self.stay = table, device, stay
        on_gpu = device.type == "cuda"
        shape = (max(most_clips, BLOCK_CLIPS, int(table.num_clips.max())), table.dim)
        dtype = table.dtype if on_gpu else torch.float32
        count = 0 if stay is not None else 2 if on_gpu else 1
        self._buffers = [torch.empty(shape, dtype=dtype, pin_memory=on_gpu) for _ in range(count)]
        self._copied = [torch.cuda.Event() for _ in self._buffers] if on_gpu else []
        self._turn = 0

    def videos(self, videos: IntArray) -> Clips:
        """Clips of some videos, one after the other."""
        if self.stay is not None:
            return self.sample(self.places(videos))
        return self._read(lambda out: self._table.gather(videos, out))

    def places(self, videos: IntArray) -> IntArray:
        """The places in the table of all clips of some videos, one after the other."""
        return self._table.places(videos)

    def blocks(self, videos: IntArray) -> Iterator[Clips]:
        """`videos` over runs of them that hold at most BLOCK_CLIPS clips, or one video."""
        for first, last in runs(self._table.num_clips[videos], BLOCK_CLIPS):
            yield self.videos(videos[first:last])

    def sample(self, clips: IntArray) -> Clips:
        """Single clips by their places in the table, ascending."""
        if self.stay is not None:
            return self.stay.index_select(0, torch.from_numpy(clips).to(self._device)).float()
        return self._read(lambda out: self._table.sample(clips, out))

    def fill(self, videos: IntArray, out: Float[Tensor, "most d"]) -> None:
        """`videos` into the first rows of a tensor on the device, in its own type."""
        clips = self._raw(lambda buffer: self._table.gather(videos, buffer))
        out[: len(clips)].copy_(clips, non_blocking=True)
        self._sent()

    def empty(self, clips: int) -> Float[Tensor, "clips d"]:
        """Zeros for so many clips on the device, in the type in which they come there."""
        buffer = self._buffers[0]
        return torch.zeros(clips, buffer.shape[1], dtype=buffer.dtype, device=self._device)

    def _read(self, fill: Callable[[Tensor], Tensor]) -> Clips:
        clips = self._raw(fill).to(self._device, non_blocking=True)
        self._sent()
        return clips.float()

    def _raw(self, fill: Callable[[Tensor], Tensor]) -> Tensor:
        """Clips in host memory; `_sent` says when they have been asked for."""
        self._turn = (self._turn + 1) % len(self._buffers)
        if self._copied:
            self._copied[self._turn].synchronize()  # waits only where the GPU lags behind by two reads
        return fill(self._buffers[self._turn])

    def _sent(self) -> None:
        if self._copied:
            self._copied[self._turn].record()


def join_blocks(
    blocks: Iterable[Float[Tensor, "rows n"]], rows: int, device: torch.device = HOST
) -> Float[Tensor, "rows n"]:
    """Blocks one after the other, on the host unless told otherwise.

    Each is copied as it comes. Kept as they are, they would lie between what each other's products leave free, which
    could not go back to the system then: 1 GB and more at FineAction's size.
    """
    joined, done = torch.empty(0, 0), 0
    for block in blocks:
        joined = joined if done else torch.empty(rows, block.shape[1], device=device)
        joined[done : done + len(block)].copy_(block)
        done += len(block)
    if done != rows:
        raise ValueError(f"the blocks hold {done} of {rows} rows")
    return joined
