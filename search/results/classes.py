"""What the winner and the base score on each fine class: classes.csv.

Both as they were trained last, with the same seeds, on the same videos: on the official validation videos where the
winner was trained on all training videos, else on those that the search is scored on; each at the detection setting
that was chosen for it.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from search.results.folder import RunFolder
from search.results.retraining import HOLDOUT, OFFICIAL, VALIDATION

_FIGURES = ("winner", "base", "gain")  # columns in percent; empty where not known


@dataclass(frozen=True)
class Classes:
    """classes.csv, read. number: the winner's trial. videos: in the words of confirm.csv. seeds: over so many.

    rows: class, coarse (names), instances (ground-truth segments), winner and base (average precision in percent, mean
    over eval.tiou and seeds) and gain, a row a fine class; NaN where not known.
    """

    number: int
    videos: str
    seeds: int
    rows: pd.DataFrame


def read(folder: RunFolder) -> Classes | None:
    """classes.csv; None where there is none. Raises ValueError and KeyError where it is not what was written."""
    if not folder.classes_csv.exists():
        return None
    # A class may be called NA or None, which pandas would take for nothing.
    empty = {key: [""] for key in _FIGURES}
    kinds: Any = {"class": str, "coarse": str, "instances": int} | dict.fromkeys(_FIGURES, float)
    rows = pd.read_csv(folder.classes_csv, dtype=kinds, keep_default_na=False, na_values=empty)
    rows = rows if "seeds" in rows else rows.assign(seeds=1)  # of a version that read the first alone
    ((number, videos, seeds),) = set(zip(rows["number"], rows["videos"], rows["seeds"], strict=True))
    if videos not in (HOLDOUT, VALIDATION, OFFICIAL):
        raise ValueError(f"videos must be {HOLDOUT}, {VALIDATION} or {OFFICIAL}, got {videos!r}")
    return Classes(int(number), videos, int(seeds), rows.loc[:, ["class", "coarse", "instances", *_FIGURES]])
