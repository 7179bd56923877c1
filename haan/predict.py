"""Inference: trained weights and a configuration -> detections on its validation videos, as ActivityNet JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from haan.activitynet import version_of, write_predictions
from haan.config import Config, Data
from haan.data.table import Annotations, FeatureSource, FloatArray, IntArray, offsets_of, read_checked, runs
from haan.errors import InputError
from haan.feed import BLOCK_CLIPS
from haan.methods.base import Network
from haan.methods.names import HAAN, method_of
from haan.methods.parts import set_products
from haan.metrics import Detections
from haan.score import Numbers, activations, choose_device
from haan.weights import ABOUT, parted, read_tensors


@dataclass(frozen=True)
class Predicted:
    """What was written where. found: the detections; `video` counts from 0 in the order in which they were given."""

    path: Path
    found: Detections
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
    """Writes the detections in some videos; see `detections`.

    external: what else than the data set was used, for a server's `external_data`.
    Raises InputError when the weights don't fit the configuration and the data.
    """
    found = detections(config, source, annotations, videos, weights)
    names = [annotations.names[video] for video in videos]
    write_predictions(out, names, annotations.fine_names, found, version_of(config), external)
    return Predicted(out, found, len(videos))


def detections(
    config: Config, source: FeatureSource, annotations: Annotations, videos: IntArray, weights: Path
) -> Detections:
    """The detections in some videos; features are read block by block and not kept.

    Raises InputError when the weights don't fit the configuration and the data.
    """
    numbers = said(config, source, annotations, videos, weights)
    return detected(config, numbers, offsets_of(source.num_clips[videos]), annotations.clips_per_s[videos])


def said(config: Config, source: FeatureSource, annotations: Annotations, videos: IntArray, weights: Path) -> Numbers:
    """What a trained network says of some videos, for its method's detector. Raises InputError as `detections` does."""
    device = choose_device(config.device)
    set_products(config.precision, device)
    model, _ = read_network(config, source.dim, annotations.fine_names, weights)
    blocks = (torch.from_numpy(c).to(device) for _, _, c in clip_blocks(config.data, source, annotations, videos))
    return activations(model.to(device), blocks, source.num_clips[videos])


def detected(config: Config, numbers: Numbers, offsets: IntArray, clips_per_s: NDArray[np.float64]) -> Detections:
    """The detections in videos of which a network said so; offsets: [videos + 1] first clip of each."""
    ((_, make),) = method_of(config).detector(numbers, offsets, clips_per_s, [config.detect])
    return make()


def read_network(config: Config, dim: int, fine_names: Sequence[str], path: Path) -> tuple[Network, dict[str, Tensor]]:
    """A trained network, and the tensors of `haan.weights.Best.kept`; weights of older versions have none of these.

    Raises InputError when the weights don't fit the configuration and the data, or score other classes than these.
    """
    tensors, about = read_tensors(path)
    if ABOUT in about:  # weights of older versions don't say
        _check(path, about[ABOUT], config.method, fine_names)
    weights, concepts = parted(tensors)
    model = method_of(config).build(config, dim, len(fine_names))
    load_weights(model, weights, path)
    return model, concepts


def _check(path: Path, text: str, method: str, fine_names: Sequence[str]) -> None:
    """Raises InputError unless the weights are of this method, trained on these fine classes in this order."""
    try:
        about: Any = json.loads(text)
        known, theirs = about["classes"], about.get("method", HAAN)
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise InputError(f"{path}: {ABOUT}: must be JSON with classes, got {text!r:.80} ({error})") from None
    if theirs != method:
        rule = f"must be weights of method {method!r}, which the configuration has"
        raise InputError(f"{path}: {rule}, got {theirs!r:.80}")
    if known != list(fine_names):
        pairs = zip_longest(known if isinstance(known, list) else [], fine_names)
        number, (theirs, ours) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise InputError(
            f"{path}: must be weights for the fine classes of the data, in their order, got {theirs!r:.80} as class "
            f"{number}, which is {ours!r:.80} in the data"
        )


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
