"""Detectors by plain loops: what the fast ones are compared with."""

import math

from haan.detectors.nms import Nms

Row = tuple[int, float, float, float]  # pair, start_s, end_s, score


def plain_tiou(one: Row, other: Row, setting: Nms) -> float:
    extra = 1 if setting.nms_tiou_of == "released" else 0
    overlap = max(0.0, min(one[2], other[2]) + extra - max(one[1], other[1]))
    union = (one[2] - one[1] + extra) + (other[2] - other[1] + extra) - overlap
    return overlap / union if union > 0 else 0.0


def plain_nms(rows: list[Row], setting: Nms) -> list[Row]:
    """Suppression within one pair; of equal scores the earlier is better."""
    left, kept = list(rows), []
    while left:
        best = max(left, key=lambda row: row[3])  # the first of equals
        left.remove(best)
        kept.append(best)
        rest = []
        for row in left:
            overlap = plain_tiou(best, row, setting)
            lowered = (*row[:3], row[3] * math.exp(-(overlap**2) / setting.nms_sigma))
            if setting.nms == "soft":
                rest.append(lowered)
            elif overlap < setting.nms_tiou:
                rest.append(row)
            elif setting.nms == "half_soft":
                kept.append(lowered)
        left = rest
    return kept
