"""The benchmark of methods' epochs, at a tiny size."""

from dataclasses import replace

import pytest

from tests.benchmarks.methods import costs, rows
from tests.benchmarks.sizes import SIZES, make_table


def test_products_of_a_step_are_those_counted_by_hand() -> None:
    """W-TALC's two layers: a product forward, one for the weights' gradients, and for the second layer's inputs.

    So does the second loss, features of the six videos of three pairs by high and by low attention to each class.
    """
    size = replace(SIZES["small"], train=30, validation=4, clips=(20, 20, 20))
    haan, wtalc = costs(size, ["haan", "wtalc"])
    table, _ = make_table(size)
    clips, dim, fine = wtalc.videos * 20, table.dim, size.fine
    layers, paired = 2 * clips * (2 * dim * dim + 3 * dim * fine), 2 * (6 * 20) * dim * fine * 2 * 3
    assert wtalc.flop == layers + paired
    assert (wtalc.steps, haan.steps) == (844, 4220)
    assert wtalc.epoch_flop == pytest.approx(844 * wtalc.flop)
    head, first, second = rows([haan, wtalc])
    assert len(head) == len(first) == len(second) and first[6] == "1.0"
