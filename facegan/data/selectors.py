"""The selector language: `Bald & No_Beard & !Wearing_Hat`, in Kleene's three-valued logic.

Grammar, `!` binding tightest and `|` loosest::

    or   = and { "|" and }
    and  = not { "&" not }
    not  = "!" not | "(" or ")" | name
    name = letters, digits and _ - .   (may start with a digit)  |  '"' anything, '""' for a quote '"'

A column is true at >= 0.5, false below and *unknown* at NaN. Unknown is not false: `!X` of an unknown X is unknown
too, while `X & Y` is false as soon as one operand is (S. C. Kleene, *Introduction to Metamathematics*, 1952, section
64).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from facegan.errors import FaceganError

NAME = r"[\w.\-]+"
_TOKEN = re.compile(rf'\s*(?:(?P<name>{NAME})|(?P<quoted>"(?:[^"]|"")+")|(?P<mark>[!&|()])|(?P<end>\Z)|(?P<bad>.))', re.S)
_DEEPEST = 100  # nesting; a bound keeps the recursive descent (and every later walk of the tree) off Python's stack limit


class SelectorError(FaceganError):
    """A selector that does not parse; the message shows the text and, below it, a caret at the place."""

    def __init__(self, reason: str, text: str, place: int) -> None:
        shown = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", text)  # one line, or the caret points nowhere
        indent = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown[:place])
        super().__init__(f"selector: {reason}\n  {shown}\n  {' ' * indent}^")


class Selector:
    """A node of a parsed selector: immutable, hashable, compared as a tree. `str()` re-parses to an equal one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names it mentions, each once, in order of first mention."""
        return tuple(dict.fromkeys(self._names()))

    def clauses(self) -> tuple[Selector, ...]:
        """The operands of the top-level `&`, nested ones flattened; any other selector is its own single clause."""
        return (self,)

    def evaluate(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Truth per row: float32 [N] of 1 (true), 0 (false), NaN (unknown) from `columns[name]`, float [N].

        Raises KeyError for a name that `columns` lacks; `AttributeTable.select` says it in a sentence.
        """
        raise NotImplementedError

    def _names(self) -> Iterator[str]:
        raise NotImplementedError


@dataclass(frozen=True)
class Name(Selector):
    """A column."""

    name: str

    def evaluate(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        values = np.asarray(columns[self.name])
        return np.where(np.isnan(values), np.nan, values >= 0.5).astype(np.float32)

    def _names(self) -> Iterator[str]:
        yield self.name

    def __str__(self) -> str:
        if re.fullmatch(NAME, self.name):
            return self.name
        return '"' + self.name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Not(Selector):
    """`!operand`."""

    operand: Selector

    def evaluate(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.float32(1) - self.operand.evaluate(columns)

    def _names(self) -> Iterator[str]:
        return self.operand._names()

    def __str__(self) -> str:
        return f"!{_bracketed(self.operand, And, Or)}"


@dataclass(frozen=True)
class And(Selector):
    """`a & b & …`: false where any operand is false, true where all are true."""

    operands: tuple[Selector, ...]

    def evaluate(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        truths = np.stack([operand.evaluate(columns) for operand in self.operands])
        return np.where((truths == 0).any(0), np.float32(0), truths.min(0))  # min() keeps NaN

    def clauses(self) -> tuple[Selector, ...]:
        return tuple(clause for operand in self.operands for clause in operand.clauses())

    def _names(self) -> Iterator[str]:
        return (name for operand in self.operands for name in operand._names())

    def __str__(self) -> str:
        return " & ".join(_bracketed(operand, And, Or) for operand in self.operands)


@dataclass(frozen=True)
class Or(Selector):
    """`a | b | …`: true where any operand is true, false where all are false."""

    operands: tuple[Selector, ...]

    def evaluate(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        truths = np.stack([operand.evaluate(columns) for operand in self.operands])
        return np.where((truths == 1).any(0), np.float32(1), truths.max(0))  # max() keeps NaN

    def _names(self) -> Iterator[str]:
        return (name for operand in self.operands for name in operand._names())

    def __str__(self) -> str:
        return " | ".join(_bracketed(operand, Or) for operand in self.operands)


def parse(text: str) -> Selector:
    """Read a selector; raises SelectorError showing the place of the first mistake."""
    return _Parser(text).parse()


def conjunction(*selectors: Selector) -> Selector:
    """All of them at once, as one flat `&` without repeated clauses, which keeps `clauses()` of the whole useful."""
    clauses = tuple(dict.fromkeys(clause for selector in selectors for clause in selector.clauses()))
    return clauses[0] if len(clauses) == 1 else And(clauses)


def _bracketed(operand: Selector, *kinds: type[Selector]) -> str:
    return f"({operand})" if isinstance(operand, kinds) else str(operand)


class _Parser:
    """Recursive descent over the grammar at the head of this file, one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.after = 0
        self.advance()

    def advance(self) -> None:
        found = _TOKEN.match(self.text, self.after)
        assert found is not None and found.lastgroup is not None  # `bad` matches any character
        self.kind, self.after = found.lastgroup, found.end()
        self.token, self.place = found[self.kind], found.start(self.kind)
        if self.kind == "bad":
            reason = "this quote is never closed, or is empty" if self.token == '"' else f"unexpected {self.token!r}"
            raise SelectorError(
                f'{reason}; names of other characters than letters, digits and _ - . go in double quotes: "odd name"', self.text, self.place
            )

    def parse(self) -> Selector:
        selector = self.disjunction()
        if self.kind != "end":
            raise SelectorError(f"expected '&', '|' or the end, got {self.token!r}", self.text, self.place)
        return selector

    def disjunction(self) -> Selector:
        operands = [self.conjunction()]
        while self.token == "|":
            self.advance()
            operands.append(self.conjunction())
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def conjunction(self) -> Selector:
        operands = [self.negation()]
        while self.token == "&":
            self.advance()
            operands.append(self.negation())
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def negation(self) -> Selector:
        kind, token, place = self.kind, self.token, self.place
        if kind == "name" or kind == "quoted":
            self.advance()
            return Name(token if kind == "name" else token[1:-1].replace('""', '"'))
        if token not in ("!", "("):
            got = "the end" if kind == "end" else repr(token)
            raise SelectorError(f"expected a name, '!' or '(', got {got}", self.text, place)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise SelectorError(f"nested more than {_DEEPEST} levels deep", self.text, place)
        self.advance()
        inner = Not(self.negation()) if token == "!" else self.bracket(place)
        self.depth -= 1
        return inner

    def bracket(self, opened: int) -> Selector:
        inner = self.disjunction()
        if self.token != ")":
            raise SelectorError("this '(' is never closed", self.text, opened)
        self.advance()
        return inner
