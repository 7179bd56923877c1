"""A teacher's detections in training videos, and which of them are taken for segments."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from haan.activitynet import member, number, read_part, segment, supervision_of, typed
from haan.alike import first_of
from haan.detectors import nms
from haan.errors import InputError
from haan.methods.base import Labelled
from haan.methods.student.config import Student
from haan.metrics import Detections

KEY = "student.teacher"


def read_teacher(path: Path, known: Labelled) -> Detections:
    """The detections of classes that their videos are known to show; `video` by its place among the training videos.

    Raises InputError unless a weakly supervised method of this project wrote the file, for all training videos.
    """
    version = typed(read_part(path, "version", str), str, path, "version")
    if supervision_of(version) != "weak":
        rule = "must be what `haan detect --train` wrote by a weakly supervised method"
        raise InputError(f"{KEY}: {rule}, got {path} of {version!r:.80}")
    results = read_part(path, "results", dict)
    if missing := [name for name in known.names if name not in results]:
        rule = "must have a list for each training video, as `haan detect --train` writes it"
        raise InputError(f"{KEY}: {rule}, got none in {path} for {len(missing)} of them: {first_of(missing)}")
    classes = {name: label for label, name in enumerate(known.fine_names)}
    rows: list[tuple[int, int, float, float, float]] = []
    for video, name in enumerate(known.names):
        where = f"results.{name}"
        for place, entry in enumerate(typed(results[name], list, path, where)):
            label = member(entry, "label", str, path, f"{where}[{place}]")
            if label not in classes:
                raise InputError(f"{path}: {where}[{place}].label: must be a class of the data set, got {label!r}")
            start, end = segment(entry, path, f"{where}[{place}]")
            rows.append((video, classes[label], start, end, number(entry, "score", path, f"{where}[{place}]")))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    video, label = columns[0].astype(np.int64), columns[1].astype(np.int64)
    return Detections(video, label, *columns[2:]).at(known.fine[video, label] & (columns[3] > columns[2]))


def pseudo_segments(found: Detections, setting: Student) -> Detections:
    """Those that are taken for segments, or for unsure ones; `score` is what they weigh, 0 where they are unsure.

    Of each video and class the best ones that no better one suppresses. Of all of a class the best share is sure, and
    the best one of each video; the rest of another share is unsure; others are none. What is as good as its class's
    best weighs 1, the last of n has 1/n.
    """
    pair = found.video * (int(found.label.max(initial=0)) + 1) + found.label
    order = nms.order(pair, found.score)
    hard = nms.Nms(nms_tiou=setting.nms_tiou)
    left = order[nms.overlaps(pair[order], found.start_s[order], found.end_s[order], hard) == 0]
    rank = nms.ranks(pair[left])
    left, rank = left[rank < setting.most], rank[rank < setting.most]
    score, label = found.score[left], found.label[left]
    by_class = nms.order(label, score)
    place = np.empty(len(left), dtype=np.int64)
    place[by_class] = nms.ranks(label[by_class])
    share = place / np.bincount(label)[label]
    sure, counts = (share < setting.sure) | (rank == 0), share < setting.unsure
    weight = np.where(sure, 1 - share if setting.weighted else 1.0, 0.0)
    return replace(found.at(left), score=weight).at(sure | counts)
