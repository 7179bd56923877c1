"""A GPU's TF32 products on a CPU: what `precision: tf32` does to a training, where no GPU is to be had."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = {
    torch.ops.aten.mm.default: (0, 1),
    torch.ops.aten.bmm.default: (0, 1),
    torch.ops.aten.addmm.default: (1, 2),
    torch.ops.aten.baddbmm.default: (1, 2),
}
_DROPPED = 13  # bits of float32's 23 that TF32 is without


def rounded(x: Tensor) -> Tensor:
    """float32 numbers to the 10 bits of TF32's mantissa, ties away from zero, as the hardware's cvt.rna.tf32 does."""
    bits = x.view(torch.int32)
    return ((bits + (1 << (_DROPPED - 1))) & -(1 << _DROPPED)).view(torch.float32)


class Tf32Products(TorchDispatchMode):
    """Rounds both factors of each float32 product, but where `haan.methods.parts.exact_products` asks for it exact.

    Sums of products stay float32, as on a tensor core. Entered after a Trainer is made, for that says of a CPU's
    products that they are exact.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __enter__(self) -> Self:
        torch.set_float32_matmul_precision("high")  # what a Trainer says on a GPU; of itself it changes nothing here
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        torch.set_float32_matmul_precision("highest")

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """PyTorch calls it for each operation, those of the backward pass included."""
        places = _PRODUCTS.get(func, ())
        if torch.get_float32_matmul_precision() == "high":
            given = [rounded(one) if i in places and one.dtype == torch.float32 else one for i, one in enumerate(args)]
            self.count += bool(places)
        else:
            given = list(args)
        return func(*given, **(kwargs or {}))
