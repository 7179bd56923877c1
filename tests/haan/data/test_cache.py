"""The packed cache: what it gives is what no cache gives, and whatever doesn't fit is never used."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haan.config import Data
from haan.data import cache, table
from haan.data import features as on_disk
from haan.data.cache import ABOUT, CLIPS, Cached
from haan.data.readers import open_data
from haan.data.table import Annotations, pack, split
from haan.errors import InputError
from haan.train import Trainer
from tests.haan.data.tiny import DIM, FILES, LABELS, NAMES, SEGMENTS, changed, features, objects, tiny
from tests.paths import ROOT
from tests.planted import tiny_config, tiny_table

FEATURES = FILES["features"]
ELSEWHERE = "; HAAN_CACHE=FOLDER keeps them elsewhere, HAAN_CACHE=off nowhere"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def small_data_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH_BYTES", 1)
    monkeypatch.setattr(cache, "SETTLE_S", 0.02)  # some ticks of the clock that files here are stamped with
    monkeypatch.delenv("HAAN_CACHE", raising=False)


def start(data: Data) -> tuple[cache.OnDisk, Annotations, str, str | None]:
    """What every start does: source, annotations, fingerprint, note."""
    opened, annotations, _ = open_data(data)
    source, note = cache.keep(data, opened, annotations)
    return source, annotations, cache.fingerprint(source, annotations, data.dtype), note


def is_hit(data: Data) -> bool:
    source, annotations, _ = open_data(data)
    return isinstance(source, Cached) and source.known(annotations) is not None


def plain(data: Data) -> tuple[np.ndarray, str]:
    """Clips and fingerprint, straight from the features."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAAN_CACHE", "off")
        source, annotations, _ = open_data(data)
    assert not isinstance(source, Cached)
    return pack(source, annotations, data.dtype).chunks[0], table.fingerprint(source, annotations, data.dtype)


def check_true(data: Data) -> None:
    """Two starts, the second from the cache, both give what no cache gives."""
    clips, mark = plain(data)
    for _ in range(2):
        source, annotations, found, _ = start(data)
        assert isinstance(source, Cached) and found == mark
        values = pack(source, annotations, data.dtype).chunks[0]
        assert values.dtype == clips.dtype
        np.testing.assert_array_equal(values, clips)
    assert is_hit(data)


def folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def only(data: Data) -> Path:
    (folder,) = folders(Path(data.root, cache.FOLDER))
    return folder


