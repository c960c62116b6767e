"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def markdown(titles: Sequence[str], table: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for line in table:
        yield f"| {' | '.join(line)} |"


def filled(titles: Sequence[str], table: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Without the columns in which every row has a dash."""
    kept = [index for index in range(len(titles)) if any(line[index] != "-" for line in table)]
    return [titles[index] for index in kept], [[line[index] for index in kept] for line in table]
