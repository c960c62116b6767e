"""Reading within limits, and quoting what came from a file."""

from __future__ import annotations

import os
import sys

import pytest

from facegan.errors import FaceganError
from facegan.files import parse_json, quoted, read_bytes, read_json, read_text

LONG = ["x" * 5_000_000, "a\nb" * 1000, "\x1b[31mred", b"\xff" * 10**6, [[]], {"a": 1}, 10**400, 1e308, None, object()]


@pytest.mark.parametrize("value", LONG)
def test_quotations_are_one_short_printable_line(value):
    shown = quoted(value)
    assert len(shown) <= 100 and shown.isprintable() and shown


def test_quotations_say_what_is_small():
    assert quoted("conv0.weight") == "conv0.weight"
    assert quoted("größe") == "größe"
    assert quoted("a\nb") == r"a\nb"
    assert (quoted(7), quoted(0.5), quoted(None), quoted(True)) == ("7", "0.5", "None", "True")
    assert quoted(10**400) == "a whole number of 1329 bits"
    assert quoted([1, 2]) == "a list"


def test_a_quotation_never_asks_the_object():
    class Endless:
        def __repr__(self) -> str:
            raise AssertionError("asked")

    nested: object = Endless()
    for _ in range(100_000):
        nested = [nested]
    assert quoted(nested) == "a list" and quoted(Endless()) == "a Endless"


def test_limits(tmp_path):
    file = tmp_path / "x.txt"
    file.write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(file, 6) == "abc"
    with pytest.raises(FaceganError, match="6 bytes, more than the 5 bytes of any text file"):
        read_text(file, 5)
    with pytest.raises(FaceganError, match="no regular file"):
        read_bytes(tmp_path)
    with pytest.raises(FaceganError, match="cannot be read: No such file"):
        read_bytes(tmp_path / "absent")
    file.write_bytes(b"ab\xff")
    with pytest.raises(FaceganError, match="byte 2 is not UTF-8"):
        read_text(file)


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in the file system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(FaceganError, match="no regular file"):
            read_bytes(tmp_path / name)


def test_json(tmp_path):
    assert parse_json('{"a": [1, 2.5, 18446744073709551615]}', "x") == {"a": [1, 2.5, 2**64 - 1]}
    for text, reason in (("[" * 100_000, "nests too deeply"), ("1" + "0" * 400, "beyond 64 bits"), ("{", "Expecting")):
        with pytest.raises(FaceganError, match=f"x is not valid JSON: .*{reason}"):
            parse_json(text, "x")
    (tmp_path / "x.json").write_text('{"b": null}')
    assert read_json(tmp_path / "x.json") == {"b": None}
