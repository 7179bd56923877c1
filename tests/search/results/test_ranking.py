"""Which configuration wins over several seeds, and whether noise explains its gain."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from search.results.ranking import Ranking, Standing, rank
from tests.benchmarks import confirmation

Values = dict[int, dict[int, float]]


def numbers(ranking: Ranking) -> list[int]:
    return [standing.number for standing in ranking.order]


def of(ranking: Ranking, number: int) -> Standing:
    (found,) = (standing for standing in ranking.order if standing.number == number)
    return found


def whole(ranking: Ranking) -> tuple[float, float]:
    assert ranking.interval is not None
    return ranking.interval


# By hand: trial 0 is the base, seeds 1, 2, 3.
#            1   2   3 | mean     residuals value - row mean - column mean + 21
#   base 0  18  20  22 | 20        0   0   0
#        4  21  21  24 | 22        1  -1   0      22 + column effects (-2, 0, 2) = 20, 22, 24
#        7  18  22  23 | 21       -1   1   0      21 + column effects            = 19, 21, 23
#   mean    19  21  23 | 21       s2 = (1 + 1 + 1 + 1) / ((3 - 1)(3 - 1)) = 1
# Two comparisons: t at 1 - 0.05 / 4 with 4 degrees of freedom is 3.4954; the half-width 3.4954 sqrt(2 / 3) = 2.8540.
BY_HAND: Values = {0: {1: 18, 2: 20, 3: 22}, 4: {1: 21, 2: 21, 3: 24}, 7: {1: 18, 2: 22, 3: 23}}


def test_the_example_worked_by_hand() -> None:
    ranking = rank(BY_HAND, base=0)
    assert numbers(ranking) == [4, 7, 0]
    assert [(one.mean, one.gain, one.n, one.shared) for one in ranking.order] == [
        (22, 2, 3, 3),
        (21, 1, 3, 3),
        (20, 0, 3, 3),
    ]
    assert of(ranking, 4).sd == pytest.approx(3**0.5)  # sqrt((1 + 1 + 4) / 2)
    assert of(ranking, 0).sd == pytest.approx(2)
    assert whole(ranking) == pytest.approx((2 - 2.8540, 2 + 2.8540), abs=1e-4)
    assert of(ranking, 7).interval == pytest.approx((1 - 2.8540, 1 + 2.8540), abs=1e-4)
    assert of(ranking, 0).interval is None
    assert not ranking.distinguishable
    assert ranking.sentence() == (
        "+2.00 avg.mAP over the base, not distinguishable from noise (95 % interval -0.85 to +4.85, 3 seeds each)"
    )


def test_a_gain_far_above_the_noise_is_distinguishable() -> None:
    ranking = rank({**BY_HAND, 4: {1: 31, 2: 31, 3: 34}}, base=0)  # 10 more: the residuals stay
    assert ranking.distinguishable
    assert ranking.sentence() == "+12.00 avg.mAP over the base (95 % interval +9.15 to +14.85, 3 seeds each)"


def test_with_one_candidate_it_is_the_paired_t_test() -> None:
    base, other = [18.0, 20.5, 22.0, 19.0], [19.0, 21.0, 23.5, 20.5]
    ranking = rank({0: dict(enumerate(base)), 1: dict(enumerate(other))}, base=0)
    paired = stats.ttest_rel(other, base).confidence_interval(0.95)
    assert whole(ranking) == pytest.approx((paired.low, paired.high))


def test_equal_means_put_the_base_first_then_the_lower_number() -> None:
    same = {1: 20.0, 2: 22.0}
    assert numbers(rank({5: same, 9: same, 3: same, 4: {1: 21, 2: 22}}, base=5)) == [4, 5, 3, 9]


def test_equal_values_at_other_seeds_are_a_tie_whatever_the_order_of_summing() -> None:
    base, other = {1: 0.1, 2: 0.2, 3: 0.7}, {1: 0.7, 2: 0.1, 3: 0.2}  # in floats they differ by 2e-17
    assert numbers(rank({0: base, 1: other}, base=0)) == [0, 1]


def test_a_base_that_wins_is_said_to() -> None:
    ranking = rank({0: {1: 25, 2: 25}, 1: {1: 20, 2: 21}}, base=0)
    assert (ranking.winner.number, ranking.gain, ranking.interval, ranking.distinguishable) == (0, 0, None, False)
    assert ranking.sentence() == "the base itself has the highest mean; nothing found is better"


def test_one_seed_each_gives_no_interval() -> None:
    ranking = rank({0: {5: 20.0}, 1: {5: 21.5}}, base=0)
    assert (ranking.winner.sd, ranking.interval, ranking.distinguishable) == (None, None, False)
    assert ranking.sentence() == "+1.50 avg.mAP over the base; one seed each: no spread is known"


def test_a_missing_base_is_said_to_be() -> None:
    ranking = rank({0: {}, 1: {1: 20, 2: 22}, 2: {1: 23}}, base=0)
    assert numbers(ranking) == [2, 1]
    assert (ranking.gain, ranking.interval, ranking.distinguishable) == (None, None, False)
    assert ranking.sentence() == "the base has no confirmed value, so the gain over it is not known"
    assert rank({1: {1: 20.0}}, base=0).sentence() == ranking.sentence()


def test_a_base_alone_has_nothing_to_be_compared_with() -> None:
    ranking = rank({0: {1: 20.0, 2: 21.0}, 3: {}}, base=0)
    assert ranking.sentence() == "nothing but the base has a confirmed value, so there is nothing to compare"


def test_a_trial_without_a_value_takes_no_part() -> None:
    assert rank({**BY_HAND, 9: {}}, base=0) == rank(BY_HAND, base=0)


def test_a_missing_cell_leaves_the_complete_seeds_to_the_noise_and_the_shared_ones_to_the_gain() -> None:
    # Trial 7 lacks seed 4. Its gain and the noise are those of seeds 1 to 3; trial 4 has four differences: 3, 1, 2, 2.
    values = {0: {**BY_HAND[0], 4: 30}, 4: {**BY_HAND[4], 4: 32}, 7: BY_HAND[7]}
    ranking = rank(values, base=0)
    assert (of(ranking, 4).gain, of(ranking, 4).shared, of(ranking, 7).gain, of(ranking, 7).shared) == (2, 4, 1, 3)
    half = 3.4954 * (2 / 4) ** 0.5
    assert whole(ranking) == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert of(ranking, 7).interval == pytest.approx((1 - 2.8540, 1 + 2.8540), abs=1e-4)


def test_means_of_different_seeds_are_not_compared() -> None:
    # Trial 1 has the highest mean only because the bad seed 1 failed: where both ran it is 1 below the base.
    ranking = rank({0: {1: 10, 2: 30}, 1: {2: 29}, 2: {1: 11, 2: 30}}, base=0)
    assert of(ranking, 1).mean > of(ranking, 2).mean
    assert numbers(ranking) == [2, 0, 1]


def test_seeds_that_not_both_have_are_told() -> None:
    ranking = rank({0: {1: 20, 2: 21, 3: 22}, 1: {1: 22, 2: 22.9}}, base=0)
    assert "the 2 seeds that both have" in ranking.sentence()
    one = rank({0: {1: 20, 2: 21, 3: 22}, 1: {1: 22, 4: 22.9}}, base=0)
    assert one.sentence() == "+2.00 avg.mAP over the base; one seed in common: no spread is known"


def test_a_configuration_that_failed_on_most_seeds_does_not_take_the_others_interval() -> None:
    with_failed = rank({**BY_HAND, 9: {1: 10.0}}, base=0)
    t = [stats.t.isf(0.025 / comparisons, 4) for comparisons in (2, 3)]
    assert whole(with_failed)[1] - 2 == pytest.approx((whole(rank(BY_HAND, base=0))[1] - 2) * t[1] / t[0])


def test_a_candidate_without_a_seed_of_the_base_comes_last() -> None:
    ranking = rank({0: {1: 20.0}, 1: {1: 19.0}, 2: {7: 90.0}, 3: {7: 91.0}}, base=0)
    assert numbers(ranking) == [0, 1, 3, 2]
    assert of(ranking, 3).gain is None


def test_without_any_noise_the_interval_is_a_point() -> None:
    ranking = rank({0: {1: 20.0, 2: 21.0}, 1: {1: 22.0, 2: 23.0}}, base=0)
    assert whole(ranking) == (2, 2)
    assert ranking.distinguishable


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    with pytest.raises(ValueError, match=rf"values\[4\]\[2\] must be finite, got {bad}"):
        rank({**BY_HAND, 4: {1: 1.0, 2: bad}}, base=0)


def test_no_value_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value, got none"):
        rank({0: {}, 1: {}}, base=0)


def test_bonferroni_costs_six_percent_of_width_against_dunnett() -> None:
    # Dunnett: the largest of five t statistics, each pair correlated by 1/2; 5 candidates and the base, 3 seeds.
    shape: Any = np.full((5, 5), 0.5) + 0.5 * np.eye(5)

    def beyond(c: float) -> float:
        box = np.full(5, c)
        return float(stats.multivariate_t.cdf(box, shape=shape, df=10, lower_limit=-box, random_state=0)) - 0.95

    dunnett = optimize.brentq(beyond, 2, 5, xtol=1e-3)
    assert stats.t.isf(0.025 / 5, 10) / dunnett == pytest.approx(1.06, abs=0.005)


def least_squares(values: Mapping[int, Mapping[int, float]], number: int) -> tuple[float, float, float]:
    """Plain oracle: fits value = configuration + seed with one column each; the gain over trial 0 and its interval."""
    configs, seeds = sorted(values), sorted(values[0])
    rows, targets = [], []
    for config in configs:
        for seed in seeds:
            rows.append([float(config == c) for c in configs] + [float(seed == s) for s in seeds[1:]])
            targets.append(values[config][seed])
    design, target = np.array(rows), np.array(targets)
    effects, *_ = np.linalg.lstsq(design, target)
    degrees = len(target) - np.linalg.matrix_rank(design)
    variance = ((target - design @ effects) ** 2).sum() / degrees
    contrast = np.array([float(c == number) - float(c == 0) for c in configs] + [0.0] * (len(seeds) - 1))
    gain = float(contrast @ effects)
    error = float(np.sqrt(variance * contrast @ np.linalg.pinv(design.T @ design) @ contrast))
    half = float(stats.t.isf(0.025 / (len(configs) - 1), degrees)) * error
    return gain, gain - half, gain + half


def tables(missing: bool) -> st.SearchStrategy[Values]:
    """Values in hundredths for up to 5 configurations and 5 seeds, the base among them."""
    cell = st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)

    def filled(size: tuple[int, int]) -> st.SearchStrategy[Values]:
        row = st.fixed_dictionaries(dict.fromkeys(range(size[1]), cell))
        if missing:
            row = st.dictionaries(st.integers(0, size[1] - 1), cell, min_size=1)
        return st.fixed_dictionaries(dict.fromkeys(range(size[0]), row))

    return st.tuples(st.integers(2, 5), st.integers(2, 5)).flatmap(filled)


@given(tables(missing=False))
def test_complete_tables_agree_with_explicit_least_squares(values: Values) -> None:
    ranking = rank(values, base=0)
    means = {number: np.mean(list(runs.values())) for number, runs in values.items()}
    assert [means[number] for number in numbers(ranking)] == pytest.approx(sorted(means.values(), reverse=True))
    for standing in ranking.order:
        if standing.number:
            assert standing.interval is not None
            got = (standing.gain, *standing.interval)
            assert got == pytest.approx(least_squares(values, standing.number), abs=1e-6)


@given(tables(missing=True), st.randoms())
def test_the_order_of_the_input_never_matters(values: Values, random: Any) -> None:
    shuffled = {}
    for number in random.sample(sorted(values), len(values)):
        shuffled[number] = {
            seed: values[number][seed] for seed in random.sample(sorted(values[number]), len(values[number]))
        }
    assert rank(shuffled, base=0) == rank(values, base=0)


def approximately(interval: tuple[float, float] | None) -> object:
    return None if interval is None else pytest.approx(interval, abs=1e-6)


@given(tables(missing=True), st.integers(0, 4), st.integers(-50, 50))
def test_a_seed_that_lifts_every_configuration_alike_moves_nothing_but_means(
    values: Values, lifted: int, by: int
) -> None:
    moved = {n: {seed: value + by * (seed == lifted) for seed, value in runs.items()} for n, runs in values.items()}
    before, after = rank(values, base=0), rank(moved, base=0)
    with_gain = [one for one in before.order if one.gain is not None]
    assert numbers(after)[: len(with_gain)] == [one.number for one in with_gain]
    for one in with_gain:
        assert of(after, one.number).gain == pytest.approx(one.gain, abs=1e-9)
        assert of(after, one.number).interval == approximately(one.interval)


@given(tables(missing=True), st.sampled_from([0.5, 3.0]))
def test_scaling_the_values_scales_gains_and_intervals(values: Values, factor: float) -> None:
    before = rank(values, base=0)
    after = rank({n: {seed: value * factor for seed, value in runs.items()} for n, runs in values.items()}, base=0)
    assert numbers(after) == numbers(before)
    for one in before.order:
        scaled = None if one.interval is None else tuple(end * factor for end in one.interval)
        assert of(after, one.number).interval == (None if scaled is None else pytest.approx(scaled, abs=1e-6))


def test_equal_configurations_are_told_apart_in_at_most_five_percent() -> None:
    for seeds in (2, 3, 5):
        got = confirmation.false_claims(seeds, repeats=600, random=np.random.default_rng(seeds))
        assert got.ours.share <= 0.05 + 3 * (0.05 * 0.95 / 600) ** 0.5, got


@pytest.mark.parametrize("failing", [0.0, 0.2])
def test_all_intervals_hold_the_true_gains_at_once_in_95_percent(failing: float) -> None:
    random, true, missed, repeats = np.random.default_rng(7), np.array([0.0, 0.0, -1.0, 0.5, 2.0]), 0, 800
    for _ in range(repeats):
        values = confirmation.runs(true, 4, 1.0, random)
        ran = random.random(values.shape) >= failing
        ranking = rank(
            {n: {s: float(values[n, s]) for s in range(4) if ran[n, s]} for n in range(5) if ran[n].any()}, base=0
        )
        gains = [(one.interval, true[one.number]) for one in ranking.order if one.interval is not None]
        missed += any(not low <= gain <= high for (low, high), gain in gains)
    assert missed / repeats <= 0.05 + 3 * (0.05 * 0.95 / repeats) ** 0.5


def test_a_paired_t_test_on_the_winner_alone_claims_more_than_it_means() -> None:
    got = confirmation.false_claims(3, repeats=1500, random=np.random.default_rng(0))
    assert got.naive.share > 0.025 + 3 * got.naive.error, got
    assert got.ours.share <= 0.025 + 3 * (0.025 * 0.975 / 1500) ** 0.5, got


def test_power_grows_with_the_gain_and_with_the_seeds() -> None:
    def power(gain: float, seeds: int) -> float:
        random, found = np.random.default_rng(1), 0
        for _ in range(300):
            noise = random.normal(size=(4, seeds))
            noise[1] += gain
            found += rank({n: dict(enumerate(row)) for n, row in enumerate(noise.tolist())}, base=0).distinguishable
        return found / 300

    by_gain = [power(gain, seeds=3) for gain in (0.0, 2.0, 4.0)]
    by_seeds = [power(2.0, seeds) for seeds in (2, 4, 8)]
    assert by_gain[0] < by_gain[1] - 0.1 < by_gain[2] - 0.2
    assert by_seeds[0] < by_seeds[1] - 0.1 < by_seeds[2] - 0.2


@pytest.mark.parametrize("ratio", confirmation.RATIOS)
def test_confirmation_ranks_the_better_of_two_first_more_often_than_the_single_run(ratio: float) -> None:
    got = confirmation.two_configurations(ratio, seeds=3, repeats=1500, random=np.random.default_rng(2))
    assert got.advantage.share > 3 * got.advantage.error, got


@pytest.mark.parametrize("ratio", confirmation.RATIOS)
def test_the_confirmed_winner_is_truly_better_than_the_single_best_trial(ratio: float) -> None:
    got = confirmation.whole_search(ratio, seeds=3, repeats=600, random=np.random.default_rng(3))
    assert got.advantage.share > 3 * got.advantage.error, got
