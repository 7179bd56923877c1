"""Which card holds how many trials of the shipped spaces, and how long a search is: `python -m tests.benchmarks.cards`.

Nothing is measured. A trial's memory is counted as `--dry-run` counts it, and trials at once as a search does that is
left to choose (`gpu: auto`), on an empty card beside so many cores. Steps are those of whole trials, before pruning.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haan.cli import say
from haan.config import Holdout
from haan.gpumemory import gpu_need
from haan.methods.base import Labelled
from haan.words import aligned, byte_size
from search.driver.estimate import largest_ones
from search.driver.gpus import Gpu
from search.driver.nodes import Cluster, Node
from search.driver.placement import Crowd, crowd
from search.space.model import Space
from search.space.read import read_space
from tests.paths import ROOT

CARDS_GIB = (24, 80, 141)
CORES = (4, 8, 16)  # beside a card
# Steps a second of so many trials at FineAction's size together, several under NVIDIA's MPS: on one H200 beside 16
# cores, by `python -m tests.gpu speed beside` of commit f3aec03.
MEASURED = {1: 1333, 8: 3074, 16: 3448}


@dataclass(frozen=True)
class Shipped:
    """A space that comes with the search, and the shape of its data. clips: of each training video."""

    name: str
    file: str
    dim: int
    fine: int
    coarse: int
    clips: NDArray[np.int64]

    @property
    def space(self) -> Space:
        """As it stands."""
        return read_space(ROOT / "spaces" / self.file)

    @property
    def need(self) -> int:
        """Bytes of a GPU that its most demanding trial takes, trained on all training videos."""
        known = Labelled(
            videos=np.arange(len(self.clips)),
            names=("",) * len(self.clips),
            num_clips=self.clips,
            clips_per_s=np.ones(len(self.clips)),
            dim=self.dim,
            fine=np.zeros((len(self.clips), self.fine), dtype=bool),
            coarse=np.zeros((len(self.clips), self.coarse), dtype=bool),
            fine_names=("",) * self.fine,
            coarse_of_fine=np.zeros(self.fine, dtype=np.int64),
        )
        return max(gpu_need(config, known).total for config in largest_ones(self.space))

    @property
    def steps(self) -> int:
        """Of all trials, were none pruned."""
        space = self.space
        base, validation = space.base, space.base.data.validation
        held = round(validation.holdout * len(self.clips)) if isinstance(validation, Holdout) else 0
        epoch = math.ceil((len(self.clips) - held) / base.optim.batch_videos)
        return space.plan.trials * base.optim.epochs * epoch

    def crowd(self, card_gib: int, cores: int) -> Crowd:
        """What `gpu: auto` is on such a card, when nothing else uses it."""
        size = card_gib * 2**30
        node = Node(id="a", host="a", resources={"CPU": cores, "GPU": 1}, head=True)
        return crowd(self.space, Cluster((node,), local=True), [Gpu(0, "0", "a card", size, size)], self.need)


# FineGym's events have 5 to 309 clips; by the ends of their annotations some 76 in the mean, few of them long.
_GYM = (-75 * np.log1p(-np.linspace(0, 1, 3775, endpoint=False))).clip(5, 309).astype(np.int64)
SHIPPED = (
    Shipped("FineAction, 8,440 training videos", "fineaction.yaml", 4096, 106, 14, np.full(8440, 100)),
    Shipped("FineGym, 3,775", "finegym.yaml", 2048, 99, 14, _GYM),
)


def by_memory() -> list[list[str]]:
    """How many trials each card's memory holds."""
    rows = [["trials by memory", "a trial takes", *(f"{card} GiB" for card in CARDS_GIB)]]
    for one in SHIPPED:
        held = [str(one.crowd(card, max(CORES)).by_memory) for card in CARDS_GIB]
        rows.append([one.name, byte_size(one.need), *held])
    return rows


def by_cores() -> list[list[str]]:
    """How many trials `gpu: auto` has at once, and the share that each gets, whatever the card."""
    rows = [["cores beside the card", "trials at once", "share of each"]]
    for cores in CORES:
        crowds = [one.crowd(card, cores) for one in SHIPPED for card in CARDS_GIB]
        ((size, share),) = {(each.size, each.share) for each in crowds}
        rows.append([str(cores), str(size), f"{share:g}"])
    return rows


def hours() -> list[list[str]]:
    """How long the trials of FineAction's space would take by what was measured."""
    steps = SHIPPED[0].steps
    rows = [["trials at once", "steps a second, all together", "hours for all 200 trials whole"]]
    return rows + [[str(count), f"{rate:,}", f"{steps / rate / 3600:.1f}"] for count, rate in MEASURED.items()]


def main() -> None:
    """All tables."""
    for rows in (by_memory(), by_cores(), hours()):
        say("\n".join(aligned(rows, texts=1)))
        say("")
    for one in SHIPPED:
        say(f"{one.file}: {one.steps:,} steps, were no trial pruned")


if __name__ == "__main__":
    main()
