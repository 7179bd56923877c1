"""Videos that are left out on purpose (`data.skip`): those that a file lists, or those without a feature file."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haan.alike import first_of
from haan.config import Data
from haan.data.features import is_there
from haan.errors import InputError
from haan.files import read_lines

MISSING = "missing"


def not_skipped(
    data: Data, names: Sequence[str], num_train: int, known: Collection[str]
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """[videos] bool, the videos that stay, and at most one note on the others.

    The first num_train of `names` train. known: every name that a list may hold. Raises InputError.
    """
    folder = Path(data.root, data.features)
    if data.skip is None:
        return np.ones(len(names), dtype=bool), ()
    if not folder.is_dir():
        raise InputError(f"data.skip: must be null unless data.features is a folder, got {data.skip!r}")
    out = frozenset() if data.skip == MISSING else _listed(Path(data.root, data.skip), known)
    stays = np.array([is_there(folder / f"{n}.npy") if data.skip == MISSING else n not in out for n in names])
    left = [name for name, stay in zip(names, stays.tolist(), strict=True) if not stay]
    if not stays[: num_train or len(names)].any():
        rule = f"must leave a {'training ' if num_train else ''}video"
        raise InputError(f"data.skip: {rule}, got {data.skip!r}, which leaves out {len(left)} of {len(names)}")
    if not left:
        return stays, ()
    return stays, (f"data.skip: {len(left)} of {len(names)} videos are left out ({data.skip}): {first_of(left)}",)


def _listed(path: Path, known: Collection[str]) -> frozenset[str]:
    lines = read_lines(path)
    for number, name in lines:
        if name not in known:
            raise InputError(f"{path}:{number}: must name a video of the data set, got {name!r}")
    return frozenset(name for _, name in lines)
