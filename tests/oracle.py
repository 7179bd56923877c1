"""Eq. 1-10 written down as plainly as possible, and slowly: the reference that the fast losses are tested against.

Videos are padded to the longest one. Python loops run over videos, classes and all N clusters; absent concepts are
zero vectors in a full [N, width] matrix, and e^j ranks all N distances. Nothing of our concepts or losses is used.

Tie rule of Eq. 6: at the same distance a present concept goes before an absent one, then the lower cluster number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from haan.methods.haan.config import Concepts, Loss
from haan.methods.haan.network import HAAN

LOSSES = ("mil", "pseudo", "concept", "coarse", "total")


@dataclass(frozen=True)
class Padded:
    """A batch padded to its longest video, and what the losses need to know of the training set.

    clips: [videos, longest, d]. num_clips: clips of each video; those behind are padding. labels: [videos, longest]
    pseudo labels, -1 in the padding. fine: [videos, fine], coarse: [videos, coarse] bool. train_fine, train_coarse: the
    same for all training videos. frequency: [clusters] share of each cluster among the training clips.
    coarse_of_fine: coarse class of each fine class.
    """

    clips: Tensor
    num_clips: Sequence[int]
    labels: Tensor
    fine: Tensor
    coarse: Tensor
    train_fine: Tensor
    train_coarse: Tensor
    frequency: Tensor
    coarse_of_fine: Sequence[int]


def pool(scores: Tensor) -> Tensor:
    """Eq. 1 on one video, [clips, fine] -> [fine]; the mean where rounding leaves no clip at or above it."""
    pooled = []
    for j in range(scores.shape[1]):
        column = scores[:, j]
        mean = column.mean()
        reached = [s for s in column if s >= mean]
        pooled.append(torch.stack(reached).mean() if reached else mean)
    return torch.stack(pooled)


def bce(logits: Tensor, label: Tensor, train: Tensor | None) -> Tensor:
    """Eq. 2 and 9 on one video: mean over classes of -log sigmoid(+-logit), weighted when `train` labels are given."""
    terms = []
    num_classes = len(logits)
    for c in range(num_classes):
        positive = bool(label[c])
        term = -F.logsigmoid(logits[c] if positive else -logits[c])
        if train is not None:
            alike = sum(bool(row[c]) == positive for row in train)  # at least this video itself
            term = term * (num_classes / alike)
        terms.append(term)
    return torch.stack(terms).mean()


def pseudo(logits: Tensor, labels: Tensor, frequency: Tensor | None, per_clip: bool) -> Tensor:
    """Eq. 3 on one video: weighted mean over clips of -log softmax(logits)[label]."""
    terms, weights = [], []
    for i, p in enumerate(labels.tolist()):
        weight = 1.0 if frequency is None else float(frequency[p])
        terms.append(weight * (torch.logsumexp(logits[i], dim=0) - logits[i, p]))
        weights.append(weight)
    mean = torch.stack(terms).sum() / sum(weights)
    return mean / len(terms) if per_clip else mean


def concepts(hidden: Tensor, labels: Tensor, clusters: int) -> tuple[Tensor, list[bool]]:
    """Eq. 4 on one video: v [N, width] with zero vectors for absent concepts, and which are present."""
    rows, present = [], []
    for n in range(clusters):
        members = labels == n
        present.append(bool(members.any()))
        rows.append(hidden[members].mean(dim=0) if present[-1] else hidden.new_zeros(hidden.shape[1]))
    return torch.stack(rows), present


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of two vectors, 0 when one of them is zero."""
    if not a.any() or not b.any():
        return a.new_zeros(())
    return a.dot(b) / (a.norm() * b.norm())


def distances(v: Tensor, w: Tensor, distance: str) -> list[float]:
    """Eq. 5 for one class: d_n of all N concepts; cosine is ranked as minus the similarity."""
    v, w = v.detach(), w.detach()
    if distance == "euclidean":
        return (v - w).norm(dim=1).tolist()
    lengths = v.norm(dim=1) * w.norm()
    similarity = (v * w).sum(dim=1).tolist()  # v @ w may give equal rows unequal sums
    return [-s / length if length > 0 else 0.0 for s, length in zip(similarity, lengths.tolist(), strict=True)]


def nearest(d: list[float], present: list[bool], top_k: int) -> list[int]:
    """TopK of Eq. 6: the cluster numbers of the k nearest concepts, nearest first."""
    return sorted(range(len(d)), key=lambda n: (d[n], not present[n], n))[:top_k]


def fine_representations(v: Tensor, present: list[bool], w: Tensor, top_k: int, distance: str) -> Tensor:
    """Eq. 5-6 on one video, [fine, width]: mean of the k nearest of all N concepts."""
    rows = [v[nearest(distances(v, row, distance), present, top_k)].sum(dim=0) / top_k for row in w]
    return torch.stack(rows)


def concept(e: Tensor, w: Tensor, label: Tensor, distance: str, reduction: str) -> Tensor:
    """Eq. 7 on one video: distance of e^j to w^j over the classes that the video contains."""
    terms = []
    for j in range(len(w)):
        if label[j]:
            # The norm's own gradient at 0 is 0 in PyTorch, as the fast code has it.
            terms.append(1 - cosine(e[j], w[j]) if distance == "cosine" else (e[j] - w[j]).norm())
    if not terms:
        return e.new_zeros(())
    total = torch.stack(terms).sum()
    return total / len(terms) if reduction == "mean" else total


