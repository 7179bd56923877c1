"""Detection, and the score of what it finds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from haan.detect import detect_many
from haan.metrics import Detections, Evaluator, Segments
from tests import metrics_oracle
from tests.benchmarks.activations import ALPHAS, Activations, activations
from tests.benchmarks.measure import Rival, Row, Work, compare, threads
from tests.benchmarks.sizes import Size

ORACLE = "plain oracle"
MOST_ROUNDS = {"fineaction": 2}  # its whole validation set, which takes seconds


def detection(size: Size, repeats: int) -> Iterator[Row]:
    """All alphas of a sweep against one."""
    problem = activations(size.name)
    one = Rival("one alpha", lambda i: _exhaust(_detect(problem, [problem.size.detect.alpha])), limit=5)
    yield from _compare(
        f"detect {len(ALPHAS)} alphas", size, repeats, lambda i: _exhaust(_detect(problem, ALPHAS)), one
    )


def metrics(size: Size, repeats: int) -> Iterator[Row]:
    """The score of one alpha's detections; then everything from activations to the score of every alpha."""
    problem = activations(size.name)
    evaluator = Evaluator(problem.truth, problem.size.classes, problem.size.tiou)
    (found,) = _detect(problem, [problem.size.detect.alpha])
    rivals = []
    if size.name == "finegym":  # the size of which the authors' time is known
        rivals.append(_oracle(problem, found, evaluator.score(found).avg_map))
    yield from _compare(f"score {len(found):,}", size, repeats, lambda i: evaluator.score(found), *rivals)

    def both(alphas: Sequence[float]) -> None:
        for one in _detect(problem, alphas):
            evaluator.score(one)

    single = Rival("one alpha", lambda i: both([problem.size.detect.alpha]))
    yield from _compare(f"detect and score {len(ALPHAS)}", size, repeats, lambda i: both(ALPHAS), single)


def _compare(work: str, size: Size, repeats: int, ours: Work, *rivals: Rival) -> Iterator[Row]:
    with threads(1):  # NumPy: CPU time holds on a busy machine
        yield from compare(work, size.name, ours, rivals, min(repeats, MOST_ROUNDS.get(size.name, repeats)))


def _detect(problem: Activations, alphas: Sequence[float]) -> Iterable[Detections]:
    settings = [replace(problem.size.detect, alpha=alpha) for alpha in alphas]
    return detect_many(problem.cas, problem.offsets, problem.clips_per_s, settings)


def _exhaust(found: Iterable[Detections]) -> None:
    for _ in found:
        pass


def _oracle(problem: Activations, found: Detections, expected: float) -> Rival:
    """Raises AssertionError where it and ours disagree."""
    truth, rows = _tuples(problem.truth), _tuples(found)

    def score(i: int) -> None:
        got = metrics_oracle.evaluate(truth, rows, problem.size.classes, problem.size.tiou).avg_map
        if abs(got - expected) > 1e-9:
            raise AssertionError(f"avg.mAP must agree to 1e-9, got {expected!r} and {got!r}")

    return Rival(ORACLE, score)


def _tuples(segments: Segments) -> list[tuple]:
    columns = [segments.video, segments.label, segments.start_s, segments.end_s]
    if isinstance(segments, Detections):
        columns.append(segments.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))
