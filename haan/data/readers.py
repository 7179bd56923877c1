"""Opens a data set by its format."""

from collections.abc import Callable

from haan.config import Data
from haan.data import plant
from haan.data.haan_format import open_haan
from haan.data.table import Annotations, ClipTable, FeatureSource, pack

Opened = tuple[FeatureSource, Annotations, tuple[str, ...]]

_READERS: dict[str, Callable[[Data], Opened]] = {"haan": open_haan}


def open_data(data: Data) -> Opened:
    """Features still on disk, annotations, and warnings; plants first where the configuration says so.

    Raises InputError, and MissingDataError where there is no such data.
    """
    plant.ensure(data)
    return _READERS[data.format](data)


def load(data: Data) -> tuple[ClipTable, tuple[str, ...]]:
    """The packed table and warnings. Raises InputError."""
    source, annotations, warnings = open_data(data)
    return pack(source, annotations, data.dtype), warnings
