"""Every file of tensors: what it holds, how it is written whole and read back."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from haan.errors import InputError
from haan.files import whole

WEIGHTS, STATE = "best.safetensors", "state.safetensors"  # files of a training: its result, and what it goes on from
ABOUT = "about"  # the metadata of weights, one entry, for safetensors writes several in any order


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix + "."): t for name, t in tensors.items() if name.startswith(prefix + ".")}


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the host."""
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file that is whole or absent, never half."""
    with whole(path) as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial, metadata)


def write_weights(path: Path, tensors: Mapping[str, Tensor], epoch: int, fine_names: Sequence[str]) -> None:
    """Weights as a run leaves them: their epoch and the fine classes that they score, in order, stand beside them."""
    write_tensors(path, tensors, {ABOUT: json.dumps({"epoch": epoch, "classes": list(fine_names)})})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises InputError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # no dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: must be a safetensors file, got {error}") from None