FORMS: dict[str, Callable[[], Any]] = {
    "array": features,
    "objects": lambda: objects(list(features())),
    "folder": lambda: dict(zip(NAMES, features(), strict=True)),
    "ragged": lambda: objects([one[: 1 + i % 5] for i, one in enumerate(features())]),
}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("form", FORMS)
def test_a_cache_gives_what_no_cache_gives(tmp_path: Path, form: str, dtype: str) -> None:
    data = tiny(tmp_path, dtype=dtype, features=FORMS[form]())
    source, annotations, mark, note = start(data)
    folder = only(data)
    assert folder.name.startswith(mark[:16] + "-")
    assert note == f"the packed features (0.0 GiB) are kept in {folder}{ELSEWHERE}"
    assert sorted(path.name for path in folder.iterdir()) == [ABOUT, CLIPS]
    assert source.path == tmp_path / FEATURES, "messages name the features"
    check_true(data)
    assert start(data)[3] is None, "nothing to say when it is only used"
    np.testing.assert_array_equal(np.load(folder / CLIPS), pack(source, annotations, dtype).chunks[0])
    for first, last in ((0, 1), (2, 6)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HAAN_CACHE", "off")
            raw = open_data(data)[0].read(first, last)
        np.testing.assert_array_equal(source.read(first, last), raw)
        source.release(first, last)
        np.testing.assert_array_equal(source.read(first, last), raw)


def test_training_from_the_cache_is_training_without(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "planted", epochs=2)
    packed, parts = tiny_table(config)
    own = list(Trainer(config, packed, parts).epochs())
    start(config.data)
    source, annotations, _, _ = start(config.data)
    assert isinstance(source, Cached)
    mapped = pack(source, annotations, config.data.dtype)
    assert np.shares_memory(mapped.chunks[0], source.values) and not mapped.chunks[0].flags.writeable
    cached = list(Trainer(config, mapped, split(annotations, config.data)).epochs())
    assert [(one.losses, one.avg_map) for one in cached] == [(one.losses, one.avg_map) for one in own]


@pytest.mark.parametrize("form", FORMS)
def test_with_a_cache_the_features_are_not_opened(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny(tmp_path, features=FORMS[form]())
    start(data)
    for name in ("map_array", "read_array", "read_header", "read_objects"):
        read = getattr(on_disk, name)

        def guarded(path: Path, key: str, read: Callable[[Path, str], Any] = read) -> Any:
            assert FEATURES not in path.parts, f"{path} was opened"
            return read(path, key)

        monkeypatch.setattr(on_disk, name, guarded)
    assert isinstance(start(data)[0], Cached)


def test_small_data_and_off_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny(tmp_path)
    monkeypatch.setenv("HAAN_CACHE", "off")
    assert start(data)[3] is None
    monkeypatch.delenv("HAAN_CACHE")
    monkeypatch.setattr(cache, "WORTH_BYTES", 6 * 5 * DIM * 2 + 1)
    assert start(data)[3] is None
    assert not (tmp_path / cache.FOLDER).exists()
    monkeypatch.setattr(cache, "WORTH_BYTES", 6 * 5 * DIM * 2)
    assert isinstance(start(data)[0], Cached)
    monkeypatch.setenv("HAAN_CACHE", "off")
    assert not isinstance(open_data(data)[0], Cached)


def test_one_folder_can_hold_the_caches_of_several_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HAAN_CACHE", "~/caches/deep")
    one, two = tiny(tmp_path / "one"), tiny(tmp_path / "two", features=features() + 1)
    same = tiny(tmp_path / "same")
    shutil.copytree(tmp_path / "one", tmp_path / "copied")
    copied = replace(one, root=str(tmp_path / "copied"))
    for data in (one, two, same, copied):
        start(data)
    assert len(folders(tmp_path / "caches" / "deep")) == 4
    for data in (one, two, same, copied):
        assert is_hit(data) and not Path(data.root, cache.FOLDER).exists()
        clips = plain(data)[0]
        source, annotations, _, _ = start(data)
        np.testing.assert_array_equal(pack(source, annotations, data.dtype).chunks[0], clips)


def test_a_data_set_that_was_moved_brings_its_cache(tmp_path: Path) -> None:
    data = tiny(tmp_path / "here")
    start(data)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = replace(data, root=str(tmp_path / "there"))
    assert is_hit(moved)
    rewrite(moved)
    start(moved)
    assert len(folders(tmp_path / "there" / cache.FOLDER)) == 1


def test_a_planted_folder_may_hold_a_cache(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "planted")
    start(config.data)
    check_true(config.data)


def rewrite(data: Data) -> None:
    """Other features in the same number of bytes, written in place, with the old times where they can be set."""
    path = Path(data.root, data.features)
    old = path.stat()
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x40")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)


def replaced(data: Data) -> None:
    """Another file under the name, as `mv` puts it there."""
    new = Path(data.root, "new.npy")
    np.save(new, features() + 1)
    os.utime(new, ns=(0, Path(data.root, data.features).stat().st_mtime_ns))
    new.rename(Path(data.root, data.features))


def dropped(data: Data) -> Data:
    part = slice(0, 5)
    tiny(
        Path(data.root), names=np.array(NAMES[part]), labels=LABELS[part], segments=SEGMENTS[part],
        ratios=np.ones(5), features=features()[part],
    )  # fmt: skip
    return data


def other_name(data: Data) -> Data:
    np.save(Path(data.root, "other.npy"), features() + 1)
    return replace(data, features="other.npy")


STALE: dict[str, Callable[[Data], Data | None]] = {
    "features written over in place, with the old size and time": rewrite,
    "other features moved to the name": replaced,
    "features saved again": lambda data: np.save(Path(data.root, data.features), features() + 2),
    "another dtype": lambda data: replace(data, dtype="float32"),
    "another data.features": other_name,
    "a video dropped": dropped,
    "a recipe of another version": lambda data: edit(only(data), recipe=cache.RECIPE + 1),
}  # fmt: skip


@pytest.mark.parametrize("change", STALE)
def test_a_cache_is_not_used_after(tmp_path: Path, change: str) -> None:
    data = tiny(tmp_path)
    _, _, before, _ = start(data)
    data = STALE[change](data) or data
    assert not isinstance(open_data(data)[0], Cached)
    check_true(data)
    assert (plain(data)[1] == before) == (change == "a recipe of another version")


def test_a_folder_s_cache_is_not_used_after_one_file_changed_or_videos_swapped_places(tmp_path: Path) -> None:
    data = tiny(tmp_path, features=FORMS["folder"]())
    start(data)
    np.save(tmp_path / FEATURES / "v3.npy", features()[3] + 1)
    assert not isinstance(open_data(data)[0], Cached)
    check_true(data)
    np.save(tmp_path / FILES["names"], np.array([NAMES[1], NAMES[0], *NAMES[2:]]))
    assert not isinstance(open_data(data)[0], Cached)
    check_true(data)


def test_a_video_too_many_in_the_annotations_alone_is_refused_as_without_a_cache(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    start(data)
    np.save(tmp_path / FILES["names"], np.array([*NAMES, "v6"]))
    rule = r"features\.npy: data\.features: must hold one entry a video \(7 in video_names\.npy\), got 6"
    with pytest.raises(InputError, match=rule):
        open_data(data)


OTHER_ANNOTATIONS: dict[str, Callable[[Data], Data | None]] = {
    "a label": lambda data: np.save(
        Path(data.root, FILES["labels"]), objects(changed(LABELS, 4, [[0, 1]])), allow_pickle=True
    ),
    "a name": lambda data: np.save(Path(data.root, FILES["names"]), np.array([*NAMES[:5], "v9"])),
    "data.train_videos": lambda data: replace(data, train_videos=5),
}  # fmt: skip


@pytest.mark.parametrize("change", OTHER_ANNOTATIONS)
def test_other_annotations_take_the_same_clips_and_a_fingerprint_of_their_own(tmp_path: Path, change: str) -> None:
    data = tiny(tmp_path)
    _, _, before, _ = start(data)
    data = OTHER_ANNOTATIONS[change](data) or data
    assert not is_hit(data)
    assert cache.fingerprint(*open_data(data)[:2], data.dtype) == plain(data)[1] != before
    assert start(data)[3] is None
    check_true(data)
    both = folders(tmp_path / cache.FOLDER)
    assert len(both) == 2 and len({(folder / CLIPS).stat().st_ino for folder in both}) == 1, "no second copy"
    rewrite(data)
    check_true(data)
    assert len(folders(tmp_path / cache.FOLDER)) == 1


def test_features_that_change_while_they_are_read_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny(tmp_path)

    def meanwhile(*given: Any) -> Iterator[Any]:
        yield from table.slices(*given)
        rewrite(data)

    monkeypatch.setattr(cache, "slices", meanwhile)
    source, _, _, note = start(data)
    assert not isinstance(source, Cached) and not folders(tmp_path / cache.FOLDER)
    assert note == unkept(f"{tmp_path / FEATURES} changed while it was read")


def test_a_file_that_has_just_changed_is_given_time_to_change_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SETTLE_S", 1000.0)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    start(tiny(tmp_path))
    assert 900 < sum(slept) <= 1000


def edit(folder: Path, **changes: Any) -> None:
    path = folder / ABOUT
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def header(folder: Path, array: np.ndarray) -> None:
    """Another array in clips.npy, with the old time."""
    path = folder / CLIPS
    old = path.stat().st_mtime_ns
    np.save(path, array)
    os.utime(path, ns=(old, old))


def cut(folder: Path, size: int) -> None:
    path = folder / CLIPS
    old = path.stat().st_mtime_ns
    os.truncate(path, path.stat().st_size + size)
    os.utime(path, ns=(old, old))


def other(folder: Path, make: Callable[[Path], object], name: str) -> None:
    (folder / name).rename(folder.parent / "aside")
    make(folder / name)


CLIPS_16 = features().reshape(-1, DIM).astype(np.float16)
BROKEN: dict[str, Callable[[Path], object]] = {
    "no about.json": lambda folder: (folder / ABOUT).unlink(),
    "an empty about.json": lambda folder: (folder / ABOUT).write_text(""),
    "half an about.json": lambda folder: os.truncate(folder / ABOUT, 99),
    "garbage in about.json": lambda folder: (folder / ABOUT).write_bytes(bytes(range(256))),
    "deep brackets in about.json": lambda folder: (folder / ABOUT).write_text("[" * 100000),
    "a list in about.json": lambda folder: (folder / ABOUT).write_text("[1]"),
    "a key too many": lambda folder: edit(folder, more=1),
    "text for a number": lambda folder: edit(folder, dim="8"),
    "a count below 1": lambda folder: edit(folder, num_clips=[30, 0]),
    "a count too many": lambda folder: edit(folder, num_clips=[5] * 7),
    "a huge count": lambda folder: edit(folder, num_clips=[2**70]),
    "no counts": lambda folder: edit(folder, num_clips=[]),
    "a number for the counts": lambda folder: edit(folder, num_clips=6),
    "another size": lambda folder: edit(folder, dim=4),
    "another fingerprint's form": lambda folder: edit(folder, fingerprint="x" * 64),
    "no clips": lambda folder: (folder / CLIPS).unlink(),
    "empty clips": lambda folder: cut(folder, -(folder / CLIPS).stat().st_size),
    "a byte too few": lambda folder: cut(folder, -1),
    "a byte too many": lambda folder: cut(folder, 1),
    "clips of another shape": lambda folder: header(folder, CLIPS_16.reshape(-1, 2 * DIM)),
    "clips of another dtype": lambda folder: header(folder, CLIPS_16.view(np.int16)),
    "clips in another byte order": lambda folder: header(folder, CLIPS_16.astype(">f2")),
    "clips in another order": lambda folder: header(folder, np.asfortranarray(CLIPS_16)),
    "clips written to later": lambda folder: os.utime(folder / CLIPS),
    "a pipe for clips": lambda folder: other(folder, os.mkfifo, CLIPS),
    "a pipe for about.json": lambda folder: other(folder, os.mkfifo, ABOUT),
    "a link for clips": lambda folder: other(folder, lambda path: path.symlink_to(folder.parent / "aside"), CLIPS),
}  # fmt: skip


@pytest.mark.parametrize("way", BROKEN)
def test_what_is_not_sound_is_not_used_and_written_anew(tmp_path: Path, way: str) -> None:
    data = tiny(tmp_path)
    start(data)
    BROKEN[way](only(data))
    assert not isinstance(open_data(data)[0], Cached)
    check_true(data)
    assert len(folders(tmp_path / cache.FOLDER)) == 1


JSON = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=7)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(key=st.sampled_from(["format", "source", "state", "dtype", "dim", "num_clips", "rest", "recipe"]), value=JSON)
def test_no_value_in_about_json_makes_other_clips(tmp_path_factory: Any, key: str, value: Any) -> None:
    data = tiny(tmp_path_factory.mktemp("any"))
    start(data)
    edit(only(data), **{key: value})
    source, annotations, _ = open_data(data)
    np.testing.assert_array_equal(pack(source, annotations, data.dtype).chunks[0], CLIPS_16)
    assert cache.fingerprint(source, annotations, data.dtype) == plain(data)[1]
    assert source.num_clips.tolist() == [5] * 6


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    root = tmp_path / cache.FOLDER
    start(data)
    old = only(data)
    foreign = {
        root / "0123456789abcdef-01234567" / CLIPS, root / "notes" / ABOUT, root / "clips.npy", old / "mine.txt"
    }  # fmt: skip
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    rewrite(data)
    start(data)  # says that the old folder isn't empty
    check_true(data)
    assert all(path.read_text() == "mine" for path in foreign)
    assert [path.name for path in old.iterdir()] == ["mine.txt"]


def unkept(reason: str) -> str:
    return f"the packed features are not kept for later starts ({reason}){ELSEWHERE}"


def check_unkept(data: Data, root: Path) -> str:
    """Everything goes on as without a cache, and nothing is left; the reason."""
    clips, mark = plain(data)
    source, annotations, found, note = start(data)
    assert not isinstance(source, Cached) and found == mark and note
    np.testing.assert_array_equal(pack(source, annotations, data.dtype).chunks[0], clips)
    assert not root.is_dir() or [path.name for path in root.iterdir()] == ["haan-cache.lock"]
    assert note.startswith("the packed features are not kept for later starts (") and note.endswith(f"){ELSEWHERE}")
    return note.removesuffix(f"){ELSEWHERE}").partition("(")[2]


@pytest.mark.parametrize("form", FORMS)
def test_a_place_that_can_t_be_written_is_no_error(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny(tmp_path / "data", features=FORMS[form]())
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        monkeypatch.setenv("HAAN_CACHE", str(tmp_path / place))
        check_unkept(data, tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """As on a disk that is full: a write beyond fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("room", [0, 100, 200])
def test_a_disk_that_fills_up_meanwhile_is_no_error(tmp_path: Path, form: str, room: int) -> None:
    data = tiny(tmp_path, features=FORMS[form]())
    with files_of_at_most(room):
        assert "File too large" in check_unkept(data, tmp_path / cache.FOLDER)
    check_true(data)


def test_a_disk_that_is_half_full_of_it_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny(tmp_path)
    num_bytes = 6 * 5 * DIM * 2
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(9**9, 0, 2 * num_bytes - 1))
    root = tmp_path / cache.FOLDER
    assert check_unkept(data, root) == f"0.0 GiB are more than half of the 0.0 GiB free in {root}"
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(9**9, 0, 2 * num_bytes))
    check_true(data)


def test_features_that_are_not_finite_are_refused_and_leave_no_cache(tmp_path: Path) -> None:
    array = features()
    array[2, 1, 3] = np.nan
    data = tiny(tmp_path, features=array)
    with pytest.raises(InputError, match=r"video 2 \('v2'\), clip 1: must be finite in float16, got nan"):
        start(data)
    assert not folders(tmp_path / cache.FOLDER)


WRITER = """
import sys, time
from pathlib import Path
from haan.config import Data
from haan.data import cache, table
from haan.data.readers import open_data
root, signs, stop = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
cache.WORTH_BYTES, cache.SETTLE_S = 1, 0.02

def slices(source, annotations, dtype):
    for part in table.slices(source, annotations, dtype, 5):
        yield part
        if stop == "stop" and part[1] == 3:
            (signs / "half").touch()
            time.sleep(600)

cache.slices = slices
data = Data(root=str(root), features="features.npy", train_videos=4)
(signs / f"ready-{stop}").touch()
while stop != "stop" and not (signs / "go").exists():
    time.sleep(0.001)
for _ in range(1 if stop == "stop" else 20):
    source, annotations, _ = open_data(data)
    source, note = cache.keep(data, source, annotations)
    assert table.pack(source, annotations, data.dtype).chunks[0].sum(dtype="float64") == float(sys.argv[4])
    print(cache.fingerprint(source, annotations, data.dtype))
"""


def writer(data: Data, signs: Path, stop: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, data.root, str(signs), stop, str(CLIPS_16.sum(dtype=np.float64))]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_writer_leaves_nothing_that_is_used_or_stays(tmp_path: Path) -> None:
    data = tiny(tmp_path / "data")
    root, draft = Path(data.root, cache.FOLDER), Path(data.root, cache.FOLDER, "haan-cache.partial")
    process = writer(data, tmp_path, "stop")
    wait_for(tmp_path / "half", process)
    source, _, mark, note = start(data)
    assert not isinstance(source, Cached) and note == unkept(f"another process is writing into {root}")
    assert mark == plain(data)[1] and draft.exists(), "a living writer's work is let be"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (draft / CLIPS).exists() and not isinstance(open_data(data)[0], Cached)
    check_true(data)
    assert not draft.exists() and len(folders(root)) == 1


@pytest.mark.slow
def test_writers_at_once_leave_one_sound_cache(tmp_path: Path) -> None:
    data = tiny(tmp_path / "data")
    processes = [writer(data, tmp_path, name) for name in "abc"]
    for name, process in zip("abc", processes, strict=True):
        wait_for(tmp_path / f"ready-{name}", process)
    (tmp_path / "go").touch()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        assert set(out.split()) == {plain(data)[1]}
    assert len(folders(tmp_path / "data" / cache.FOLDER)) == 1
    assert is_hit(data)


def test_a_cache_that_appears_before_the_writer_s_turn_is_used(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    opened, annotations, _ = open_data(data)
    start(data)
    inode = (only(data) / CLIPS).stat().st_ino
    source, _ = cache.keep(data, opened, annotations)
    assert isinstance(source, Cached) and (only(data) / CLIPS).stat().st_ino == inode


def test_a_cache_in_use_stays_readable_when_another_takes_its_place(tmp_path: Path) -> None:
    data = tiny(tmp_path)
    source = start(data)[0]
    rewrite(data)
    start(data)
    np.testing.assert_array_equal(source.read(0, 6), CLIPS_16)


def test_a_file_system_without_locks_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*given: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    assert "Operation not supported" in check_unkept(tiny(tmp_path), tmp_path / cache.FOLDER)


MEMORY = """
import sys
from pathlib import Path
from haan.config import Data
from haan.data import cache
from haan.data.readers import open_data
from haan.data.table import pack, slices

def resident():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(sys.argv[2])]
    return int(line.split()[1]) * 1024

data = Data(root=sys.argv[1], features="features.npy", train_videos=1)
source, annotations, _ = open_data(data)
before = resident()
source, _ = cache.keep(data, source, annotations)
kept = pack(source, annotations, data.dtype)
for first, last, values in slices(source, annotations, data.dtype):
    values.sum()
    source.release(first, last)
print(resident() - before, kept.chunks[0].nbytes)
"""


@pytest.mark.parametrize("kind", ["RssAnon", "RssFile"])
def test_a_mapped_table_takes_no_memory_of_the_process(tmp_path: Path, kind: str) -> None:
    """Neither private memory (a copy) nor, once it was released, what is counted of the mapping."""
    videos, clips, dim = 64, 256, 4096
    data = tiny(
        tmp_path, train_videos=1, names=[f"v{i}" for i in range(videos)], labels=[[[0, 0]]] * videos,
        segments=[[[0, 1]]] * videos, ratios=np.ones(videos), mapping={"0": 0}, classes=None,
        features=np.zeros((videos, clips, dim), dtype=np.float16),
    )  # fmt: skip
    start(data)
    command = [sys.executable, "-c", MEMORY, data.root, kind]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    grown, table_bytes = map(int, found.split())
    assert table_bytes == 128 * 2**20
    assert grown < table_bytes / 4


RELEASED = """
import sys
from pathlib import Path
from haan.config import Data
from haan.data.readers import open_data
from haan.data.table import pack

def held(key):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) / 1024

before, private = held("VmHWM"), held("RssAnon")
data = Data(root=sys.argv[1], features="features.npy", train_videos=1)
source, annotations, _ = open_data(data)
kept = pack(source, annotations, data.dtype, 256)
print(held("VmHWM") - before, held("RssAnon") - private)
"""


def test_matrices_leave_the_memory_while_they_are_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 MiB of float32 become 64 MiB: never both at once, and in the end the table alone."""
    monkeypatch.setenv("HAAN_CACHE", "off")
    videos = 64
    data = tiny(
        tmp_path, train_videos=1, names=[f"v{i}" for i in range(videos)], labels=[[[0, 0]]] * videos,
        segments=[[[0, 1]]] * videos, ratios=np.ones(videos), mapping={"0": 0}, classes=None,
        features=objects([np.zeros((256, 2048), dtype=np.float32) for _ in range(videos)]),
    )  # fmt: skip
    command = [sys.executable, "-c", RELEASED, data.root]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    peak, left = map(float, found.split())
    assert peak < 128 + 64 - 32 and left < 64 + 32
