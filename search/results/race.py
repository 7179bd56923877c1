"""A racing confirmation: configurations run seed by seed, and one leaves once it is behind.

After each seed from the second on, whoever lies behind the leader by more than noise would put it there in one of five
cases (`BEHIND`, one-sided t over the seeds that both have) runs no more; the base runs on, for gains are over it. The
race ends when nobody but the leader is left, the base too being behind or the leader, or with the last seed.
Racing over paired blocks is Maron and Moore's (1994) and, with such tests, F-Race's (Birattari et al., 2002).

Looking after each seed gives noise several chances, though the looks are much alike. So the intervals that each look
gives hold together with 97 %, and those of a whole race with 95 to 98 % in simulations with equal noise, whenever each
configuration left; on the planted pools, whose noise is unequal, with 90 to 91 %, as without a race.
`python -m tests.benchmarks.races` prints it. What is known after each seed follows from the runs alone, so a race goes
on wherever it was cut short.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

from search.results.ranking import CONFIDENCE, Ranking, Standing, Values, lags, rank

FIRST = 2  # seeds before the first look: one shows no spread
BEHIND = 0.2
_MISS = 0.03  # how likely one of the intervals of a look may not hold


@dataclass(frozen=True)
class Race:
    """How a race stands.

    wanted: number and seed of each run so far, in the order in which they begin. rounds: how many runs each seed that
    may follow has at most. ranking: those still in it, then those that left, the last ones first; None before its end.
    """

    wanted: tuple[tuple[int, int], ...] = ()
    rounds: tuple[int, ...] = ()
    ranking: Ranking | None = None


def follow(
    numbers: Sequence[int],
    base: int | None,
    seeds: Sequence[int],
    first: int,
    ended: Container[tuple[int, int]],
    values: Callable[[Sequence[int]], Values],
) -> Race:
    """A race as far as its runs have ended.

    first: seeds before the first look; as many as there are: nobody leaves. ended: number and seed of runs, failed ones
    too. values: what those of some seeds scored, as these alone show it.
    """
    wanted, left = list[tuple[int, int]](), list[Standing]()
    inside, known = list(numbers), dict[int, Mapping[int, float]]()
    races = first < len(seeds)
    for count in range(first, len(seeds) + 1):
        wanted += [(number, seed) for seed in seeds[count - 1 if count > first else 0 : count] for number in inside]
        rounds = (len(inside),) * (len(seeds) - count)
        if not all(run in ended for run in wanted):
            return Race(tuple(wanted), rounds)
        seen = values(seeds[:count])
        known |= {number: seen.get(number, {}) for number in inside}
        if not any(known.values()):
            return Race(tuple(wanted))
        ranking = compared(known, base, races)
        standings = [one for one in ranking.order if one.number in inside]
        behind = lags(known, standings[0].number)
        out = {number for number in inside if not known[number] or behind.get(number, 1.0) < BEHIND}
        if count == len(seeds) or len(out) >= len(inside) - 1:
            order, most = (*standings, *left), len(seeds) if races else None
            return Race(tuple(wanted), ranking=replace(ranking, order=order, most=most))
        out.discard(base)
        left = [one for one in standings if one.number in out] + left
        inside = [number for number in inside if number not in out]
    return Race()


def compared(values: Values, base: int | None, races: bool) -> Ranking:
    """`rank` with the intervals that such a confirmation allows."""
    return rank(values, base, _MISS if races else 1 - CONFIDENCE)
