"""One evaluation of FineGym's size, ours against the plain oracle.

`python -m tests.benchmarks.evaluation`: 200 videos, 99 classes, 1,400 ground-truth segments, 200,000 detections, nine
tIoU thresholds.
"""

import json
import sys
import time
from statistics import median

import numpy as np

from haan.metrics import Detections, Evaluator, Segments
from tests import metrics_oracle

VIDEOS, CLASSES, TRUTHS, DETECTIONS = 200, 99, 1_400, 200_000
DURATION_S = 60.0
KEPT = 20  # classes that a detector keeps in a video, those present first
THRESHOLDS = tuple(round(0.1 + 0.05 * i, 10) for i in range(9))


def random_benchmark(seed: int) -> tuple[Segments, Detections]:
    """Seven true segments a video, and 1,000 detections a video spread evenly over its 20 kept classes."""
    rng = np.random.default_rng(seed)
    truth_video = np.repeat(np.arange(VIDEOS), TRUTHS // VIDEOS)
    start = rng.uniform(0, DURATION_S - 8, TRUTHS)
    # A video shows a few classes several times: each of its segments takes one of four.
    present = np.stack([rng.permutation(CLASSES)[:KEPT] for _ in range(VIDEOS)])  # [videos, KEPT]
    truth_label = present[truth_video, rng.integers(0, 4, TRUTHS)]
    truth = Segments(truth_video, truth_label, start, start + rng.uniform(0.5, 8, TRUTHS))
    video = np.repeat(np.arange(VIDEOS), DETECTIONS // VIDEOS)
    label = present[video, rng.integers(0, KEPT, DETECTIONS)]
    start = rng.uniform(0, DURATION_S - 8, DETECTIONS)
    found = Detections(video, label, start, start + rng.uniform(0.5, 8, DETECTIONS), rng.normal(size=DETECTIONS))
    return truth, found


def run() -> dict[str, float]:
    """CPU seconds of each in one process (both use one thread), their ratio, and both avg.mAP in percent.

    Raises AssertionError where the two disagree.
    """
    truth, found = random_benchmark(0)
    truth_rows = list(zip(*(c.tolist() for c in (truth.video, truth.label, truth.start_s, truth.end_s)), strict=True))
    columns = (found.video, found.label, found.start_s, found.end_s, found.score)
    rows = list(zip(*(c.tolist() for c in columns), strict=True))

    evaluator = Evaluator(truth, CLASSES, THRESHOLDS)
    seconds = []
    for _ in range(9):
        start = time.process_time()
        ours = evaluator.score(found).avg_map
        seconds.append(time.process_time() - start)
    start = time.process_time()
    plain = metrics_oracle.evaluate(truth_rows, rows, CLASSES, THRESHOLDS).avg_map
    oracle_s = time.process_time() - start

    if abs(ours - plain) > 1e-9:
        raise AssertionError(f"avg.mAP must agree to 1e-9, got {ours!r} and {plain!r}")
    fast_s = median(seconds)
    return {
        "fast_s": fast_s,
        "oracle_s": oracle_s,
        "oracle/fast": oracle_s / fast_s,
        "fast_avg_map": ours,
        "oracle_avg_map": plain,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
