"""Tables for the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Part:
    """One part of the check: its table, and what is wrong."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    note: str = ""

    def row(self, *cells: object) -> None:
        if len(cells) != len(self.header):
            raise ValueError(f"a row of {len(cells)} cells under {len(self.header)} titles")
        self.rows.append(tuple("" if cell is None else str(cell) for cell in cells))

    def fail(self, where: str, reasons: list[str]) -> None:
        self.failures += [f"{where}: {reason}" for reason in reasons]

    def __str__(self) -> str:
        lines = [self.title, "=" * len(self.title)]
        if self.rows:
            table = [self.header, *self.rows]
            widths = [max(len(row[i]) for row in table) for i in range(len(self.header))]
            lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join([*lines, self.note]).rstrip() + "\n"
