"""Commands that mean what they were made of, and sentences that a visitor understands."""

from __future__ import annotations

import shlex
from dataclasses import fields

import pytest

from facegan import options as o
from facegan.app.turns import Stopped
from facegan.app.words import PageError, command, explained, plain, ranges, told
from facegan.cli import parser
from facegan.errors import FaceganError

MADE = [
    ("generate", o.Generate(source="synthetic64", out="faces")),
    ("generate", o.Generate(source="runs/with space", out="it's", seeds=(3, 4, 5, 9), best=2, truncation=0.65, device="cpu")),
    (
        "mix",
        o.Mix(rows=("0", "bald", "photo/a b.npz"), cols=("5",), out="m", mode="interpolate", weight=-0.35, layers="4-7", truncation=0.5),
    ),
    ("mix", o.Mix(rows=("0",), cols=("5",), out="m", recipe="default", network="net")),
    ("walk", o.Walk(rows=("0", "1"), out="w.gif", frames=7, fps=12.5)),
    ("mix-search", o.MixSearch(rows=("0-3",), cols=("4-7",), out="s", critics="runs/a", pairs=32, mode="arithmetic")),
    ("project", o.Project(target=("-odd name.jpg",), out="photo", steps=30, space="w+")),
    ("edit", o.Edit(photo="a b.jpg", out="photo", add=("beard:0.35",), remove=("bald",), paste=True, steps=10)),
    ("evaluate", o.Evaluate(source="runs/a", samples=64, out="evaluation", faces="mixes")),
]


@pytest.mark.parametrize(("name", "options"), MADE)
def test_a_command_is_read_as_the_options_that_it_was_made_of(name: str, options: o.Options) -> None:
    words = shlex.split(command(name, options))
    assert words[: 1 + len(name.split())] == ["facegan", *name.split()]
    values = vars(parser(words[1:]).parse_args(words[1:]))
    assert values.pop("command")
    del values["classes"]
    assert type(options)(**values) == options


def test_what_is_the_default_is_not_written() -> None:
    line = command("mix", o.Mix(rows=("1",), cols=("2",), out="mixes"))
    assert line == "facegan mix --rows 1 --cols 2 --out mixes"


@pytest.mark.parametrize("numbers", [(0,), (0, 1, 2), (5, 3, 4, 4), (1, 3, 5), (7, 8, 10, 2**32 - 1), tuple(range(100))])
def test_ranges_are_read_back(numbers: tuple[int, ...]) -> None:
    assert o.parse_seeds(ranges(numbers)) == numbers


def test_ranges_are_short() -> None:
    assert ranges(tuple(range(16))) == "0-15"
    assert ranges((1, 2, 3, 9)) == "1-3,9"


@pytest.mark.parametrize(
    ("sentence", "read"),
    [
        ("`cols` is missing: name the styles", "Columns is missing: name the styles"),
        ("name one with `critics=RUN`", "name one with Critics RUN"),
        ("`facegan edit` does it", "facegan edit does it"),
        ("/tmp/facegan-app-x1_y/visitor-ab/uploads/me.jpg is no readable image", "me.jpg is no readable image"),
        ("/data/me.jpg is no readable image", "/data/me.jpg is no readable image"),
    ],
)
def test_fields_are_read_as_labels_and_folders_of_the_page_are_left_out(sentence: str, read: str) -> None:
    assert plain(sentence) == read


def test_what_a_visitor_can_cause_is_a_sentence() -> None:
    assert explained(Stopped()) == "stopped"
    assert "memory" in (explained(MemoryError()) or "")
    assert "memory" in (explained(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")) or "")
    assert "No space left" in (explained(OSError(28, "No space left on device")) or "")
    assert explained(RuntimeError("shapes differ")) is None
    with pytest.raises(PageError, match="^Rows is missing$"), told():
        raise FaceganError("`rows` is missing")
    with pytest.raises(ZeroDivisionError), told():
        raise ZeroDivisionError


def test_every_option_of_the_page_has_a_default() -> None:
    assert {item.name for item in fields(o.App)} == {"sources", "host", "port", "runs", "device", "cuda_graphs"}
    assert o.App().host == "127.0.0.1"


@pytest.mark.parametrize("values", [dict(port=-1), dict(port=70000), dict(host=""), dict(host="a b"), dict(device="gpu")])
def test_options_that_make_no_sense_are_refused(values: dict) -> None:
    with pytest.raises(FaceganError, match=f"`{next(iter(values))}` is"):
        o.App(**values)
