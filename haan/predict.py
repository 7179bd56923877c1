"""Inference: trained weights and a configuration -> detections on its validation videos, as ActivityNet JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from haan import __version__
from haan.activitynet import write_predictions
from haan.config import Config, Data
from haan.data.table import Annotations, FeatureSource, FloatArray, IntArray, offsets_of, read_checked, runs
from haan.detect import detect_many
from haan.errors import InputError
from haan.feed import BLOCK_CLIPS
from haan.model import HAAN
from haan.train import activations, choose_device, read_tensors


@dataclass(frozen=True)
class Predicted:
    """What was written: how many detections in how many videos."""

    detections: int
    videos: int


def predict(
    config: Config,
    source: FeatureSource,
    annotations: Annotations,
    videos: IntArray,
    weights: Path,
    out: Path,
    external: str | None = None,
) -> Predicted:
    """Writes the detections in some videos; features are read block by block and not kept.

    external: what else than the data set was used, for a server's `external_data`.
    Raises InputError when the weights don't fit the configuration and the data.
    """
    device = choose_device(config.device)
    tensors, _ = read_tensors(weights)
    num_fine = len(annotations.fine_names)
    model = HAAN(config.model, source.dim, num_fine, config.concepts.clusters, config.precision)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{weights}: must be weights of this configuration and data, got {reason}") from None
    blocks = (torch.from_numpy(clips).to(device) for clips in _blocks(config.data, source, annotations, videos))
    offsets = offsets_of(source.num_clips[videos])
    cas = activations(model.to(device), blocks, int(offsets[-1]))
    ((_, found),) = detect_many(cas, offsets, annotations.clips_per_s[videos], [config.detect])
    names = [annotations.names[video] for video in videos]
    write_predictions(out, names, annotations.fine_names, found, f"haan {__version__}", external)
    return Predicted(len(found), len(videos))


def _blocks(data: Data, source: FeatureSource, annotations: Annotations, videos: IntArray) -> Iterator[FloatArray]:
    """Clips of some videos as training sees them: rounded to `data.dtype`, then float32."""
    for first, last in runs(source.num_clips[videos], BLOCK_CLIPS):
        clips = [read_checked(source, int(v), int(v) + 1, data.dtype, annotations) for v in videos[first:last]]
        yield np.concatenate(clips).astype(np.float32)
        source.release(int(videos[first]), int(videos[last - 1]) + 1)