def compose(e: Tensor, coarse_of_fine: Sequence[int], pooling: str) -> Tensor:
    """Eq. 8 on one video, [coarse, width]."""
    rows = []
    for u in range(max(coarse_of_fine) + 1):
        members = torch.stack([e[j] for j, parent in enumerate(coarse_of_fine) if parent == u])
        rows.append(members.amax(dim=0) if pooling == "max" else members.mean(dim=0))
    return torch.stack(rows)


def losses(model: HAAN, loss: Loss, setting: Concepts, batch: Padded) -> dict[str, Tensor]:
    """The four losses summed over the videos, and their weighted sum (Eq. 10)."""
    sums = {name: batch.clips.new_zeros(()) for name in LOSSES}
    out = model(batch.clips)  # the padding runs through the heads too and is cut off below
    balanced = loss.class_weights == "balanced"
    w = model.classifier.weight
    for b, count in enumerate(batch.num_clips):
        labels = batch.labels[b, :count]
        mil = bce(pool(out.cas[b, :count]), batch.fine[b], batch.train_fine if balanced else None)
        frequency = batch.frequency if loss.pseudo_weights == "frequency" else None
        of_pseudo = pseudo(out.cluster_logits[b, :count], labels, frequency, loss.pseudo_per_clip)
        v, present = concepts(out.hidden[b, :count], labels, setting.clusters)
        e = fine_representations(v, present, w, setting.top_k, setting.distance)
        target = w.detach() if loss.detach_prototypes else w
        of_concept = concept(e, target, batch.fine[b], setting.distance, loss.concept_reduction)
        composed = compose(e, batch.coarse_of_fine, loss.coarse_pooling)
        logits = torch.stack([model.coarse_classifier(row).squeeze() for row in composed])
        coarse = bce(logits, batch.coarse[b], batch.train_coarse if balanced else None)
        total = loss.mil * mil + loss.pseudo * of_pseudo + loss.concept * of_concept + loss.coarse * coarse
        for name, value in zip(LOSSES, (mil, of_pseudo, of_concept, coarse, total), strict=True):
            sums[name] = sums[name] + value
    return sums


def slow(model: HAAN, loss: Loss, setting: Concepts, batch: Padded) -> dict[str, float]:
    """One forward and backward pass of the oracle, for benchmarks; gradients are left in the parameters."""
    model.zero_grad(set_to_none=True)
    values = losses(model, loss, setting, batch)
    values["total"].backward()
    return {name: float(value.detach()) for name, value in values.items()}


def near_tie(model: HAAN, setting: Concepts, batch: Padded, gap: float = 1e-9) -> bool:
    """Whether two concepts that differ are equally far from some class, up to rounding.

    Which of the two is chosen then depends on the order of additions, so two programs may differ. Concepts with equal
    values (repeated clips) are no such case: whichever is chosen, losses and gradients are the same. Nor is a present
    zero vector beside the absent ones.
    """
    with torch.no_grad():
        out = model(batch.clips)
        for b, count in enumerate(batch.num_clips):
            v, present = concepts(out.hidden[b, :count], batch.labels[b, :count], setting.clusters)
            absent = [n for n in range(setting.clusters) if not present[n]]
            rows = [n for n in range(setting.clusters) if present[n]] + absent[:1]
            for w in model.classifier.weight:
                d = distances(v, w, setting.distance)
                order = sorted(rows, key=d.__getitem__)
                for i, one in enumerate(order):
                    for other in order[i + 1 :]:
                        if d[other] - d[one] > gap:
                            break
                        if not torch.allclose(v[one], v[other], rtol=gap, atol=gap):
                            return True
    return False


def random_batch(
    seed: int,
    num_clips: Sequence[int],
    *,
    clusters: int,
    dim: int = 5,
    fine: int = 6,
    coarse: int = 3,
    distinct: int | None = None,
    pad: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Padded:
    """A random padded batch. distinct: clips are drawn from so many feature vectors, so that some repeat.

    The training set is the batch and five more videos, so each label of the batch occurs in it, as does each pseudo
    label.
    """
    rng = torch.Generator().manual_seed(seed)
    longest = max(num_clips) + pad
    clips = torch.randn(len(num_clips), longest, dim, generator=rng, dtype=torch.float64)
    if distinct is not None:
        stock = torch.randn(distinct, dim, generator=rng, dtype=torch.float64)
        clips = stock[torch.randint(distinct, (len(num_clips), longest), generator=rng)]
    labels = torch.randint(clusters, (len(num_clips), longest), generator=rng)
    others = torch.randint(clusters, (20,), generator=rng)
    coarse_of_fine = [*range(coarse), *torch.randint(coarse, (fine - coarse,), generator=rng).tolist()]
    train_fine = torch.rand(len(num_clips) + 5, fine, generator=rng) < 0.4
    train_coarse = torch.zeros(len(train_fine), coarse, dtype=torch.bool)
    for j, u in enumerate(coarse_of_fine):
        train_coarse[:, u] |= train_fine[:, j]
    for b, count in enumerate(num_clips):
        labels[b, count:] = -1
        clips[b, count:] = 1e3  # far off, so that padding which counts anywhere would show
    seen = torch.cat([labels[labels >= 0], others])
    return Padded(
        clips=clips.to(dtype),
        num_clips=list(num_clips),
        labels=labels,
        fine=train_fine[: len(num_clips)],
        coarse=train_coarse[: len(num_clips)],
        train_fine=train_fine,
        train_coarse=train_coarse,
        frequency=(torch.bincount(seen, minlength=clusters) / len(seen)).to(dtype),
        coarse_of_fine=coarse_of_fine,
    )
