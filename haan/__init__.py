"""HAAN: weakly supervised detection of fine-grained actions in untrimmed video (Li et al., ECCV 2022).

For notebooks: `load` a configuration with its data, a `Trainer`, `evaluate`, and `read_config`. They are imported when
used, for an evaluation does without PyTorch.
"""

from pkgutil import resolve_name
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Trainer": "haan.train",
    "evaluate": "haan.notebook",
    "load": "haan.notebook",
    "read_config": "haan.yamlconfig",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{_PLACES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
