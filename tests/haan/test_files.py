"""haan.files: text that people hand over, with and without a byte-order mark, and what is no UTF-8."""

import codecs
from pathlib import Path

import pytest

from haan.errors import InputError
from haan.files import read_json, read_lines, read_text


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
