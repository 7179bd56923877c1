"""Distributed hyper-parameter search for HAAN: Ray Tune runs the trials, an Optuna study chooses and prunes.

For notebooks: `run_search` is the main job, and `load_run` a run folder as a `Run`. They are imported when used, for
some commands do without PyTorch, and some without Ray.
"""

from pkgutil import resolve_name
from typing import Any

_PLACES = {"run_search": "search.driver.notebook", "load_run": "search.results.loaded", "Run": "search.results.loaded"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{_PLACES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
