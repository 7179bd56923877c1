"""Parameters with `when:`, from the space to what a run says of a trial that lacks one."""

from pathlib import Path
from typing import Any

import pytest

from haan.errors import InputError
from search.replays.pool import read_pool
from search.results import trialscsv
from search.results.confirm import Confirmation
from search.results.winner import differences, trial_config
from search.space.model import Space, base_number, front
from search.space.read import read_space
from search.space.studies import study_of
from search.study.study import Study
from tests.search.spaces import tiny_space

METHOD, WARM = "concepts.method", "concepts.warm_start"


def space(folder: Path, when: dict[str, Any] | None = None) -> Space:
    """Only k-means may start warm, and any other method with it breaks the configuration's own rules."""
    parameters = {METHOD: {"choice": ["kmeans", "gmm"]}, WARM: {"choice": [False, True]}}
    parameters[WARM] |= {} if when is None else {"when": when}
    return read_space(tiny_space(folder, parameters=parameters, pruner={"name": "none"}, sampler={"name": "tpe"}))


def tried(of: Space, *points: dict[str, Any]) -> Study:
    study = study_of(of, name="x", journal=None, seed=1)
    study.start_with([*front(of), *points])
    for value in range(1 + len(points)):
        number = study.ask().number
        study.report(number, 1, float(value))
        study.complete(number, {"seconds": 1.0, "epochs": 1})
    return study


def test_a_point_that_no_trial_can_have_is_no_error(tmp_path: Path) -> None:
    assert space(tmp_path, {METHOD: "kmeans"}).conditions == {WARM: {METHOD: ("kmeans",)}}
    with pytest.raises(InputError, match="warm_start: must be false where concepts.method is gmm"):
        space(tmp_path)


def test_a_trial_that_lacks_one_has_the_base_value_in_all_that_is_said_of_it(tmp_path: Path) -> None:
    of = space(tmp_path, {METHOD: "kmeans"})
    study = tried(of, {METHOD: "gmm", WARM: False}, {METHOD: "kmeans", WARM: True})
    base, gmm, warm = study.trials()
    assert base_number(of) == 0 and base.params == {METHOD: "kmeans", WARM: False}
    assert (gmm.params, warm.params) == ({METHOD: "gmm"}, {METHOD: "kmeans", WARM: True})
    assert trial_config(of, gmm).concepts.warm_start is False
    assert differences(of, gmm, base, Confirmation()) == [(METHOD, "gmm", "kmeans")]
    assert trialscsv.table(of, study.trials())[f"params.{WARM}"].tolist() == [False, None, True]
    pool = read_pool(study.trials(), of, "here")
    assert [pool.nearest(trial.params) for trial in (base, gmm, warm)] == [0, 1, 2]
