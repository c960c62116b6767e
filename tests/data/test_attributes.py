"""Built-in attributes compose to the definitions written out here; groups, own selectors and refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from facegan.data.attributes import BUILTIN, Attribute, attrition, group, only_selector, partition, resolve
from facegan.data.selectors import SelectorError, parse
from facegan.data.table import AttributeTable, UnknownAttribute
from facegan.errors import FaceganError

COLUMNS = ("Bald", "No_Beard", "Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow", "Wearing_Hat", "Blurry", "Male",
           "Receding_Hairline")  # fmt: skip


def _table(columns: tuple[str, ...], values: np.ndarray) -> AttributeTable:
    return AttributeTable(tuple(f"{i}.png" for i in range(len(values))), columns, values.astype(np.float32))


@pytest.fixture(scope="module")
def every_face() -> AttributeTable:
    """All 2^10 combinations of the columns that bald and beard look at."""
    return _table(COLUMNS, np.array(list(itertools.product((0, 1), repeat=len(COLUMNS)))))


def test_bald_and_beard_are_as_defined(every_face: AttributeTable) -> None:
    c = {name: every_face.values[:, i] == 1 for i, name in enumerate(COLUMNS)}
    some = c["Goatee"] | c["Mustache"] | c["Sideburns"]
    seen = ~c["Wearing_Hat"] & ~c["Blurry"]
    skinhead = c["Bald"] & c["No_Beard"] & ~some & ~c["5_o_Clock_Shadow"] & seen
    beard = c["Male"] & ~c["No_Beard"] & some & ~c["Bald"] & ~c["Receding_Hairline"] & seen
    joint = c["Bald"] & ~c["No_Beard"]
    might = c["Bald"] & (~c["No_Beard"] | some | c["5_o_Clock_Shadow"])
    for spec in ("bald,beard", " skinhead , beard"):
        groups = group(every_face, resolve(spec, every_face), minimum=1)
        assert [each.name for each in groups.attributes] == ["bald", "beard"]
        np.testing.assert_array_equal(groups.only[0], np.flatnonzero(skinhead))
        np.testing.assert_array_equal(groups.only[1], np.flatnonzero(beard))
        np.testing.assert_array_equal(groups.joint, np.flatnonzero(joint))
        np.testing.assert_array_equal(groups.excluded, np.flatnonzero(joint | might))
        np.testing.assert_array_equal(groups.usable, np.flatnonzero(~(joint | might)))
        assert all(index.dtype == np.int64 for index in (*groups.only, groups.joint, groups.excluded, groups.usable))


@pytest.mark.parametrize("attribute", BUILTIN.values(), ids=BUILTIN)
def test_builtin_selectors_agree_with_each_other(attribute: Attribute) -> None:
    """Positive implies present implies maybe, and nothing is at once negative and maybe; each can be true."""
    columns = attribute.columns
    table = _table(columns, np.array(list(itertools.product((0, 1), repeat=len(columns)))))
    kinds = (attribute.positive, attribute.negative, attribute.present, attribute.maybe)
    positive, negative, present, maybe = (table.select(text) for text in kinds)
    assert positive.any() and negative.any()
    assert not (positive & ~present).any() and not (present & ~maybe).any() and not (negative & maybe).any()


def test_unknown_might_carry_it_and_is_never_trained_on() -> None:
    nan = np.nan
    table = _table(("a", "b"), np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, nan], [nan, 1], [nan, nan], [0, nan]]))
    groups = partition(table, resolve("a,b", table))
    assert [index.tolist() for index in groups.only] == [[0], [1]]
    assert groups.joint.tolist() == [2]
    assert groups.excluded.tolist() == [2, 4, 5, 6]
    assert groups.usable.tolist() == [0, 1, 3, 7]


def test_three_attributes() -> None:
    table = _table(("a", "b", "c"), np.array(list(itertools.product((0, 1), repeat=3))))
    groups = group(table, resolve("c,a,b", table), minimum=1)
    assert [index.tolist() for index in groups.only] == [[0b001], [0b100], [0b010]]
    assert groups.joint.tolist() == groups.excluded.tolist() == [0b111]


def test_own_selectors(every_face: AttributeTable) -> None:
    own, plain = resolve("top=Bald & !Wearing_Hat/!Bald & !Male,Mustache", every_face)
    assert own == Attribute("top", "Bald & !Wearing_Hat", "!Bald & !Male", "Bald & !Wearing_Hat", "!(!Bald & !Male)")
    assert plain == Attribute("Mustache", "Mustache", "!Mustache", "Mustache", "Mustache")
    assert resolve("x=Bald|Male", every_face)[0].negative == "!(Bald | Male)"


def test_quoted_names_keep_their_commas_and_slashes() -> None:
    table = _table(("a,b", "c/d", "e=f"), np.eye(3))
    specs = resolve('"a,b", x="c/d"/!"c/d", "e=f"', table)
    assert [each.name for each in specs] == ["a,b", "x", "e=f"]
    assert [parse(each.positive).columns for each in specs] == [("a,b",), ("c/d",), ("e=f",)]


def test_overlapping_own_selectors_never_train_on_joint_images() -> None:
    table = _table(("a", "b"), np.array([[1, 0], [1, 1], [0, 1]]))
    groups = partition(table, resolve("p=a/!b,q=b/!a | b", table))
    for index in groups.only:
        assert not np.isin(index, groups.excluded).any()


def test_a_builtin_gives_way_to_a_plain_column_where_its_columns_are_missing() -> None:
    table = _table(("bald", "beard"), np.eye(2))
    assert [each.positive for each in resolve("bald,beard", table)] == ["bald", "beard"]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("bald,berd", UnknownAttribute, "did you mean beard"),
        ("bald,mustach", UnknownAttribute, "Mustache"),
        ("bald,skinhead", FaceganError, "'bald' is asked for more than once"),
        ("bald,,beard", FaceganError, "comma-separated list"),
        ("", FaceganError, "comma-separated list"),
        ("glasses,bald", UnknownAttribute, "has no Eyeglasses; give its own selectors as glasses=POSITIVE/NEGATIVE"),
        ("x=Bald/!Bald/Male,beard", FaceganError, "expected name=POSITIVE/NEGATIVE"),
        ("x=Bald & (/!Bald,beard", SelectorError, r"expected a name"),
        ("x=Baldd,beard", UnknownAttribute, "did you mean Bald"),
    ],
)
def test_bad_lists_are_explained(every_face: AttributeTable, spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        resolve(spec, every_face)


def test_one_attribute_is_no_combination(every_face: AttributeTable) -> None:
    with pytest.raises(FaceganError, match="at least two"):
        partition(every_face, resolve("bald", every_face))


def test_too_few_images_name_the_worst_clause() -> None:
    # 3 clean images of a; 20 more of a are spoiled by c alone, 5 by b alone, 4 by both.
    rows = [[1, 0, 0]] * 3 + [[1, 0, 1]] * 20 + [[1, 1, 0]] * 5 + [[1, 1, 1]] * 4 + [[0, 1, 0]] * 30
    table = _table(("a", "b", "c"), np.array(rows))
    attributes = resolve("x=a & !c/!a,b", table)
    with pytest.raises(FaceganError) as caught:
        group(table, attributes, minimum=8)
    message = str(caught.value)
    assert "'x'" in message and "3 images" in message and "8" in message
    assert "`!c` removes most: without it 23 images" in message
    left = {str(clause): count for clause, count in attrition(table, only_selector(attributes, 0))}
    assert left == {"a": 3, "!c": 23, "!b": 8}
    assert len(group(table, attributes, minimum=3).only[0]) == 3


def test_table_refuses_what_does_not_fit() -> None:
    for values, message in [(np.ones((2, 2)), "expected float32"), (np.full((2, 1), 1.5), r"\[0, 1\]")]:
        with pytest.raises(FaceganError, match=message):
            AttributeTable(("i", "j"), ("a",), values.astype(np.float32))
    with pytest.raises(FaceganError, match="'i' occurs twice"):
        AttributeTable(("i", "i"), ("a",), np.ones((2, 1), np.float32))


def test_table_rows_keep_order_and_unknown_columns_list_near_ones() -> None:
    table = _table(("Wearing_Hat", "Bald"), np.arange(6).reshape(3, 2) / 5)
    picked = table.rows(np.array([2, 0]))
    assert picked.ids == ("2.png", "0.png")
    np.testing.assert_array_equal(picked.column("Bald"), np.array([1, 0.2], np.float32))
    with pytest.raises(UnknownAttribute, match="did you mean Wearing_Hat"):
        table.select("!wearing_hat")
