"""Detection, and the score of what it finds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from haan.detectors.runs import detect_many
from haan.metrics import Detections, Evaluator, Score, Segments
from tests import metrics_oracle
from tests.benchmarks import numpy_scorer
from tests.benchmarks.activations import ALPHAS, Activations, activations
from tests.benchmarks.measure import Problem, Rival, Row, Work, compare, threads
from tests.benchmarks.sizes import Size

_problem = lru_cache(maxsize=1)(activations)
DETECT = f"detect {len(ALPHAS)} alphas"
SCORER, ORACLE = "NumPy scorer", "plain oracle"


def detection(size: Size, repeats: int) -> Iterator[Row]:
    """All alphas of a sweep against one."""
    problem = _problem(size.name)
    one = Rival("one alpha", lambda i: _exhaust(_detect(problem, [problem.video_set.detect.alpha])), limit=5)
    yield from _compare(DETECT, size, repeats, lambda i: _exhaust(_detect(problem, ALPHAS)), one)


def metrics(size: Size, repeats: int) -> Iterator[Row]:
    """The score of one alpha's detections; then everything from activations to the score of every alpha."""
    problem = _problem(size.name)
    evaluator = Evaluator(problem.truth, problem.video_set.classes, problem.video_set.tiou)
    (found,) = _detect(problem, [problem.video_set.detect.alpha])
    rivals = [_numpy_scorer(problem, found, evaluator.score(found).avg_map)]
    if size.name == "finegym":  # the size of which the authors' time is known
        rivals.append(_oracle(problem, found, evaluator.score(found).avg_map))
    yield from _compare("score one alpha", size, repeats, lambda i: evaluator.score(found), *rivals)

    def both(alphas: Sequence[float]) -> None:
        for one in _detect(problem, alphas):
            evaluator.score(one)

    single = Rival("one alpha", lambda i: both([problem.video_set.detect.alpha]))
    yield from _compare(f"{DETECT}, score", size, repeats, lambda i: both(ALPHAS), single)


def _compare(work: str, size: Size, repeats: int, ours: Work, *rivals: Rival) -> Iterator[Row]:
    problem = _problem(size.name)
    made = problem.video_set
    found = len(next(_detect(problem, [made.detect.alpha])))
    about = (
        f"detection and scores: {made.videos} videos, {problem.offsets[-1]} clips, {made.classes} classes, made-up "
        f"activations; {found} detections at alpha {made.detect.alpha}, {len(made.tiou)} tIoU thresholds"
    )
    with threads(1):  # NumPy: CPU time holds on a busy machine
        yield from compare(work, Problem(size.name, about), ours, rivals, repeats)


def _detect(problem: Activations, alphas: Sequence[float]) -> Iterator[Detections]:
    settings = [replace(problem.video_set.detect, alpha=alpha) for alpha in alphas]
    return (found for _, found in detect_many(problem.cas, problem.offsets, problem.clips_per_s, settings))


def _exhaust(found: Iterator[Detections]) -> None:
    for _ in found:
        pass


def _numpy_scorer(problem: Activations, found: Detections, expected: float) -> Rival:
    def score(i: int) -> None:
        made = problem.video_set
        ap = numpy_scorer.average_precision(problem.truth, found, made.classes, made.tiou)
        _agree(expected, Score(np.array(made.tiou), ap).avg_map)

    return Rival(SCORER, score, limit=0.5 if len(found) > 200_000 else None)  # what the limit was set for


def _oracle(problem: Activations, found: Detections, expected: float) -> Rival:
    truth, rows = _tuples(problem.truth), _tuples(found)

    def score(i: int) -> None:
        _agree(
            expected, metrics_oracle.evaluate(truth, rows, problem.video_set.classes, problem.video_set.tiou).avg_map
        )

    return Rival(ORACLE, score)


def _agree(ours: float, rivals: float) -> None:
    if abs(ours - rivals) > 1e-9:
        raise AssertionError(f"avg.mAP must agree to 1e-9, got {ours!r} and {rivals!r}")


def _tuples(segments: Segments) -> list[tuple]:
    columns = [segments.video, segments.label, segments.start_s, segments.end_s]
    if isinstance(segments, Detections):
        columns.append(segments.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))
