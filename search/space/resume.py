"""What --resume may change of a space."""

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from haan.words import shown
from haan.yamlconfig import flat, plain
from search.space.model import Space, base_number, base_value
from search.study import algorithms


def differences(old: Space, new: Space) -> list[str]:
    """What keeps `new` from going on with a study made with `old`: one message a key, as `KEY: rule, got value`.

    The data may have moved, or be planted no more (their fingerprint is compared elsewhere), and everything that only
    says how much is run, where, or by which sampler and pruner, may change; so may the range of a number. A parameter
    may come to those that are searched, for every trial before had the base's value of it.
    """
    before, after = flat(plain(old.base)), flat(plain(new.base))
    found = [
        f"{key}: must stay {before.get(key)!r} under --resume, got {after.get(key)!r}"
        for key in before | after
        if key not in ("data.root", "device")
        and not f"{key}.".startswith("data.plant.")
        and before.get(key) != after.get(key)
    ]
    if old.plan.objective != new.plan.objective:
        rule = f"must stay {old.plan.objective!r} under --resume"
        found.append(f"search.objective: {rule}, got {new.plan.objective!r}")
    if old.plan.learn_from != new.plan.learn_from:
        was, now = (", ".join(space.plan.learn_from) or "nothing" for space in (old, new))
        found.append(f"search.learn_from: must stay {was} under --resume, got {now}")
    if base_number(old) != base_number(new):
        was, now = ("without" if base_number(space) is None else "with" for space in (old, new))
        found.append(f"search.start_with: must stay {was} the base under --resume, got it {now} the base")
    for key in dict.fromkeys([*old.parameters, *new.parameters]):
        was, now = (_form(space.parameters.get(key)) for space in (old, new))
        if was != now and key not in added(old, new):
            found.append(f"{key}: must stay {was} in search.parameters under --resume, got {now}")
    if (old.detects, old.own_detects, old.other_detects) != (new.detects, new.own_detects, new.other_detects):
        was, now = (sum(map(len, (space.detects, *space.other_detects.values()))) for space in (old, new))
        rule = f"must stay the {was} of before under --resume"
        found.append(f"search.parameters: swept detection settings {rule}, got {now} that differ")
    return found


def added(old: Space, new: Space) -> list[str]:
    """The parameters that `new` searches beside those of `old`; none where its sampler can't take them."""
    known = algorithms.names(new.sampler).isdisjoint(algorithms.FIXED)
    return [key for key in new.parameters if key not in old.parameters] if known else []


def growth(old: Space, new: Space) -> str | None:
    """What a resumed search varies beside what it did, in a sentence."""
    keys = added(old, new)
    if not keys:
        return None
    values = ", ".join(f"{key} = {shown(base_value(new.base, key))}" for key in keys)
    return f"searched from here on: {', '.join(keys)}; the trials so far have the base's {values}"


def _form(distribution: BaseDistribution | None) -> str:
    """What an Optuna study can't change about a parameter: its kind and scale, and the list of choices."""
    if distribution is None:
        return "unsearched"
    if isinstance(distribution, CategoricalDistribution):
        return f"a choice of {list(distribution.choices)}"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "an int" if isinstance(distribution, IntDistribution) else "a float"
    return f"{kind} on a log scale" if distribution.log else kind
