"""YAML to configuration."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haan.checked import RuleError
from haan.config import Data, Holdout, Plant
from haan.errors import InputError
from haan.methods.haan.config import HaanConfig
from haan.yamlconfig import dump, naming_lines, parse_range, read_config

DATA = "data: {root: d, features: f.npy, train_videos: 3}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def messages(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as error:
        read_config(write(folder, text), overrides)
    return [message.replace(str(folder), "") for message in error.value.messages]


def test_defaults_are_the_released_code_s_for_fineaction(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, DATA))
    assert (config.concepts.clusters, config.concepts.top_k, config.concepts.sample_rate) == (500, 5, 0.03)
    assert (config.loss.mil, config.loss.pseudo, config.loss.concept, config.loss.coarse) == (1, 0.001, 0.01, 1)
    assert (config.optim.lr, config.optim.batch_videos, config.optim.epochs) == (3e-5, 2, 50)
    assert config.eval.tiou == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert (config.model.width, config.model.dropout, config.detect.alpha) == (1024, 0.3, -0.8)


def test_the_field_decides_how_a_value_is_read(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, DATA.replace("root: d", "root: no") + "optim: {lr: 1e-3}\nseed: 007\n"))
    assert config.data.root == "no" and config.optim.lr == 0.001 and config.seed == 7


@pytest.mark.parametrize("text", ["yes", "no", "on", "True", "1", "'true'"])
def test_only_true_and_false_are_booleans(tmp_path: Path, text: str) -> None:
    (message,) = messages(tmp_path, DATA + f"loss:\n  pseudo_per_clip: {text}\n")
    assert message.startswith("/c.yaml:3: loss.pseudo_per_clip: must be true or false, got ")


def test_all_errors_come_at_once_with_line_and_key(tmp_path: Path) -> None:
    text = DATA + "optim:\n  lr: -1\n  epochs: 1.5\n  lr: 2\nloss: {psuedo: 1}\nconcepts: {clusters: 3, top_k: 4}\n"
    assert sorted(messages(tmp_path, text)) == [
        "/c.yaml:3: optim.lr: must be > 0, got -1.0",
        "/c.yaml:4: optim.epochs: must be a whole number, got '1.5'",
        "/c.yaml:5: optim.lr: stands twice, first on line 3",
        "/c.yaml:6: loss.psuedo: unknown key; did you mean 'pseudo'?",
        "/c.yaml:7: concepts.top_k: must be <= concepts.clusters (3), got 4",
    ]


@pytest.mark.parametrize("value", [".inf", ".nan", "nan", "1e999", "1_0", "0x10", "true", "[1]", "{a: 1}", "", "'1'"])
def test_what_is_no_finite_number_is_refused(tmp_path: Path, value: str) -> None:
    (message,) = messages(tmp_path, DATA + f"optim:\n  lr: {value}\n")
    assert message.startswith("/c.yaml:3: optim.lr: must be a finite number, got ")


def test_overrides_name_themselves(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, DATA), ("optim.lr=1e-2", "data.root=/x")).optim.lr == 0.01
    assert messages(tmp_path, DATA, "optim.lr=0") == ["--set: optim.lr: must be > 0, got 0.0"]
    assert messages(tmp_path, DATA, "optim.lr") == ["--set: must be KEY=VALUE with a dotted key, got 'optim.lr'"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (text, text)
        for text in ("/x/p #2", "*x", "@x", "%x", "&x", "!x", "`x", "- x", "a: b", "{a", "[1]", "'", "'a'b", "no", "1")
    ]
    + [(" /x ", "/x"), ('"/x "', "/x "), ("'it''s'", "it's"), ("null", "null"), ("#", "#"), ("a\tb", "a\tb")],
)
def test_an_override_of_text_is_the_user_s_own(tmp_path: Path, text: str, expected: str) -> None:
    config = read_config(write(tmp_path, DATA), (f"data.root={text}",))
    assert config.data.root == expected
    assert read_config(write(tmp_path, dump(config))) == config


def test_a_path_that_begins_with_a_tilde_begins_with_a_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for text, settings in (
        ("data: {root: ~/d, features: ~/f, train_videos: 3}", ()),
        (DATA, ("data.root=~/d", "data.features=~/f")),
    ):
        data = read_config(write(tmp_path, text), settings).data
        assert (data.root, data.features) == ("/home/me/d", "/home/me/f")
    activitynet = "data: {format: activitynet, root: ./~, features: $HOME, annotations: ~/a, hierarchy: ~/h}"
    data = read_config(write(tmp_path, activitynet)).data
    assert (data.root, data.features, data.annotations, data.hierarchy) == ("./~", "$HOME", "/home/me/a", "/home/me/h")


@pytest.mark.parametrize(("text", "expected"), [("null", None), ("", None), ('"null"', "null"), ("a #1", "a #1")])
def test_an_override_of_text_may_be_null_where_its_type_has_null(
    tmp_path: Path, text: str, expected: str | None
) -> None:
    settings = ("data.format=activitynet", "data.train_videos=null", "data.hierarchy=h", f"data.annotations={text}")
    if expected is not None:
        assert read_config(write(tmp_path, DATA), settings).data.annotations == expected
        return
    (message,) = messages(tmp_path, DATA, *settings)
    assert message.endswith("data.annotations: is required with format activitynet, got None")


@pytest.mark.parametrize("text", ["*x", "@x", "%x", "1 #2", "{", "[1]", "'1'", "null", ""])
def test_an_override_that_is_no_number_names_option_key_rule_and_value(tmp_path: Path, text: str) -> None:
    shown = text.strip("'")
    assert messages(tmp_path, DATA, f"optim.lr={text}") == [f"--set: optim.lr: must be a finite number, got {shown!r}"]


def test_an_override_of_a_list_or_a_mapping_is_yaml(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, DATA), ("eval.report=[0.5, 0.75]",)).eval.report == (0.5, 0.75)
    assert read_config(write(tmp_path, DATA), ("data.validation={holdout: 0.5}",)).data.validation == Holdout(
        holdout=0.5
    )
    assert messages(tmp_path, DATA, "eval.report=*x") == [
        "--set: eval.report: must be YAML, got '*x', which is not valid YAML: found undefined alias 'x'"
    ]
    assert messages(tmp_path, DATA, "nokey=*x")[0].startswith("--set: nokey: unknown key; ")


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    (message,) = messages(tmp_path, "data: {root: d\nseed: 1\n")
    assert message.startswith("/c.yaml:2: is not valid YAML: ")
    assert messages(tmp_path, "- 1\n") == ["/c.yaml: must be a mapping of keys to values, got a list"]
    assert messages(tmp_path, "[" * 5000) == ["/c.yaml: is nested too deeply"]


def test_a_byte_order_mark_changes_nothing_and_other_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(DATA, encoding="utf-8-sig")
    assert read_config(path) == read_config(write(tmp_path, DATA))
    path.write_text(DATA, encoding="utf-16")
    with pytest.raises(InputError, match=r"c.yaml: must be UTF-8 text, got UTF-16$"):
        read_config(path)


def test_tags_that_would_run_code_are_only_text(tmp_path: Path) -> None:
    (message,) = messages(tmp_path, DATA + "seed: !!python/object/apply:os.system ['touch /tmp/x']\n")
    assert message == "/c.yaml:2: seed: must be a whole number, got a list"


def test_dump_reads_back_equal(tmp_path: Path) -> None:
    data = Data(root="ä b", features="f", train_videos=9, validation=Holdout(holdout=0.3, seed=4), plant=Plant())
    config = HaanConfig(data=data, threads=2)
    assert read_config(write(tmp_path, dump(config))) == config


def test_dataclasses_check_themselves() -> None:
    with pytest.raises(RuleError, match="train_videos: must be >= 1, got 0"):
        Data(root="a", features="b", train_videos=0)
    with pytest.raises(RuleError, match="train_videos: must be a whole number or null, got True"):
        Data(root="a", features="b", train_videos=True)


def test_ranges_hold_both_ends_in_decimal_arithmetic() -> None:
    assert parse_range("0.1:0.5:0.05") == (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
    assert len(parse_range("-1.0:1.0:0.05")) == 41 and 0.0 in parse_range("-1.0:1.0:0.05")
    assert parse_range("0.5") == (0.5,)


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:0", "2:1:1", "1:2:nan", "0:1e9:1", "inf", "1:2:3:4"])
def test_broken_ranges_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_range(text)


@given(st.text(max_size=60))
def test_no_text_does_more_than_raise_input_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text(text, encoding="utf-8", errors="replace", newline="")
        with pytest.raises(InputError):
            read_config(path)


def test_a_key_of_the_method_that_the_file_leaves_out_gets_the_line_of_its_section(tmp_path: Path) -> None:
    path = write(tmp_path, "method: asl\n" + DATA + "model:\n  width: 8\n")
    with pytest.raises(InputError, match=r"c.yaml:4: model.streams: must divide"), naming_lines(path):
        raise InputError("model.streams: must divide the size of a clip")
    with pytest.raises(InputError, match=r"^concepts.clusters: no key of it"), naming_lines(path):
        raise InputError("concepts.clusters: no key of it")
