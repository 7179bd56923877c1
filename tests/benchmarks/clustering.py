"""The three parts of a clustering: encoding of all training clips, k-means on a sample, assignment of all clips."""

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from haan.feed import BLOCK_CLIPS
from haan.methods.haan import clustering, lloyd
from haan.train import Trainer
from tests.benchmarks import bare
from tests.benchmarks.measure import Rival, Row, Skipped, compare
from tests.benchmarks.sizes import Size, make_trainer


def encoding(size: Size, repeats: int) -> Iterator[Row]:
    """From float16 in the table, block by block, against one product of float32 clips.

    By a private method of the trainer: nothing public encodes alone.
    """
    trainer = make_trainer(size)
    clips = bare.clips_of(trainer, trainer.split.train)
    products = Rival("matrix products", lambda i: bare.encode(trainer.model.encoder, clips).cpu(), limit=1.5)

    def mine(i: int) -> None:
        for _ in trainer.method.encoded(trainer._feed.blocks(trainer.split.train), 1):
            pass

    yield from compare("encoding", size.problem, mine, [products], repeats)


def kmeans(size: Size, repeats: int) -> Iterator[Row | Skipped]:
    """On the configuration's share of the clips."""
    trainer = make_trainer(size)
    encoded = _encoded(trainer)
    num_clips = clustering.sample_size(len(encoded), size.sample_rate)
    sample = encoded[np.random.default_rng(0).choice(len(encoded), num_clips, replace=False)]
    rivals = [Rival("faiss", lambda i: bare.kmeans(sample, size.clusters, i), limit=1.5)]
    known = find_spec("sklearn") is not None
    if known:
        rivals.append(Rival("scikit-learn", lambda i: _scikit_learn(sample, size.clusters, i)))
    there = torch.from_numpy(sample).to(trainer.device)

    def mine(i: int) -> None:
        if trainer.device.type == "cuda":
            lloyd.fit(there, size.clusters, i).cpu()
        else:
            clustering.fit_kmeans(sample, size.clusters, i)

    yield from compare("k-means", size.problem, mine, rivals, repeats)
    if not known:
        yield Skipped(work="k-means", size=size.name, rival="scikit-learn", reason="scikit-learn is not installed")


def _scikit_learn(sample: NDArray[np.float32], clusters: int, seed: int) -> None:
    """Lloyd's iterations from random clips; like faiss it stops where nothing changes any more."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(torch.get_num_threads()):
        KMeans(clusters, init="random", n_init=1, max_iter=clustering.ITERATIONS, tol=0, random_state=seed).fit(sample)


def assignment(size: Size, repeats: int) -> Iterator[Row]:
    """Encoded clips to centroids."""
    trainer = make_trainer(size)
    encoded = _encoded(trainer)
    blocks = [encoded[first : first + BLOCK_CLIPS] for first in range(0, len(encoded), BLOCK_CLIPS)]
    centroids = encoded[np.random.default_rng(0).choice(len(encoded), size.clusters, replace=False)]
    clips, centres = torch.from_numpy(encoded).to(trainer.device), torch.from_numpy(centroids).to(trainer.device)
    product = Rival("matrix product and argmin", lambda i: bare.assign(clips, centres).cpu(), limit=1.5)

    def mine(i: int) -> None:
        if trainer.device.type == "cuda":
            lloyd.assign(clips.split(BLOCK_CLIPS), centres, len(encoded))
        else:
            clustering.assign(blocks, centroids, len(encoded))

    yield from compare("assignment", size.problem, mine, [product], repeats)


def _encoded(trainer: Trainer) -> NDArray[np.float32]:
    return bare.encode(trainer.model.encoder, bare.clips_of(trainer, trainer.split.train)).cpu().numpy()
