"""Every file of tensors: checkpoints and weights, what they hold, how they are written whole and read back."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeVar

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from haan.errors import InputError
from haan.files import whole
from haan.methods.names import HAAN
from haan.words import shown
from haan.yamlconfig import flat

WEIGHTS, STATE = "best.safetensors", "state.safetensors"  # files of a training: its result, and what it goes on from
ABOUT = "about"  # the metadata of weights, one entry, for safetensors writes several in any order
_KEPT = "concepts"  # before the names of those tensors of a result that are no weights of its network
_MOMENTS = "adam"  # before those that an optimiser of any kind keeps, as when there was no other
_OWN = ("model.", f"{_MOMENTS}.", "best.")  # before a checkpoint's names; all others are the method's
_ENTRY_BYTES = 100  # of a tensor in the header of a safetensors file

T = TypeVar("T")


@dataclass(frozen=True)
class Best:
    """The epoch that counts so far: avg.mAP in percent, index into the detection settings, and the weights.

    kept: what the method holds beside them, as `Method.kept` says; empty where training went on from an older
    version's checkpoint.
    """

    epoch: int
    chosen: int
    avg_map: float
    weights: dict[str, Tensor] = field(repr=False)
    kept: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it, as a file holds it."""
        return self.weights | {f"{_KEPT}.{name}": value for name, value in self.kept.items()}


@dataclass(frozen=True)
class State:
    """Everything that a training goes on from as if never stopped.

    epoch: how many are trained. network: its weights. moments: what the optimiser keeps of each parameter, by its
    number. method: `Method.state`.
    """

    epoch: int
    network: Mapping[str, Tensor]
    moments: Mapping[int, Mapping[str, Tensor]]
    method: Mapping[str, Tensor]
    best: Best | None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of it, as a file holds it."""
        found = {f"model.{name}": value for name, value in self.network.items()}
        for number, entry in self.moments.items():
            found |= {f"{_MOMENTS}.{number}.{name}": value for name, value in entry.items()}
        found |= self.method
        return found | ({} if self.best is None else {f"best.{name}": t for name, t in self.best.tensors.items()})

    def copied(self) -> Self:
        """With copies, where they lie, of what training changes in place; a method replaces what is its own."""
        moments = {number: cloned(entry) for number, entry in self.moments.items()}
        return replace(self, network=cloned(self.network), moments=moments)


def cloned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies where they lie."""
    return {name: value.detach().clone() for name, value in tensors.items()}


def write_state(path: Path, state: State, run: str, data: str) -> None:
    """A checkpoint. run, data: what has to be equal for a training to go on from it; data: "" where it isn't known."""
    best = state.best and {"epoch": state.best.epoch, "chosen": state.best.chosen, "avg_map": state.best.avg_map}
    about = {"epoch": state.epoch, "best": best, "run": run, "data": data}
    write_tensors(path, state.tensors, {"state": json.dumps(about)})


def read_state(path: Path, run: str, data: str) -> State:
    """A checkpoint of `write_state`. Raises InputError when it is of another run, of other data, or damaged."""
    tensors, metadata = read_tensors(path)
    return checked(path, lambda: _state(path, tensors, json.loads(metadata["state"]), run, data))


def _state(path: Path, tensors: dict[str, Tensor], about: dict, run: str, data: str) -> State:
    if about["run"] != run:
        rule = "must be a checkpoint of this configuration, got one of another"
        raise InputError(f"{path}: {rule}: {_apart(about['run'], run)}")
    known = about.get("data", "")  # older versions did not say
    if known and data and known != data:
        rule = f"must be a checkpoint of a training on these data (fingerprint {data[:12]}...)"
        raise InputError(f"{path}: {rule}, got one on others ({known[:12]}...)")
    best = None
    if about["best"] is not None:
        weights, kept = parted(below(tensors, "best"))
        best = Best(**about["best"], weights=weights, kept=kept)
    moments = below(tensors, _MOMENTS)
    numbers = sorted({int(name.split(".")[0]) for name in moments})
    return State(
        epoch=int(about["epoch"]),
        network=below(tensors, "model"),
        moments={number: below(moments, str(number)) for number in numbers},
        method={name: value for name, value in tensors.items() if not name.startswith(_OWN)},
        best=best,
    )


def _apart(known: str, wanted: str) -> str:
    """In which settings two runs differ; each is YAML, with every setting of detection at its end."""
    there, here = (flat(yaml.safe_load(text)) for text in (known, wanted))
    keys = [key for key in there | here if f"detect.{key}" not in there]
    words = [
        f"{key} {shown(there.get(key, 'default'))}, not {shown(here.get(key, 'default'))}"
        for key in keys
        if there.get(key) != here.get(key)
    ]
    return "; ".join(words) or "other detection settings"


def checked(path: Path, take: Callable[[], T]) -> T:
    """What `take` makes of a checkpoint. Raises InputError where it is not whole."""
    try:
        return take()
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: must be a whole checkpoint, got {type(error).__name__}: {error}") from None


def tensor_bytes(tensors: Mapping[str, Tensor]) -> int:
    """About how large a file of these is; their values are not looked at, so they may lie on the meta device."""
    return sum(value.nbytes + _ENTRY_BYTES for value in tensors.values())


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix and a dot, by the rest of their names."""
    return {name.removeprefix(prefix + "."): t for name, t in tensors.items() if name.startswith(prefix + ".")}


def parted(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`Best.weights` and `Best.kept` out of `Best.tensors`."""
    weights = {name: value for name, value in tensors.items() if not name.startswith(_KEPT + ".")}
    return weights, below(tensors, _KEPT)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the host."""
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file that is whole or absent, never half."""
    with whole(path) as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial, metadata)


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], epoch: int, fine_names: Sequence[str], method: str = HAAN
) -> None:
    """Weights as a run leaves them.

    Beside them stand their epoch, the fine classes that they score, in order, and their method unless it is HAAN.
    """
    about = {"epoch": epoch, "classes": list(fine_names)} | ({} if method == HAAN else {"method": method})
    write_tensors(path, tensors, {ABOUT: json.dumps(about)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises InputError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # no dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: must be a safetensors file, got {error}") from None
