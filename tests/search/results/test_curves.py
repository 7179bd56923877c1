"""curves.csv and what TensorBoard shows: every epoch once, whatever broke in between."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tensorboardX.proto.event_pb2 import SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from search.results.curves import Curve, Curves
from search.results.folder import RunFolder
from tests.search.cards import events, scalars

FIRST, SECOND = Curve(0, "holdout", 1), Curve(1, "holdout", 1)


def result(epoch: int, value: float | None) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "avg_map": value,
        "map": {"0.1": 30.0, "0.5": 10.0} if value is not None else {},
        "losses": {"mil": 0.5, "total": 0.75},
        "seconds": {"train": 2.0},
        "avg_map_by_detect": [value] * 41,  # 41 more curves are of no use
    }


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def rows(folder: RunFolder) -> list[tuple[Any, ...]]:
    table = pd.read_csv(folder.curves_csv)
    return list(table[["number", "epoch", "avg_map"]].itertuples(index=False, name=None))


def file(folder: RunFolder, name: str) -> Path:
    (found,) = (folder.curves / name).iterdir()
    return found


def test_an_epoch_is_a_row_with_the_figures_of_its_kind_under_one_prefix(folder: RunFolder) -> None:
    curves = Curves(folder)
    curves.add(FIRST, result(1, 20.0))
    assert folder.curves_csv.read_text() == (
        "number,videos,seed,epoch,avg_map,map@0.1,map@0.5,loss.mil,loss.total,seconds.train\n"
        "0,holdout,1,1,20.0,30.0,10.0,0.5,0.75,2.0\n"
    ), "at once"
    curves.add(FIRST, result(2, None))
    curves.close()
    assert folder.curves_csv.read_text().splitlines()[-1] == "0,holdout,1,2,,,,0.5,0.75,2.0"


def test_runs_that_go_on_side_by_side_stand_one_after_the_other_at_the_end(folder: RunFolder) -> None:
    curves, again = Curves(folder), Curve(0, "holdout", 2, again=True)
    for run, epoch in ((SECOND, 1), (FIRST, 1), (again, 1), (FIRST, 2), (SECOND, 2)):
        curves.add(run, result(epoch, float(epoch)))
    curves.close()
    assert rows(folder) == [(0, 1, 1.0), (0, 2, 2.0), (0, 1, 1.0), (1, 1, 1.0), (1, 2, 2.0)]
    assert sorted(one.name for one in folder.curves.iterdir()) == [
        "confirm-trial-00000-holdout-seed-2", "trial-00000", "trial-00001",
    ]  # fmt: skip


def test_an_epoch_that_was_trained_again_counts_once_and_a_torn_row_not_at_all(folder: RunFolder) -> None:
    killed = Curves(folder)
    for epoch in (1, 2, 3):
        killed.add(FIRST, result(epoch, float(epoch)))
    killed.close()
    with folder.curves_csv.open("a") as torn:
        torn.write("0,holdout,1,4,4")
    resumed = Curves(folder)
    for epoch in (3, 4):
        resumed.add(FIRST, result(epoch, 10.0 * epoch))
    resumed.close()
    assert rows(folder) == [(0, 1, 1.0), (0, 2, 2.0), (0, 3, 30.0), (0, 4, 40.0)]


def test_a_file_keeps_its_columns_though_a_later_session_has_others(folder: RunFolder) -> None:
    before = Curves(folder)
    before.add(FIRST, result(1, 1.0))
    before.close()
    later = Curves(folder)
    later.add(FIRST, result(2, 2.0) | {"losses": {"total": 0.5, "new": 1.0}})
    later.close()
    last = pd.read_csv(folder.curves_csv).iloc[-1]
    assert last["loss.total"] == 0.5 and pd.isna(last["loss.mil"]) and "loss.new" not in last


@pytest.fixture
def drawn(folder: RunFolder) -> Path:
    """Of a trial of two epochs, the first the better one."""
    curves = Curves(folder)
    curves.add(FIRST, result(1, 20.0))
    curves.add(FIRST, result(2, 15.0))
    curves.ended(FIRST, {"optim.lr": 1e-3, "loss.coarse_pooling": "max"}, 20.0)
    curves.close()
    return file(folder, "trial-00000")


def test_tensorboard_has_a_dozen_cards_with_names_and_one_curve_a_trial(drawn: Path) -> None:
    assert scalars(drawn, "mAP/avg.mAP") == [20.0, 15.0]
    tags = {value.tag for event in events(drawn) for value in event.summary.value if not value.HasField("metadata")}
    assert tags == {
        "mAP/avg.mAP", "mAP/tIoU_0.1", "mAP/tIoU_0.5", "loss/mil", "loss/total", "seconds/train", "value",
    }  # fmt: skip


def test_beside_the_settings_stands_what_the_trial_came_to_and_not_its_last_epoch(drawn: Path) -> None:
    assert scalars(drawn, "value") == [20.0]
    (start,) = (
        HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info
        for event in events(drawn)
        for value in event.summary.value
        if value.tag == "_hparams_/session_start_info"
    )
    assert start.hparams["optim.lr"].number_value == 1e-3
    assert start.hparams["loss.coarse_pooling"].string_value == "max"


def test_what_a_trial_that_is_taken_up_again_had_gone_on_to_is_forgotten(folder: RunFolder) -> None:
    curves = Curves(folder)
    curves.add(FIRST, result(3, 30.0))
    curves.close()
    _, start, *_ = events(file(folder, "trial-00000"))
    assert (start.step, start.session_log.status) == (3, SessionLog.START)


def test_a_run_that_ended_without_an_epoch_leaves_nothing(folder: RunFolder) -> None:
    curves = Curves(folder)
    curves.ended(FIRST, {"optim.lr": 1.0}, None)
    curves.close()
    assert not folder.curves.exists() and not folder.curves_csv.exists()


def test_a_disk_that_is_full_is_heard_of_at_once(folder: RunFolder) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    curves = Curves(folder)
    curves.add(FIRST, result(1, 1.0))
    assert curves._file is not None
    curves._file.close()
    with Path("/dev/full").open("a") as curves._file:
        for again in (lambda: curves.add(FIRST, result(2, 2.0)), curves.close):
            with pytest.raises(OSError, match="No space left on device"):
                again()
