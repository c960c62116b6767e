"""The selector language: parser, printer and Kleene logic, the latter against the truth tables written out."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facegan.data.selectors import And, Name, Not, Or, Selector, SelectorError, conjunction, parse

T, F, U = 1.0, 0.0, math.nan
NOT = {"1": "0", "0": "1", "u": "u"}
# Kleene's strong tables, row by row as in the book: t, u, f against t, u, f.
AND = {"11": "1", "1u": "u", "10": "0", "u1": "u", "uu": "u", "u0": "0", "01": "0", "0u": "0", "00": "0"}
OR = {"11": "1", "1u": "1", "10": "1", "u1": "1", "uu": "u", "u0": "u", "01": "1", "0u": "u", "00": "0"}

plain_names = st.from_regex(r"\A[A-Za-z0-9_.\-]{1,8}\Z")
odd_names = st.text(min_size=1, max_size=6)


def _deeper(inner: st.SearchStrategy[Selector]) -> st.SearchStrategy[Selector]:
    several = st.lists(inner, min_size=2, max_size=4).map(tuple)
    return st.one_of(inner.map(Not), several.map(And), several.map(Or))


trees = st.recursive(st.one_of(plain_names, odd_names).map(Name), _deeper, max_leaves=12)
small_trees = st.recursive(st.sampled_from("abc").map(Name), _deeper, max_leaves=12)


def _by_tables(tree: Selector, row: dict[str, str]) -> str:
    """Walks the tree one row at a time through the tables above."""
    if isinstance(tree, Name):
        return row[tree.name]
    if isinstance(tree, Not):
        return NOT[_by_tables(tree.operand, row)]
    assert isinstance(tree, And | Or)
    table = AND if isinstance(tree, And) else OR
    result, *rest = (_by_tables(operand, row) for operand in tree.operands)
    for other in rest:
        result = table[result + other]
    return result


@settings(deadline=None)
@given(trees)
def test_printed_tree_parses_to_itself(tree: Selector) -> None:
    assert parse(str(tree)) == tree


@settings(deadline=None)
@given(small_trees)
def test_evaluation_follows_kleenes_tables(tree: Selector) -> None:
    states = [(a, b, c) for a in "10u" for b in "10u" for c in "10u"]
    value = {"1": T, "0": F, "u": U}
    columns = {name: np.array([value[row[i]] for row in states], np.float32) for i, name in enumerate("abc")}
    truth = tree.evaluate(columns)
    assert truth.dtype == np.float32
    expected = [value[_by_tables(tree, dict(zip("abc", row, strict=True)))] for row in states]
    np.testing.assert_array_equal(truth, np.array(expected, np.float32))


@settings(deadline=None)
@given(st.text())
def test_no_text_raises_anything_but_selector_error(text: str) -> None:
    try:
        tree = parse(text)
    except SelectorError:
        return
    assert parse(str(tree)) == tree


@settings(deadline=None)
@given(st.text(alphabet='ab!&|() "\n', max_size=40))
def test_nearly_valid_text_raises_nothing_else_either(text: str) -> None:
    try:
        tree = parse(text)
    except SelectorError:
        return
    assert set(tree.columns) <= set(re.findall(r'"(?:[^"]|"")+"|[ab]+', text)) | {
        quoted[1:-1].replace('""', '"') for quoted in re.findall(r'"(?:[^"]|"")+"', text)
    }


@pytest.mark.parametrize("text", ["(" * 5000, "!" * 5000 + "a", "(" * 5000 + "a" + ")" * 5000])
def test_deep_nesting_is_refused_not_overflowed(text: str) -> None:
    with pytest.raises(SelectorError, match="100 levels"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a | b & !c", Or((Name("a"), And((Name("b"), Not(Name("c"))))))),
        ("(a | b) & c", And((Or((Name("a"), Name("b"))), Name("c")))),
        ("!(a & b)", Not(And((Name("a"), Name("b"))))),
        ("!!a", Not(Not(Name("a")))),
        ("a & (b & c)", And((Name("a"), And((Name("b"), Name("c")))))),
        (" 5_o_Clock_Shadow&No-Beard.v2\n", And((Name("5_o_Clock_Shadow"), Name("No-Beard.v2")))),
        ('"odd & name" | "say ""hi"""', Or((Name("odd & name"), Name('say "hi"')))),
    ],
)
def test_precedence_and_names(text: str, tree: Selector) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("Bald &", 6, "expected a name"),
        ("Bald & | Male", 7, "expected a name"),
        ("Bald Male", 5, "expected '&', '|' or the end"),
        ("Bald & (Male | Young", 7, "never closed"),
        ("Bald)", 4, "expected '&', '|' or the end"),
        ("Bald && Male", 6, "expected a name"),
        ("Bald & $Male", 7, "unexpected '\\$'"),
        ('Bald & "Male', 7, "never closed"),
        ("", 0, "expected a name"),
    ],
)
def test_error_shows_the_place(text: str, place: int, reason: str) -> None:
    with pytest.raises(SelectorError, match=reason) as caught:
        parse(text)
    _, shown, caret = str(caught.value).split("\n")
    assert shown == "  " + text
    assert caret == " " * (2 + place) + "^"


def test_caret_counts_wide_characters_twice_and_newlines_as_blanks() -> None:
    with pytest.raises(SelectorError) as caught:
        parse("髭\n& ?")
    assert str(caught.value).split("\n")[1:] == ["  髭 & ?", " " * 7 + "^"]


def test_columns_and_clauses() -> None:
    tree = parse("b & (a | !b) & (c & d)")
    assert tree.columns == ("b", "a", "c", "d")
    assert [str(clause) for clause in tree.clauses()] == ["b", "a | !b", "c", "d"]
    assert parse("a | b").clauses() == (parse("a | b"),)
    assert str(conjunction(parse("a & b"), parse("!c"), parse("b"))) == "a & b & !c"
    assert conjunction(parse("a"), parse("a")) == Name("a")


def test_half_is_true_and_less_is_false() -> None:
    values = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1, 0, np.nan], np.float32)
    np.testing.assert_array_equal(parse("x").evaluate({"x": values}), np.array([1, 0, 1, 0, np.nan], np.float32))
