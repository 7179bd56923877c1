"""Detectors by plain loops: what the fast ones are compared with."""

import math
from collections.abc import Iterator, Sequence

from haan.detectors.grid import ActionnessGrid, Grid, SidedGrid
from haan.detectors.nms import Nms

Row = tuple[int, float, float, float]  # pair, start_s, end_s, score
Found = tuple[int, int, float, float, float]  # video, class, start_s, end_s, score


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


def plain_positions(clips: Sequence[float], up: int) -> list[float]:
    """Linear interpolation, `up` positions a clip, and beyond the last clip as before it."""
    steps = [(after - before) / up for before, after in zip(clips, clips[1:], strict=False)]
    steps.append(steps[-1] if steps else 0.0)
    return [value + r * step for value, step in zip(clips, steps, strict=True) for r in range(up)]


def plain_runs(positions: Sequence[float], threshold: float) -> list[tuple[int, int]]:
    """Runs that reach the threshold and exceed 0: first and last position."""
    runs: list[tuple[int, int]] = []
    for i, value in enumerate(positions):
        if not (value >= threshold and value > 0):
            continue
        if runs and runs[-1][1] == i - 1:
            runs[-1] = (runs[-1][0], i)
        else:
            runs.append((i, i))
    return runs


def plain_contrast(positions: Sequence[float], a: int, b: int, context: float) -> float:
    """Mean of positions a to b less the mean of those around them."""
    length = b - a + 1
    before, behind = max(0, math.trunc(a - context * length)), math.trunc(b + context * length)
    around = [*positions[before:a], *positions[b + 1 : behind + 1]]
    return sum(positions[a : b + 1]) / length - (sum(around) / len(around) if around else 0.0)


def plain_sided(positions: Sequence[float], a: int, b: int, context: float) -> float:
    """The same, but less the mean of the means of both sides, equally wide, as far as there are any."""
    wide = max(1, math.floor(context * (b - a + 1)))
    sides = [side for side in (positions[max(0, a - wide) : a], positions[b + 1 : b + 1 + wide]) if side]
    outside = [sum(side) / len(side) for side in sides]
    return sum(positions[a : b + 1]) / (b - a + 1) - (sum(outside) / len(outside) if outside else 0.0)


def plain_cuts(
    positions: Sequence[float], actions: Sequence[float], setting: Grid
) -> Iterator[tuple[int, int, Sequence[float]]]:
    """Each run, first and last position, and the sequence that scores it."""
    for threshold in setting.thresholds:
        masked = [value if value >= threshold and value > 0 else 0.0 for value in positions]
        for a, b in plain_runs(positions, threshold):
            yield a, b, masked if isinstance(setting, ActionnessGrid) else positions
    if isinstance(setting, ActionnessGrid):
        for threshold in setting.actionness_thresholds:
            for a, b in plain_runs(actions, threshold):
                yield a, b, positions


def plain_grid(
    videos: Sequence[Sequence[Sequence[float]]],
    probabilities: Sequence[Sequence[float]],
    ratios: Sequence[float],
    setting: Grid,
    actionness: Sequence[Sequence[float]] | None = None,
    many: int | None = None,
) -> list[Found]:
    """videos: [video][clip][class]. probabilities: [video][class]. By video and class; a pair's in any order.

    actionness: [video][clip], for an ActionnessGrid. many: clips that each video is resampled to.
    """
    found: list[Found] = []
    for video, (clips, probability, per_s) in enumerate(zip(videos, probabilities, ratios, strict=True)):
        actions = [0.0] * len(clips) if actionness is None else actionness[video]
        if many is not None:
            actions = [actions[j * len(clips) // many] for j in range(many)]
            clips, per_s = [clips[j * len(clips) // many] for j in range(many)], per_s * many / len(clips)
        kept = [c for c, p in enumerate(probability) if p >= setting.class_threshold]
        for label in kept or [max(range(len(probability)), key=lambda c: probability[c])]:
            positions = plain_positions([clip[label] for clip in clips], setting.upsampling)
            rows: list[Row] = []
            for a, b, around in plain_cuts(positions, plain_positions(actions, setting.upsampling), setting):
                if b - a + 1 < setting.min_positions:
                    continue
                start = a / setting.upsampling
                end = min((b + 1) / setting.upsampling, len(clips))
                contrast = plain_sided if isinstance(setting, SidedGrid) else plain_contrast
                score = contrast(around, a, b, setting.context)
                score += setting.class_score_weight * probability[label]
                rows.append((label, start / per_s, end / per_s, score))
            kept_rows = plain_nms(rows, setting)
            if isinstance(setting, SidedGrid):
                best = max((row[3] for row in kept_rows), default=0.0)
                kept_rows = [row for row in kept_rows if row[3] >= setting.least_share * best]
            found += [(video, *row) for row in kept_rows]
    return found
