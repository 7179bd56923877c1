"""Opens a data set by its format."""

from collections.abc import Callable

from haan.config import Data
from haan.data import plant
from haan.data.haan_format import open_haan
from haan.data.table import Annotations, FeatureSource

Opened = tuple[FeatureSource, Annotations, tuple[str, ...]]

_READERS: dict[str, Callable[[Data], Opened]] = {"haan": open_haan}


def open_data(data: Data) -> Opened:
    """Features still on disk, annotations, and warnings; plants first where the configuration says so.

    Raises InputError, and MissingDataError where there is no such data.
    """
    plant.ensure(data)
    return _READERS[data.format](data)
