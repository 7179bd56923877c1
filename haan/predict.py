"""Inference: trained weights and a configuration -> detections on its validation videos, as ActivityNet JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from haan import __version__
from haan.activitynet import write_predictions
from haan.config import Config, Data
from haan.data.table import Annotations, FeatureSource, FloatArray, IntArray, offsets_of, read_checked, runs
from haan.detect import detect_many
from haan.errors import InputError
from haan.feed import BLOCK_CLIPS
from haan.model import HAAN
from haan.train import activations, choose_device, parted, read_tensors


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
    model, _ = read_network(config, source.dim, len(annotations.fine_names), weights)
    blocks = (torch.from_numpy(c).to(device) for _, _, c in clip_blocks(config.data, source, annotations, videos))
    offsets = offsets_of(source.num_clips[videos])
    cas = activations(model.to(device), blocks, int(offsets[-1]))
    ((_, found),) = detect_many(cas, offsets, annotations.clips_per_s[videos], [config.detect])
    names = [annotations.names[video] for video in videos]
    write_predictions(out, names, annotations.fine_names, found, f"haan {__version__}", external)
    return Predicted(len(found), len(videos))


def read_network(config: Config, dim: int, num_fine: int, path: Path) -> tuple[HAAN, dict[str, Tensor]]:
    """A trained network, and the tensors of `haan.train.Best.concepts`; weights of older versions have none of these.

    Raises InputError when the weights don't fit the configuration and the data.
    """
    weights, concepts = parted(read_tensors(path)[0])
    model = HAAN(config.model, dim, num_fine, config.concepts.clusters, config.precision)
    load_weights(model, weights, path)
    return model, concepts


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """`load_state_dict` for weights that came from a file. Raises InputError."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: must be weights of this configuration and data, got {reason}") from None


def clip_blocks(
    data: Data, source: FeatureSource, annotations: Annotations, videos: IntArray
) -> Iterator[tuple[int, int, FloatArray]]:
    """Clips of some videos as training sees them, rounded to `data.dtype`, then float32; a bounded block at a time.

    Each comes with the places among `videos` of its first one and of the one behind its last.
    """
    for first, last in runs(source.num_clips[videos], BLOCK_CLIPS):
        clips = [read_checked(source, int(v), int(v) + 1, data.dtype, annotations) for v in videos[first:last]]
        yield first, last, np.concatenate(clips).astype(np.float32)
        source.release(int(videos[first]), int(videos[last - 1]) + 1)
