"""How many kernels some work asks a GPU for, counted on a CPU as PyTorch's operations that move or make numbers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_NOTHING = (  # memory alone, or another name for it
    _ATEN.empty, _ATEN.empty_like, _ATEN.new_empty, _ATEN.empty_strided, _ATEN.new_empty_strided, _ATEN.scalar_tensor,
    _ATEN._unsafe_view, _ATEN.detach,
)  # fmt: skip


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        returns = func._schema.returns
        alias = returns[0].alias_info if returns else None
        if (alias is None or alias.is_write) and func.overloadpacket not in _NOTHING:
            self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def kernels(work: Callable[[], object]) -> Counter[str]:
    """How often each operation was asked for, the backward pass included. Some take a GPU two kernels, a sort five."""
    with _Count() as count:
        work()
    return count.names
