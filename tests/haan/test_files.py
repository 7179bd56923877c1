"""Files that are whole or absent, where they can't lie, and paths that no shell has seen."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from haan.errors import InputError
from haan.files import at_home, check_file, check_folder, remove, whole

LONG = "n" * 256  # a name may have 255 bytes


def write(path: Path) -> None:
    with whole(path) as partial:
        partial.write_text("new")


@pytest.mark.parametrize("act", [write, check_file])
@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("folder", "Is a directory"),
        ("file/below", "Not a directory"),
        ("file/far/below", "Not a directory"),
        (LONG, "File name too long"),
        ("n" * 250, "File name too long"),  # its partial file's is
        ("folder/link", "Too many levels of symbolic links"),
        ("pipe", "Not a regular file"),
    ],
)
def test_a_file_that_can_not_lie_there_is_refused_and_nothing_is_left(
    tmp_path: Path, act: Callable[[Path], None], name: str, got: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder" / "link").symlink_to("link")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as raised:
        act(tmp_path / name)
    assert raised.value.messages == [f"{tmp_path / name}: must be a file that can be written, got: {got}"]
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "old"


def test_a_file_takes_the_place_of_another_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    for error in (OSError(errno.ENOSPC, "No space left on device"), ValueError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), whole(path) as partial:
            partial.write_text("ne")
            raise error
        assert list(tmp_path.iterdir()) == [path] and path.read_text() == "old"
    write(path)
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "new"


@pytest.mark.parametrize(("name", "got"), [("file", "Not a directory"), (LONG, "File name too long")])
def test_a_folder_that_can_not_be_made_is_refused(tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / name, tmp_path / name / "below"):
        with pytest.raises(InputError, match=f"must be a folder that can be written, got: {got}"):
            check_folder(path)
    for fine in (tmp_path, tmp_path / "new" / "newer"):
        check_folder(fine)
        check_file(fine / "file.json")
    assert not (tmp_path / "new").exists()


def test_a_folder_is_no_file_to_remove(tmp_path: Path) -> None:
    remove(tmp_path / "none")
    with pytest.raises(InputError, match="must be a file that can be written, got: "):
        remove(tmp_path)


def test_a_home_folder_is_meant_where_a_shell_would_mean_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = {
        text: at_home(text) for text in ("~", "~/a b", "~root", "a/~", "./~", "$HOME/x", "~no such user/x", "a//b/")
    }
    assert found.pop("~") == "/home/me" and found.pop("~/a b") == "/home/me/a b" and found.pop("~root") == "/root"
    assert all(text == read for text, read in found.items())
