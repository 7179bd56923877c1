"""haan.files: where files can't lie, paths that no shell has seen, and text that people hand over."""

import codecs
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from haan.errors import InputError
from haan.files import at_home, check_file, check_folder, read_json, read_lines, read_text, remove, whole

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


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(codecs.BOM_UTF8 + '{"é": 1}\r\n'.encode())
    assert read_text(path) == '{"é": 1}\n' and read_json(path) == {"é": 1}


def test_lists_that_were_put_together_have_no_mark_before_any_line(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(codecs.BOM_UTF8 + b"a 1\n\n \n" + codecs.BOM_UTF8 + b" b 2 \r\n" + codecs.BOM_UTF8)
    assert read_lines(path) == [(1, "a 1"), (4, "b 2")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a\nb".encode("utf-16"), ": must be UTF-8 text, got UTF-16"),
        (codecs.BOM_UTF16_BE + "a\nb".encode("utf-16-be"), ": must be UTF-8 text, got UTF-16"),
        ("a\nb".encode("utf-32"), ": must be UTF-8 text, got UTF-32"),
        ("a\nb".encode("utf-16-le"), ": must be UTF-8 text, got NUL bytes, as UTF-16 and data have them"),
        ("a\nein Müller 3\nc".encode("latin-1"), ":2: must be UTF-8 text, got byte 0xfc in 'ein Müller 3'"),
        (b"x" * 999 + b"\xff" + b"y" * 999, f":1: must be UTF-8 text, got byte 0xff in '{'x' * 20}ÿ{'y' * 19}'"),
        (b"\xff", ":1: must be UTF-8 text, got byte 0xff in 'ÿ'"),
        (b"a\n\xff", ":2: must be UTF-8 text, got byte 0xff in 'ÿ'"),
    ],
)
def test_what_is_no_utf_8_is_refused_with_what_was_found(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    for read in (read_text, read_json, read_lines):
        with pytest.raises(InputError) as error:
            read(path)
        assert error.value.messages == [f"{path}{expected}"]


def test_a_folder_and_no_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a file that can be read, got: Is a directory"):
        read_text(tmp_path)
    with pytest.raises(InputError, match="absent: no such file"):
        read_text(tmp_path / "absent")
