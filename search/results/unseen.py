"""What the official validation videos say of the winner and the base, where they chose nothing.

Both are trained on all training videos with the same seeds, which chose nothing either; so their figures don't flatter,
and the interval of their difference is that of two configurations named before (paired, Student's t).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from search.results.confirm import Confirmation, Confirmed, Run, confirmed
from search.results.ranking import Standing, gained, rank


@dataclass(frozen=True)
class Unseen:
    """avg.mAP in percent on the official videos. base: None where it is the winner, or was not trained there.

    own: the base's at its own detection setting. gain: the winner's over the base; None where they share no seed.
    sentence: the gain in words; empty with one seed, of which figures say all.
    """

    winner: Confirmed
    base: Confirmed | None = None
    own: Confirmed | None = None
    gain: Standing | None = None
    sentence: str = ""

    @property
    def start(self) -> Confirmed | None:
        """The base, whether it is the winner or not; None where it was not trained there."""
        return self.base or (self.winner if self.winner.base else None)


def unseen(known: Confirmation, winner: int) -> Unseen | None:
    """None where the winner was not trained on all training videos."""
    best, base = next((run.trial for run in known.official if run.base), None), None
    found = _chosen(known, winner)
    if found is None or winner == best or best is None:
        return None if found is None else Unseen(found)
    base = _chosen(known, best)
    if base is None:
        return Unseen(found)
    ranking = rank({one.number: one.by_seed for one in (found, base)}, best)
    by_number = {standing.number: standing for standing in ranking.order}
    gain = by_number[winner] if by_number[winner].gain is not None else None
    sentence = gained(gain, by_number[best]) if gain is not None and len(found.scores) > 1 else ""
    return Unseen(found, base, _own(known, best), gain, sentence)


def tables(known: Confirmation) -> list[Confirmed]:
    """Each configuration on the official videos, the best mean first; the base at its own setting, too."""
    found = [one for number in {run.trial for run in known.official} for one in confirmed(_of(known, number))]
    return sorted(found, key=lambda one: (-one.mean, one.number))


def _of(known: Confirmation, number: int) -> Sequence[Run]:
    return [run for run in known.official if run.trial == number]


def _chosen(known: Confirmation, number: int) -> Confirmed | None:
    return next((one for one in tables(known) if one.number == number and one.setting == "chosen"), None)


def _own(known: Confirmation, number: int) -> Confirmed | None:
    return next((one for one in tables(known) if one.number == number and one.setting == "own"), None)
