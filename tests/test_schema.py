"""JSON against annotations: what fits is given back in their form, and all else is one short sentence."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import pytest

from facegan.errors import FaceganError
from facegan.files import parse_json
from facegan.schema import Range, checked


@dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...]
    mode: Literal["skip", "resnet"] = "skip"
    clamp: float | None = None
    share: Annotated[float, Range(0, 1)] = 0.5
    kind: str = field(default="a", metadata={"choices": ("a", "b")})


class Facts(TypedDict):
    config: Config
    terms: tuple[dict[str, float], list[str]]
    done: bool
    anything: Any


SIZES = {"sizes": [4, 8], "clamp": 256, "kind": "b"}
GOOD = {"config": SIZES, "terms": [{"G/loss": 1}, ["x"]], "done": True, "anything": [None], "more": {}}


def test_what_fits_comes_back_in_the_form_of_its_annotations():
    found = checked(GOOD, Facts, "x.json")
    assert found["config"] == Config((4, 8), clamp=256.0, kind="b") and type(found["config"].clamp) is float
    assert found["terms"] == ({"G/loss": 1.0}, ["x"]) and found["more"] == {} and found.keys() == GOOD.keys()
    assert checked({"sizes": []}, Config, "x") == Config(())


@pytest.mark.parametrize(
    "place,value,words",
    [
        ((), None, "it holds None; expected an object"),
        ((), [GOOD], "it holds a list"),
        (("config",), "x" * 10**6, r"config is x+\.\.\.; expected an object"),
        (("config", "sizes"), {}, "config.sizes is a dict; expected a list"),
        (("config", "sizes"), [4, True], r"config.sizes\[1\] is True; expected a whole number"),
        (("config", "mode"), ["skip"], "config.mode is a list; expected one of skip, resnet"),
        (("config", "clamp"), float("nan"), "config.clamp is nan; expected a finite number"),
        (("config", "clamp"), "1", "config.clamp is 1; expected a finite number"),
        (("config", "share"), 1.5, "config.share is 1.5; expected 0 to 1"),
        (("config", "kind"), "c", "config.kind is c; expected one of a, b"),
        (("config", "evil\n\x1b[31m" + "y" * 10**6), 1, r"config.evil\\n\\x1b.*, which nothing here has"),
        (("terms",), [{}], "terms is a list; expected a list of 2"),
        (("terms", 0, "a\nb"), None, r"terms\[0\].a\\nb is None"),
        (("done",), 1, "done is 1; expected true or false"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_short_sentence(place: tuple, value: object, words: str):
    record: Any = [copy.deepcopy(GOOD)]
    *way, last = (0, *place)
    inner = record
    for key in way:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(FaceganError, match=f"^x.json.*{words}") as caught:
        checked(record[0], Facts, "x.json")
    assert len(str(caught.value)) < 300 and str(caught.value).isprintable()


@pytest.mark.parametrize("missing,words", [(("done",), "does not say done"), (("config", "sizes"), "does not say config.sizes")])
def test_what_is_missing_is_named(missing: tuple, words: str):
    record: Any = copy.deepcopy(GOOD)
    inner = record if len(missing) == 1 else record[missing[0]]
    del inner[missing[-1]]
    with pytest.raises(FaceganError, match=words):
        checked(record, Facts, "x.json")


def test_nesting_far_beyond_any_annotation_costs_nothing():
    deep = parse_json("[" * 500 + "]" * 500, "x")
    assert checked({**GOOD, "anything": deep}, Facts, "x")["anything"] is deep
    with pytest.raises(FaceganError, match="done is a list"):
        checked({**GOOD, "done": deep}, Facts, "x")
