"""The winner beside what won the search's sources (`search.learn_from`) and beside the base, seed by seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from haan.words import clean
from search.results.confirm import Confirmation, Confirmed
from search.results.race import compared
from search.results.ranking import Ranking, Standing, Values, gained, in_short, rank
from search.results.retraining import named
from search.results.unseen import tables

_HEAD = "the same seeds, side by side"


@dataclass(frozen=True)
class Scored:
    """What a configuration scored, seed by seed. gain: the winner's over it, None of its own; sentence: in words."""

    seeds: Confirmed
    gain: Standing | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Beside:
    """The winner, what won a source, or the base; it may be all three. official, confirmed: None where not known."""

    number: int
    base: bool
    sources: tuple[str, ...]
    official: Scored | None
    confirmed: Scored | None


def beside(known: Confirmation, winner: int) -> list[Beside]:
    """The winner first, the base last; nothing before it has been trained again, and a source's winner."""
    official, again = tables(known), [row for row in known.confirmed() if known.standing(row.number) is not None]
    rows = {row.number: row for row in (*official, *again) if row.base or row.sources or row.number == winner}
    if winner not in rows or not any(row.sources for row in rows.values()):
        return []
    most = known.ranking.most if known.ranking is not None else None
    # As the gain over the base is: of two on the official videos (`unseen`), of all that were confirmed.
    there = _scored(official, winner, lambda values, other: rank({one: values[one] for one in (winner, other)}, other))
    here = _scored(again, winner, lambda values, other: compared(values, other, races=most is not None), most)
    order = sorted(rows.values(), key=lambda row: (row.number != winner, row.base, row.number))
    return [Beside(row.number, row.base, row.sources, there.get(row.number), here.get(row.number)) for row in order]


def _scored(
    rows: Sequence[Confirmed], winner: int, over: Callable[[Values, int], Ranking], most: int | None = None
) -> dict[int, Scored]:
    """By trial, at the setting chosen for each. over: ranks, another one in the base's place. most: as in a ranking."""
    chosen = {row.number: row for row in rows if row.setting == "chosen"}
    values, found = {number: row.by_seed for number, row in chosen.items()}, dict[int, Scored]()
    for number, row in chosen.items():
        found[number] = Scored(row)
        if number != winner and winner in chosen:
            by_number = {one.number: one for one in over(values, number).order}
            gain = by_number[winner]
            if gain.gain is not None:
                called = named(number, row.base, row.sources)
                found[number] = Scored(row, gain, gained(gain, by_number[number], most, called))
    return found


def table(rows: Sequence[Beside]) -> list[list[str]]:
    """As text below a head, without the columns of what nothing is known of; empty where there are no rows."""
    if not rows:
        return []
    columns = [[_HEAD, *(clean(named(row.number, row.base, row.sources)) for row in rows)]]
    official, again = [row.official for row in rows], [row.confirmed for row in rows]
    for head, scored in (("official videos", official), ("confirmed", again)):
        if any(scored):
            columns.append([head, *map(_mean, scored)])
            gains = (in_short(one.gain if one is not None else None) for one in scored)
            columns.append([f"trial {rows[0].number} over it (95 %)", *gains])
    return [list(row) for row in zip(*columns, strict=True)]


def _mean(one: Scored | None) -> str:
    if one is None:
        return "–"
    spread = "" if one.seeds.sd is None else f" ± {one.seeds.sd:.2f}"
    return f"{one.seeds.mean:.2f}{spread} ({len(one.seeds.scores)})"
