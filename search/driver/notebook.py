"""The main job as a function, for notebooks: `search.run_search("spaces/demo.yaml")`."""

import time
from collections.abc import Sequence
from pathlib import Path

from search.driver.request import Request
from search.driver.session import search
from search.results.loaded import Run, load_run


def run_search(
    space: str | Path,
    *,
    name: str | None = None,
    out: str | Path = "runs",
    trials: int | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    resume: bool = False,
    address: str | None = None,
    budget_s: float | None = None,
    quiet: bool = False,
) -> Run:
    """Searches, prunes, confirms over seeds and exports, as `python search/run.py SPACE` does; the run.

    name, out, trials, seed, resume, address, quiet: as its options of these names. overrides: those of `--set`, as in
    "data.root=/data". budget_s: seconds after which it ends in order. A search that found no winner has printed why,
    and its run has none. Raises InputError, and KeyboardInterrupt where it was interrupted; what is finished is kept.
    """
    deadline = None if budget_s is None else time.monotonic() + budget_s
    asked = Request(Path(space), name, Path(out), trials, seed, tuple(overrides), resume)
    code, folder = search(asked, address, deadline, quiet)
    if code == 130:
        raise KeyboardInterrupt
    return load_run(folder.root)
