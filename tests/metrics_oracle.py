"""ActivityNet's detection score written down as plainly as its rules, and slowly: the reference for haan.metrics.

Python lists and loops alone; nothing of haan.metrics is used. Each threshold is scored by itself, as mAP at one tIoU is
defined: over classes, over a class's detections by falling score, over the ground truths of a detection's video.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Truth = tuple[int, int, float, float]  # video, class, start_s, end_s
Detection = tuple[int, int, float, float, float]  # the same and a score


@dataclass(frozen=True)
class Result:
    """ap: [thresholds][classes] as a share, None for a class without ground truth. The other two in percent."""

    ap: list[list[float | None]]
    map: list[float]
    avg_map: float


def tiou(start_s: float, end_s: float, other_start_s: float, other_end_s: float) -> float:
    """Intersection over union of two segments; 0 where the union is empty."""
    overlap = max(min(end_s, other_end_s) - max(start_s, other_start_s), 0.0)
    union = (end_s - start_s) + (other_end_s - other_start_s) - overlap
    return overlap / union if union > 0 else 0.0


def interpolated_ap(hits: Sequence[bool], positives: int) -> float:
    """Area under interpolated precision over recall; `hits` says of each detection, best first, whether it is true."""
    precision, recall = [0.0], [0.0]
    true = 0
    for rank, hit in enumerate(hits, start=1):
        true += hit
        precision.append(true / rank)
        recall.append(true / positives)
    precision.append(0.0)
    recall.append(1.0)
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    area = 0.0
    for i in range(1, len(recall)):
        if recall[i] != recall[i - 1]:
            area += (recall[i] - recall[i - 1]) * precision[i]
    return area


def class_ap(truth: Sequence[Truth], detections: Sequence[Detection], threshold: float) -> float:
    """Average precision of one class at one threshold; both sequences hold that class alone."""
    in_video: dict[int, list[int]] = defaultdict(list)
    for i, (video, _, _, _) in enumerate(truth):
        in_video[video].append(i)
    taken: set[int] = set()
    hits: list[bool] = []
    for video, _, start_s, end_s, _ in sorted(detections, key=lambda detection: -detection[4]):
        ranked = [(tiou(start_s, end_s, truth[i][2], truth[i][3]), i) for i in in_video.get(video, [])]
        ranked.sort(key=lambda pair: -pair[0])
        hit = False
        for overlap, i in ranked:
            if overlap < threshold:
                break
            if i not in taken:
                taken.add(i)
                hit = True
                break
        hits.append(hit)
    return interpolated_ap(hits, len(truth))


def evaluate(
    truth: Sequence[Truth], detections: Sequence[Detection], num_classes: int, thresholds: Sequence[float]
) -> Result:
    """Everything that haan.metrics.Score gives."""
    truth_of: dict[int, list[Truth]] = defaultdict(list)
    for segment in truth:
        truth_of[segment[1]].append(segment)
    detections_of: dict[int, list[Detection]] = defaultdict(list)
    for detection in detections:
        detections_of[detection[1]].append(detection)
    ap: list[list[float | None]] = [[None] * num_classes for _ in thresholds]
    for label, segments in truth_of.items():
        for t, threshold in enumerate(thresholds):
            ap[t][label] = class_ap(segments, detections_of[label], threshold)
    means = []
    for row in ap:
        scored = [value for value in row if value is not None]
        means.append(100 * sum(scored) / len(scored) if scored else 0.0)
    return Result(ap, means, sum(means) / len(means))
