"""Spaces of other methods than HAAN, and tables whose rows are of several."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from haan.errors import InputError
from haan.methods.names import CONFIGS
from haan.methods.wtalc.config import WtalcConfig
from haan.yamlconfig import plain, read_config
from search.space.edges import edge_warnings
from search.space.model import Space, detects_of, grid_points, most_demanding, own_detect, with_method, with_values
from search.space.parameters import forms_of
from search.space.read import read_space
from search.space.resume import differences
from search.trials import trial
from search.trials.trial import TrialRunner
from tests.methods import tiny_of
from tests.paths import ROOT

ROWS: dict[str, Any] = {
    "pooled": {"loss.pseudo": 0, "loss.concept": 0, "loss.coarse": 0},
    "HAAN": {},
    "W-TALC": {"method": "wtalc", "optim.lr": 0.01, "detect.alpha": {"sweep": [0.3, 0.7]}},
    "W-TALC, one loss": {"method": "wtalc", "wtalc.balance": 1.0},
}


def table(folder: Path, rows: dict[str, Any] = ROWS, **search: Any) -> Space:
    given = {
        "sampler": {"name": "grid"},
        "rows": rows,
        "parameters": {"seed": [1, 2], "detect.alpha": {"sweep": [-0.2, 0.2]}},
    }
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump({"base": plain(tiny_of("haan", Path("data"))), "search": given | search}))
    return read_space(path)


def test_each_row_starts_from_its_method_s_defaults_and_the_base_s_data_epochs_and_scores(tmp_path: Path) -> None:
    space = table(tmp_path)
    configs = {name: with_values(space.base, row) for name, row in space.rows.items()}
    base, other = space.base, configs["W-TALC"]
    assert configs["HAAN"] == base
    assert isinstance(other, WtalcConfig) and (other.wtalc.balance, other.optim.batch_videos) == (0.5, 10)
    assert (other.data, other.eval, other.optim.epochs) == (base.data, base.eval, base.optim.epochs)
    assert (base.optim.lr, other.optim.lr, configs["W-TALC, one loss"].optim.lr) == (0.003, 0.01, 1e-4)
    assert configs["W-TALC, one loss"].wtalc.balance == 1.0  # type: ignore[attr-defined]
    assert len(grid_points(space)) == 8
    assert space.rows["W-TALC"]["loss.pseudo"] is None and space.rows["HAAN"]["wtalc.balance"] is None


def test_each_method_s_rows_are_scored_at_its_own_detection_settings(tmp_path: Path) -> None:
    space = table(tmp_path)
    alphas = {name: [one.alpha for one in detects_of(space, row)] for name, row in space.rows.items()}  # type: ignore[attr-defined]
    assert alphas["pooled"] == alphas["HAAN"] == [0.0, -0.2, 0.2]
    assert alphas["W-TALC"] == alphas["W-TALC, one loss"] == [0.5, 0.3, 0.7]
    assert own_detect(space, space.rows["W-TALC"]) == with_method(space.base, "wtalc").detect


OWN = {"method": "wtalc", "detect.alpha": 0.4, "detect.threshold_from": "mean", "detect.min_clips": {"sweep": [1, 2]}}


def test_a_row_of_another_method_says_what_its_method_s_rows_are_detected_at(tmp_path: Path) -> None:
    space = table(tmp_path, {**ROWS, "W-TALC": OWN})
    own = replace(with_method(space.base, "wtalc").detect, alpha=0.4, threshold_from="mean")
    assert own.min_clips == 2  # type: ignore[attr-defined]
    for row in ("W-TALC", "W-TALC, one loss"):
        assert own_detect(space, space.rows[row]) == own
        assert detects_of(space, space.rows[row]) == (replace(own, min_clips=1), own)
        assert not any(key.startswith("detect.") for key in space.rows[row])
    assert own_detect(space, space.rows["HAAN"]) == space.base.detect


def test_a_trial_of_another_method_is_scored_at_its_row_s_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a search at all of them; once the best is chosen at that, and beside it at the row's own."""
    asked: list[Any] = []

    def trainer(config: Any, table: Any, split: Any, detects: Any = None, beside: Any = (), **about: Any) -> None:
        asked.append((config, detects, tuple(beside)))
        raise ValueError("enough")

    monkeypatch.setattr(trial, "Trainer", trainer)
    space = table(tmp_path, {**ROWS, "W-TALC": OWN})
    row, own = space.rows["W-TALC"], space.own_detects["wtalc"]
    runner = TrialRunner.__new__(TrialRunner)  # Trainable's own __init__ asks Ray where it is
    splits: Any = {space.base.data.validation: "of the videos"}
    shared: Any = type("Shared", (), {"arrive": lambda self: (None, None)})()
    runner.setup(
        {"params": {**row, "seed": 1}, "sweep": True, "restore": []},
        base=space.base,
        detects=space.detects,
        own_detects=space.own_detects,
        other_detects=space.other_detects,
        splits=splits,
        shared=shared,
    )
    runner.reset_config({"params": {**row, "seed": 1, "detect.min_clips": 1}, "sweep": False, "restore": []})
    runner.reset_config({"params": {**space.rows["HAAN"], "detect.alpha": 0.2}, "sweep": False, "restore": []})
    (_, every, none), (other, _, beside), (ours, _, of_ours) = asked
    assert (every, none) == (space.other_detects["wtalc"], ())
    assert (other.method, other.detect.min_clips, beside) == ("wtalc", 1, (own,))
    assert (ours.method, ours.detect.alpha, of_ours) == ("haan", 0.2, (space.base.detect,))


