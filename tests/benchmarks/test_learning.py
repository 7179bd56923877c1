"""An earlier search on recorded pools, a short one."""

import pytest

from search.study.algorithms import silent
from tests.benchmarks import learning, pools
from tests.benchmarks.learning import KNOWN, TRIALS, source, worths


def test_a_dealt_source_has_the_same_values_at_other_configurations() -> None:
    pool = pools.read("planted-easy")
    true, dealt = source(pool, 4, dealt=False), source(pool, 4, dealt=True)
    assert [one.value for one in true.tried] == [one.value for one in dealt.tried] and len(true.tried) == KNOWN
    assert [one.params for one in true.tried] != [one.params for one in dealt.tried]
    assert true.best[0] == true.tried[0].params


def test_a_source_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "TRIALS", TRIALS[:1])
    pool = pools.read("planted-hard")
    with silent():
        alone, informed = (worths(pool, sources, 0) for sources in ((), (source(pool, 0, dealt=False),)))
    assert len(alone) == len(informed) == 1 and alone != informed and min(*alone, *informed) > 5
