"""The trainer and the evaluator as functions, for notebooks: `haan.load`, `haan.Trainer`, `haan.evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from haan.activitynet import Benchmark, read_benchmark
from haan.config import Config
from haan.errors import InputError
from haan.metrics import Evaluator
from haan.yamlconfig import naming_lines, parse_range, read_config

if TYPE_CHECKING:  # an evaluation does without PyTorch
    from haan.data.table import ClipTable, Split


@dataclass(frozen=True)
class Loaded:
    """What a training needs: `haan.Trainer(data.config, data.table, data.split)`.

    table: all clips with their annotations. split: the training and the validation videos, as rows of the table.
    warnings: what was repaired in the data.
    """

    config: Config
    table: "ClipTable"
    split: "Split"
    warnings: tuple[str, ...]


def load(config: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """A configuration, or a space's base, and its data. overrides: as `--set` takes them. Raises InputError."""
    from haan.data.readers import open_data
    from haan.data.table import pack, split

    known = read_config(config, tuple(overrides))
    with naming_lines(config, tuple(overrides)):
        source, annotations, warnings = open_data(known.data)
        parts = split(annotations, known.data)
        return Loaded(known, pack(source, annotations, known.data.dtype), parts, tuple(warnings))


@dataclass(frozen=True)
class Evaluation:
    """Temporal mAP in percent: `map` by tIoU, and their mean. benchmark: what was scored, and what may be doubted."""

    avg_map: float
    map: Mapping[float, float]
    benchmark: Benchmark


def evaluate(
    ground_truth: str | Path,
    predictions: str | Path,
    tiou: str = "0.5:0.95:0.05",
    subset: str | None = None,
    name: str = "tiou",
) -> Evaluation:
    """Scores predictions, both ActivityNet JSON, as `haan evaluate` does.

    tiou: thresholds as low:high:step, or one; an error calls it by `name`. subset: scores that of the ground truth
    alone. Raises InputError.
    """
    try:
        thresholds = parse_range(tiou)
    except ValueError as error:
        raise InputError(f"{name}: {error}, got {tiou!r}") from None
    if not all(0 < t <= 1 for t in thresholds):
        raise InputError(f"{name}: must hold thresholds > 0 and <= 1, got {tiou!r}")
    benchmark = read_benchmark(Path(ground_truth), Path(predictions), subset)
    score = Evaluator(benchmark.truth, len(benchmark.classes), thresholds).score(benchmark.detections)
    return Evaluation(score.avg_map, dict(zip(thresholds, score.map.tolist(), strict=True)), benchmark)