def test_a_resume_keeps_the_detection_settings_of_every_method(tmp_path: Path) -> None:
    old = table(tmp_path)
    other = {**ROWS, "W-TALC": {**ROWS["W-TALC"], "detect.alpha": {"sweep": [0.3, 0.8]}}}
    rule = "swept detection settings must stay the 6 of before under --resume, got 6 that differ"
    assert differences(old, table(tmp_path, other)) == [f"search.parameters: {rule}"]
    assert differences(old, table(tmp_path)) == []
    first, second = (table(tmp_path, {**ROWS, "W-TALC": {**OWN, "detect.min_clips": one}}) for one in (1, 2))
    rule = "swept detection settings must stay the 4 of before under --resume, got 4 that differ"
    assert differences(first, second) == [f"search.parameters: {rule}"]


def test_the_edge_of_another_method_s_sweep_is_warned_of(tmp_path: Path) -> None:
    """Its setting is none of the base's: a TypeError before."""
    rows = {"HAAN": {}, "ASL": {"method": "asl", "detect.class_share": {"sweep": [0.2, 0.5, 1.0]}}}
    space = table(tmp_path, rows, parameters={"seed": [1, 2]})
    params = {**space.rows["ASL"], "seed": 1}
    shares = {one.class_share: one for one in detects_of(space, params)}  # type: ignore[attr-defined]
    found = [edge_warnings(space, params, shares[share]) for share in sorted(shares)]
    expected = "detect.class_share = 0.2 is the lowest tried, of 0.2 to 1: widen the sweep in a new search"
    assert found == [[expected], [], [], []], "a share is at most 1"


