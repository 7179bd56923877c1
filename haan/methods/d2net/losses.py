"""D2-Net's losses: of what is told apart in a batch, and of how informative probabilities are."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from haan.methods.d2net.config import D2
from haan.methods.ragged import Ragged, num_top, top_places

_CERTAIN = 1e-3  # nearer to 0 and 1 no probability comes
_APART = 1e-3  # nearer two clips' means count as so far apart: the gradient is 1 / that
_LEAST = 1e-5  # singular values that count are larger
_SHOWN = 0.2  # of a video's largest probability: smaller ones are no sign of their class
_MOVE = 0.1  # of the running background, a step


def pooled(
    probability: Float[Tensor, "videos longest fine"], batch: Ragged, share: float
) -> Float[Tensor, "videos fine"]:
    """Of each class's own highest clips, a share rounded up, the mean; never quite 0 or 1."""
    top = top_places(probability, batch.there, num_top(batch.num_clips, share, up=True))
    mean = (probability * top).sum(dim=1) / top.sum(dim=1).clamp_min(1)
    return mean.clamp(_CERTAIN, 1 - _CERTAIN)


def attention(
    probability: Float[Tensor, "videos longest fine"], batch: Ragged, setting: D2
) -> tuple[Float[Tensor, "videos longest"], Float[Tensor, "videos longest"]]:
    """How much foreground and how much background a clip is, 0 where too little."""
    action = probability.amax(dim=2)
    sides = (action, setting.foreground), (1 - action, setting.background)
    foreground, background = (side.masked_fill((side < least) | ~batch.there, 0) for side, least in sides)
    return foreground, background


def weighted_mean(
    features: Float[Tensor, "videos longest width"], weights: Float[Tensor, "videos longest"]
) -> Float[Tensor, "videos width"]:
    """Over a video's clips; 0 where none has a weight."""
    total = weights.sum(dim=1, keepdim=True)
    return (weights[:, None] @ features)[:, 0] / torch.where(total > 0, total, 1)


def shuffled(have: Bool[Tensor, " videos"], draw: Float[Tensor, " videos"]) -> Tensor:
    """The places of videos that have something, in the order of what was drawn, then those of the others."""
    return torch.where(have, draw, torch.inf).argsort(stable=True)


def unlike(
    mean: Float[Tensor, "videos width"], have: Bool[Tensor, " videos"], draw: Float[Tensor, " videos"]
) -> Float[Tensor, " videos"]:
    """1 less the cosine with that of another video, or the same, by a permutation of those that have one; else 0."""
    other = torch.empty_like(shuffled(have, draw))
    other[(~have).to(torch.int8).argsort(stable=True)] = shuffled(have, draw)
    return (1 - F.cosine_similarity(mean, mean[other])) * have


def mistaken(
    foreground: Float[Tensor, "videos width"],
    background: Float[Tensor, "videos width"],
    have: tuple[Bool[Tensor, " videos"], Bool[Tensor, " videos"]],
    draws: tuple[Float[Tensor, " videos"], Float[Tensor, " videos"]],
) -> Float[Tensor, " videos"]:
    """How like a video's foreground is to a background of the batch, where there is one for it; else 0."""
    first, second = (shuffled(of, draw) for of, draw in zip(have, draws, strict=True))
    paired = have[0][first] & have[1][second]
    like = F.cosine_similarity(foreground[first], background[second]).clamp_min(0) * paired
    return like[first.argsort()]


def discriminative(
    p: Float[Tensor, "videos fine"],
    labels: Float[Tensor, "videos fine"],
    foregrounds: Float[Tensor, " videos"],
    backgrounds: Float[Tensor, " videos"],
    like: Float[Tensor, " videos"],
    grouping: float,
) -> Float[Tensor, " videos"]:
    """A cross entropy that counts more where foreground and background are told apart badly; a mean over classes.

    p: probabilities. foregrounds, backgrounds: how unlike others they are. like: how like the two are.
    """
    positive = (1 - p + (like + grouping * foregrounds)[:, None]) ** 2 * labels * p.log() * p.shape[1]
    negative = (p + (like + grouping * backgrounds)[:, None]) ** 2 * (1 - labels) * (1 - p).log()
    return -(positive + negative).mean(dim=1)


def moved(
    running: Float[Tensor, " width"],
    features: Float[Tensor, "videos longest width"],
    background: Float[Tensor, "videos longest"],
) -> Float[Tensor, " width"]:
    """The running background, nearer to the mean of each video's clip that is most background. No gradient."""
    most, place = background.detach().max(dim=1)
    have = (most > 0).to(features.dtype)
    found = features.detach()[torch.arange(len(place), device=place.device), place]
    mean = have @ found / have.sum().clamp_min(1)
    return torch.where(have.any(), (1 - _MOVE) * running + _MOVE * mean, running)


def unlikeness(features: Float[Tensor, "*clips width"], background: Float[Tensor, " width"]) -> Float[Tensor, "*clips"]:
    """How unlike the running background clips are, from 0 to 1."""
    return (1 - F.cosine_similarity(features, background, dim=-1)) / 2


def log_condition(u: Float[Tensor, " n"], v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Logarithm of the ratio of the singular values of ((u, 1 - u), (v, 1 - v)), in closed form.

    They multiply to |u - v|; their sum and their difference are the roots below.
    """
    off, apart = u + v - 1, (u - v).abs()
    total = ((1 + apart) ** 2 + off**2).sqrt()
    difference = ((1 - apart) ** 2 + off**2).clamp_min(1e-12).sqrt()  # its gradient at 0 would be NaN
    return 2 * ((total + difference) / 2).log() - apart.clamp_min(_APART).log()


def clip_denoising(
    probability: Float[Tensor, "videos longest fine"],
    unlike_background: Float[Tensor, "videos longest"],
    labels: Float[Tensor, "videos fine"],
    batch: Ragged,
) -> Float[Tensor, ""]:
    """Of videos with clips of both kinds, a mean: how well these tell action, as one less means, from none."""
    action = (unlike_background > 0.5) & batch.there
    rest = (unlike_background < 0.5) & batch.there
    of_labels = probability.masked_fill(labels[:, None] == 0, 0).amax(dim=2)
    sides = zip((of_labels, probability.amax(dim=2)), (action, rest), strict=True)
    u, v = ((of * which).sum(dim=1) / which.sum(dim=1).clamp_min(1) for of, which in sides)
    counts = action.any(dim=1) & rest.any(dim=1) & labels.any(dim=1)
    return (log_condition(u, v) * counts).sum() / counts.sum().clamp_min(1)


def video_denoising(p: Float[Tensor, "videos fine"], labels: Float[Tensor, "videos fine"]) -> Float[Tensor, ""]:
    """How far the batch's joint table of labels and probabilities is from telling classes apart equally well."""
    shown = p * (p > _SHOWN * p.amax(dim=1, keepdim=True))
    shown = (shown / shown.sum(dim=1, keepdim=True)).double()
    present = labels[:, labels.any(dim=0)].double()
    joint = (present / present.sum(dim=0)).T @ shown
    if not joint.isfinite().all():
        return joint.sum().to(p.dtype)  # which the decomposition refuses, and the loop names
    values = torch.linalg.svdvals(joint)
    values = values[values > _LEAST]
    if len(values) < 2:
        return p.new_zeros(())
    return (values[0] / values[-1]).log().to(p.dtype)
