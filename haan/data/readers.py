"""Opens a data set by its format."""

from collections.abc import Callable

from haan.config import Data
from haan.data import plant
from haan.data.activitynet_format import open_activitynet, open_testing
from haan.data.cache import OnDisk
from haan.data.haan_format import open_haan
from haan.data.table import Annotations
from haan.errors import InputError

Opened = tuple[OnDisk, Annotations, tuple[str, ...]]

_READERS: dict[str, Callable[[Data], Opened]] = {"haan": open_haan, "activitynet": open_activitynet}


def open_data(data: Data) -> Opened:
    """Features still on disk, annotations, and warnings; plants first where the configuration says so.

    Where a cache fits the features it is mapped, and they are not opened (see haan.data.cache, which also writes it).
    Raises InputError, and MissingDataError where there is no such data.
    """
    plant.ensure(data)
    return _READERS[data.format](data)


def open_unlabelled(data: Data) -> Opened:
    """The videos that have no labels, to be detected in alone. Raises InputError, MissingDataError."""
    if data.format != "activitynet":
        raise InputError(f"data.format: must be activitynet to have videos of subset testing, got {data.format!r}")
    return open_testing(data)