@pytest.mark.parametrize(
    ("rows", "search", "message"),
    [
        ({"a": {"method": "wtalk"}}, {}, f"method: must be {' or '.join(map(repr, CONFIGS))}, got 'wtalk'"),
        ({"a": {"method": "wtalc", "concepts.top_k": 3}}, {}, "concepts.top_k: must be a key of the configuration that "
         "can be searched; did you mean method: haan?"),
        ({"a": {"wtalc.margin": 0.1}}, {}, "wtalc.margin: must be a key of the configuration that can be searched; did "
         "you mean method: wtalc?"),
        ({"a": {"method": "wtalc"}, "b": {}}, {"parameters": {"concepts.top_k": [1, 2]}}, "concepts.top_k: must be a "
         "key of every row's method, or stand in rows, which 'wtalc' has not"),
        ({"a": {"method": "wtalc", "detect.alpha": {"sweep": [0.1]}},
          "b": {"method": "wtalc", "wtalc.margin": 0.1, "detect.alpha": {"sweep": [0.2]}}}, {},
         "detect.alpha: must stand in one row of a method, which are all scored alike, got it in 'a' too"),
        ({"a": {"method": "wtalc", "detect.alpha": 0.1},
          "b": {"method": "wtalc", "wtalc.margin": 0.1, "detect.alpha": {"sweep": [0.2]}}}, {},
         "detect.alpha: must stand in one row of a method, which are all scored alike, got it in 'a' too"),
        ({"a": {"method": "wtalc", "detect.alpha": "low"}}, {}, "detect.alpha: must be a finite number, got 'low'"),
        ({"a": {"method": "wtalc", "detect.top_clips": 2}}, {}, "detect.top_clips: must be > 0 and <= 1, got 2.0"),
        ({"a": {"method": "wtalc", "detect.threshold_from": {"sweep": ["mean"]}}}, {}, "detect.threshold_from: must be "
         "'mean' or 'min', got a mapping"),
        ({"a": {"method": "wtalc", "detect.nms": "hard"}}, {}, "detect.nms: must be a key of the configuration that "
         "can be searched"),
        ({"a": {"detect.alpha": 0.3}}, {}, "detect.alpha: must be swept under search.parameters"),
        (ROWS, {"confirm": {"top": 1, "seeds": 2}}, "search.confirm: must be null where rows are of several methods"),
        (ROWS, {"parameters": {"method": ["haan", "wtalc"]}}, "method: must be a key of the configuration that can be "
         "searched"),
    ],
)  # fmt: skip
def test_what_rows_of_several_methods_may_not_be_is_said(
    tmp_path: Path, rows: dict[str, Any], search: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        table(tmp_path, rows, **search)
    assert len(caught.value.messages) == 1
    assert message in caught.value.messages[0] and "t.yaml:" in caught.value.messages[0]


def test_a_row_that_trains_for_fewer_epochs_than_its_method_warms_up_warms_up_for_fewer() -> None:
    base = tiny_of("haan", Path("data"))
    assert CONFIGS["actionformer"](data=base.data).optim.warmup_epochs == 5  # type: ignore[call-arg]
    for epochs, warm in ((1, 0), (4, 3), (6, 5), (50, 5)):
        made = with_method(replace(base, optim=replace(base.optim, epochs=epochs)), "actionformer")
        assert (made.optim.epochs, made.optim.warmup_epochs) == (epochs, warm)


def test_a_key_is_searched_where_its_method_has_it() -> None:
    assert forms_of("wtalc.margin", cls=WtalcConfig) == ("float", "choice") and forms_of("wtalc.margin") == ()
    assert forms_of("concepts.top_k", cls=WtalcConfig) == ()
    assert forms_of("detect.min_clips", cls=WtalcConfig) == ("sweep",) == forms_of("detect.min_clips")
    assert forms_of("detect.threshold_from") == ()


def test_a_sweep_of_whole_numbers_holds_whole_numbers(tmp_path: Path) -> None:
    for given in ("1:3:1", [1, 2, 3]):
        space = table(tmp_path, {"a": {}}, parameters={"detect.min_clips": {"sweep": given}})
        found = [one.min_clips for one in space.detects]  # type: ignore[attr-defined]
        assert found == [1, 2, 3] and {type(one) for one in found} == {int}
    with pytest.raises(InputError, match="detect.min_clips: must be a whole number, got '1.5'"):
        table(tmp_path, {"a": {}}, parameters={"detect.min_clips": {"sweep": [1.5]}})


@pytest.mark.parametrize("data", ["fineaction", "finegym", "openpack"])
@pytest.mark.parametrize("method", [method for method in CONFIGS if method != "haan"])
def test_shipped_spaces_for_real_data_value_and_confirm_every_method_s_trials_alike(method: str, data: str) -> None:
    ours, other = (read_space(ROOT / "spaces" / f"{name}.yaml").plan for name in (data, f"{method}-{data}"))
    assert ours.confirm is not None
    # A student's teacher has seen the labels of all videos but those held out.
    confirm = replace(ours.confirm, holdouts="fixed") if method == "student" else ours.confirm
    assert (other.objective, other.confirm) == (ours.objective, confirm)
    assert (ours.confirm.race, ours.confirm.official_seeds) == (True, 3)


SHARED = ("data", "eval", "seed", "device", "precision", "threads")
TABLES = [
    pytest.param(path, name, id=f"{path.stem} {name}")
    for path in sorted((ROOT / "spaces").glob("table*.yaml"))
    for name, row in yaml.safe_load(path.read_text())["search"].get("rows", {}).items()
    if row.get("method", "haan") != "haan"
]


@pytest.mark.parametrize(("file", "name"), TABLES)
def test_other_methods_of_a_shipped_table_are_as_their_own_spaces_start(file: Path, name: str) -> None:
    space = read_space(file)
    config = with_values(space.base, space.rows[name])
    base = read_config(ROOT / "spaces" / f"{config.method}-{file.stem.rpartition('-')[2]}.yaml")
    row = replace(config, detect=own_detect(space, space.rows[name]))
    assert row == replace(base, **{key: getattr(row, key) for key in SHARED})
    assert detects_of(space, space.rows[name]) == (base.detect,)


def test_a_shipped_table_has_a_line_of_every_method_but_the_one_that_needs_a_teacher() -> None:
    for path in {param.values[0] for param in TABLES}:
        methods = {row.get("method", "haan") for row in read_space(path).rows.values()}  # type: ignore[arg-type]
        assert methods == CONFIGS.keys() - {"student"}


def first_judged(space: Space) -> int:
    """The first epoch in which a trial can be pruned."""
    arguments = space.pruner.arguments
    return arguments["min_resource"] if "min_resource" in arguments else arguments["n_warmup_steps"]


@pytest.mark.parametrize("data", ["fineaction", "finegym", "openpack"])
def test_shipped_spaces_judge_no_trial_of_d2net_before_it_denoises(data: str) -> None:
    space = read_space(ROOT / "spaces" / f"d2net-{data}.yaml")
    assert space.parameters["d2.start_epoch"].high < first_judged(space)  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", sorted((ROOT / "spaces").glob("refineloc-*.yaml")), ids=lambda file: file.stem)
def test_shipped_spaces_judge_trials_at_the_end_of_their_iterations(file: Path) -> None:
    space = read_space(file)
    lengths = space.parameters["refine.epochs_per_iteration"].choices  # type: ignore[attr-defined]
    pruner = space.pruner.arguments
    judged = [value for key, value in pruner.items() if key in ("interval", "interval_steps", "n_warmup_steps")]
    for epochs in (*lengths, space.base.period):
        assert judged and [one % epochs for one in (*judged, space.base.optim.epochs)] == [0] * (len(judged) + 1)


@pytest.mark.parametrize(
    ("method", "key", "parameter", "most"),
    [
        ("asl", "model.streams", {"choice": [1, 2]}, 2),
        ("case", "model.streams", {"choice": [1, 2]}, 2),
        ("wtalc", "wtalc.pairs", {"int": [0, 4]}, 4),
    ],
)
def test_what_asks_most_of_the_data_is_what_they_are_checked_by(
    tmp_path: Path, method: str, key: str, parameter: dict[str, Any], most: int
) -> None:
    path = tmp_path / "s.yaml"
    base = plain(tiny_of(method, Path("data")))
    section, _, name = key.partition(".")
    base[section][name] = 0 if method == "wtalc" else 1
    path.write_text(yaml.safe_dump({"base": base, "search": {"trials": 2, "parameters": {key: parameter}}}))
    (config,) = most_demanding(read_space(path))
    assert getattr(getattr(config, section), name) == most
