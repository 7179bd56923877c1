"""Many workers: a driver whose time counts, and the plan that says what is lost."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from haan.errors import InputError
from search.replays.pool import read_pool
from search.replays.simulation import simulate
from search.results.folder import RunFolder, open_study
from search.space.model import Space
from search.space.read import read_space
from search.study.algorithms import Component
from tests.benchmarks import scale
from tests.benchmarks.scale import FREE, Driver
from tests.search.curves import outcomes, record
from tests.search.replays.recorded import EPOCHS, PRUNERS, create, pool_of, record_run, write_space


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return read_space(write_space(tmp_path))


def test_two_workers_queue_at_the_driver(space: Space) -> None:
    # Two epochs of 10 s, 3 trials, 2 workers A and B; a report takes 1 s, beginning a trial 3 s. The driver:
    #  0 -  3 begins trial 0 for A;   3 - 6 begins trial 1 for B (asked at 0, so it waited 6)
    # 13 - 14 A's epoch 1;           16 - 17 B's epoch 1
    # 24 - 25 A's epoch 2, the last; 25 - 28 begins trial 2 for A
    # 27 (B ends) 28 - 29 B's epoch 2; nothing is left for B
    # 38 - 39 A's epoch 1;           49 - 50 A's epoch 2, the end
    pool = pool_of(space, record(3, EPOCHS), seconds=10.0)
    short = replace(pool, curves=pool.curves[:, :2], epochs=np.full(3, 2))
    found = simulate(create(space), short, 3, 2, driver=Driver(result_s=1.0, trial_s=3.0))
    assert found.end_s == 50
    assert found.driver_s == 3 * 3 + 6 * 1
    assert found.busy_s == found.full_s == 3 * 2 * 10
    assert found.wait_s == 3 + 6 + 1 + 1 + 4 + 1  # A's first, B's first, A's and B's epoch 1, A's 24 to 28, 38 to 39
    assert (found.results, found.pruned, scale.saved(found)) == (6, 0, 0)
    assert scale.utilisation(found) == pytest.approx(15 / 50)
    assert scale.waiting(found) == pytest.approx(16 / 100)
    assert scale.tail(found) == pytest.approx((1 + 1 + 22) / 100)  # B from 27 on


def test_a_driver_that_is_always_at_work_sets_the_pace(space: Space) -> None:
    pool = pool_of(space, record(20, EPOCHS), seconds=np.random.default_rng(3).uniform(1, 5, 20))
    found = simulate(create(space), pool, 60, 30, driver=Driver(result_s=2.0))  # 30 reports in 3 s would take 60
    assert found.end_s == pytest.approx(60 * EPOCHS * 2.0, rel=0.01)
    assert scale.utilisation(found) > 0.99
    assert scale.waiting(found) > 10 * scale.tail(found) > 0


@pytest.mark.parametrize("workers", [1, 7, 64])
def test_a_driver_that_costs_nothing_changes_nothing(workers: int, space: Space) -> None:
    pool = pool_of(space, record(20, EPOCHS), seconds=np.random.default_rng(4).uniform(1, 5, 20))
    pruned = replace(space, pruner=PRUNERS["median"], sampler=Component("tpe", {}))

    def found(driver: Driver) -> tuple[Any, ...]:
        study = create(pruned)
        one = simulate(study, pool, 40, workers, driver=driver)
        times = one.end_s, one.busy_s, one.near_s, one.wait_s, one.driver_s
        return times, outcomes(study.inner)

    free, least = found(FREE), found(Driver(result_s=1e-12, trial_s=1e-12))
    assert free[0][3:] == (0, 0)
    assert free[1] == least[1]  # the order of all that the study is told
    assert least[0][:2] == pytest.approx(free[0][:2])


def test_more_cost_never_ends_sooner_and_no_search_beats_the_driver_alone(space: Space) -> None:
    pool = pool_of(space, record(20, EPOCHS), seconds=np.random.default_rng(5).uniform(1, 5, 20))
    for workers in (1, 6, 40):
        costs = [Driver(result_s=cost, trial_s=3 * cost) for cost in np.linspace(0, 1, 9)]
        found = [simulate(create(space), pool, 40, workers, driver=driver) for driver in costs]
        ends = [one.end_s for one in found]
        assert all(earlier < later for earlier, later in zip(ends, ends[1:], strict=False))
        assert all(one.end_s >= one.driver_s for one in found)
        assert all(
            one.driver_s == pytest.approx(40 * (EPOCHS + 3) * c.result_s) for one, c in zip(found, costs, strict=True)
        )
        assert all(scale.waiting(one) >= 0 and scale.tail(one) >= -1e-9 for one in found)
        assert len({round(one.busy_s, 6) for one in found}) == 1  # training itself is as long as ever


def test_the_studys_own_time_counts_where_it_is_asked_for(space: Space) -> None:
    pool = pool_of(space, record(10, EPOCHS), seconds=1.0)
    found = simulate(create(space), pool, 10, 4, driver=Driver(result_s=0.5, study=True))
    assert found.driver_s == pytest.approx(0.5 * 10 * EPOCHS + found.costs.total_s)
    assert found.costs.total_s > 0 and found.costs.others == 20


@pytest.fixture(scope="module")
def any_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    record_run(folder, trials=10)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": "8,0,64"}, "--workers: must be >= 1, got 0"),
        ({"workers": "8;64"}, "--workers: must be numbers such as 8 or 8,64,1000, got '8;64'"),
        ({"workers": ""}, "--workers: must be numbers such as 8 or 8,64,1000, got ''"),
        ({"repeats": 0}, "--repeats: must be >= 1, got 0"),
        ({"epoch_seconds": 0.0}, "--epoch-seconds: must be > 0, got 0.0"),
        ({"epoch_seconds": math.nan}, "--epoch-seconds: must be > 0, got nan"),
        ({"driver_ms": -1.0}, "--driver-ms: must be >= 0, got -1.0"),
        ({"turnover_ms": math.inf}, "--turnover-ms: must be >= 0, got inf"),
        ({"plot": Path("nowhere/a.svg")}, "--plot: must be in a folder that is there, got nowhere"),
        ({"trials": 0}, "--trials: search.trials: must be >= 1, got 0"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str, any_run: Path) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        scale.main(any_run, **{"workers": "2,4"} | options)


def test_a_plan_says_where_the_driver_is_the_bottleneck(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_run(tmp_path, PRUNERS["median"])
    scale.main(
        tmp_path, workers="2,1,16", trials=32, epoch_seconds=4.0, driver_ms=500.0, turnover_ms=0.0, as_json=True,
        plot=tmp_path / "plan.svg",
    )  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert list(found["workers"]) == ["1", "2", "16"] and found["epoch_s"] == 4.0
    by = {count: column["figures"] for count, column in found["workers"].items()}
    (few,), (many,) = (by[count]["driver saturates at [workers]"] for count in ("2", "16"))
    assert few == pytest.approx(8, rel=0.2) and many == pytest.approx(8, rel=0.2)  # an epoch of 4 s to 0.5 s a report
    (one,), (sixteen,) = (by[count]["driver at work [%]"] for count in ("1", "16"))
    assert one == pytest.approx(100 * 0.5 / 4.5, rel=0.2) and sixteen > 65
    assert by["16"]["workers wait for the driver [%]"][0] > 25 > by["2"]["workers wait for the driver [%]"][0]
    assert [len(each["replays"]) for each in (found["serial"], found["random"])] == [1, 1]
    assert found["serial"]["replays"][0]["driver_s"] == 0 and "driver at work [%]" not in found["serial"]["figures"]


def test_one_worker_decides_as_the_serial_search_whatever_the_driver_takes(tmp_path: Path) -> None:
    space = record_run(tmp_path, PRUNERS["hyperband"], sampler={"name": "tpe"})
    pool = read_pool(open_study(RunFolder(tmp_path)).trials, space, "here")
    found = scale.plan(space, pool, "recorded", [1], 1, Driver(1.0, 5.0), lambda: lambda ended: None)
    (one,), (serial,) = found.at[1], found.serial
    assert (one.pruned, one.best, one.proposed) == (serial.pruned, serial.best, serial.proposed)
    assert scale.saved(one) == pytest.approx(scale.saved(serial))
    assert one.end_s == pytest.approx(serial.end_s + one.driver_s)


def test_the_plans_plot_is_an_svg_with_units_and_every_dot_in_its_place(tmp_path: Path) -> None:
    space = record_run(tmp_path, PRUNERS["median"])
    pool = read_pool(open_study(RunFolder(tmp_path)).trials, space, "here")
    found = scale.plan(space, pool, "recorded", [2, 8], 1, Driver(0.1), lambda: lambda ended: None)
    scale.draw(found, tmp_path / "plan.svg")
    assert ElementTree.parse(tmp_path / "plan.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    axes = scale.chart(found).axes
    assert [one.get_xlabel() for one in axes] == ["workers"] * 3
    units = ["% of the time", "% of all trials' full training", "avg.mAP of whole curves (%)"]
    assert [one.get_ylabel() for one in axes] == units
    dots = axes[0].lines[-1]
    assert list(dots.get_xdata()) == [2, 8]
    assert list(dots.get_ydata()) == [pytest.approx(100 * scale.utilisation(found.at[count][0])) for count in (2, 8)]
    marked = [line for one in axes for line in one.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in marked] == [2] * 4
    keys = [text.get_text() for one in axes for text in one.get_legend().get_texts()]
    assert keys == [line.get_label() for one in axes for line in one.lines]  # each has its line in the key


def test_epochs_are_stretched_to_a_median(space: Space) -> None:
    pool = pool_of(space, record(3, EPOCHS), seconds=[1.0, 2.0, 5.0])
    assert scale.with_epochs_of(pool, 30.0).seconds.tolist() == [15.0, 30.0, 75.0]
    assert scale.with_epochs_of(pool, None) is pool
