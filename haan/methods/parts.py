"""Pieces of networks that methods share."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from haan.config import Precision
from haan.data.table import IntArray


def set_products(precision: Precision, device: torch.device) -> None:
    """How this process multiplies float32 matrices from now on: on a GPU rounded to TF32, unless told float32."""
    tf32 = device.type == "cuda" and precision in ("auto", "tf32")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


@contextmanager
def exact_products() -> Iterator[None]:
    """Products of float32 matrices in float32 alone: of what is compared, or summed by zeros and ones.

    Of gradients those that are written out; PyTorch's own come later.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Dropout(nn.Module):
    """Makes each number zero with probability `share` and scales the others up, in training alone.

    On a CPU, where PyTorch's own takes a tenth of a training step, 16 random bits decide on a number; so the
    probability is rounded to a multiple of 2**-16 below 1, and the scale, in the numbers' own type, is that one's.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share
        self._cut = min(round(share * 2**16), 2**16 - 1)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Draws from PyTorch's generator."""
        if not self.training or self.share == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.share)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= self._cut - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - self._cut))


def unrounded(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What rounded products give, as float32."""
    return x.float() if x.dtype == torch.bfloat16 else x


def one_row(
    clips: Float[Tensor, "clips d"], num_clips: IntArray
) -> tuple[Float[Tensor, "1 n d"], Bool[Tensor, "1 n"], Int[Tensor, " clips"]]:
    """Videos in one row, which of it is clips, and where each is.

    Behind each video stands a zero, beyond which a convolution over three clips doesn't reach.
    """
    sizes = torch.from_numpy(num_clips).to(clips.device)
    before = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    place = torch.arange(len(clips), device=sizes.device) + before
    row = clips.new_zeros(len(clips) + len(sizes), clips.shape[1])
    there = torch.zeros(len(row), dtype=torch.bool, device=sizes.device)
    row[place], there[place] = clips, True
    return row[None], there[None], place


def hidden_layer(width_in: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.ReLU(), Dropout(dropout))
