#!/usr/bin/env python
"""From the JSON files of `benchmarks/results/` to the tables of docs/benchmarks.md and a roofline plot.

    python benchmarks/report.py                             # Markdown: the bars, then the operators forward + backward
    python benchmarks/report.py --all                       # every measured row
    python benchmarks/report.py --page docs/benchmarks.md   # into the page, between its two markers
    python benchmarks/report.py --roofline roofline.png

The results may come from a run that was stopped: bars that it did not reach are named in one sentence, without a row of the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import record, roofline, training_tables
from benchmarks.bars import BARS, NOT_MEASURED, memory
from benchmarks.cases import BACKENDS, NETWORK_OPS
from benchmarks.markdown import filled, markdown
from benchmarks.record import Row

BEGIN, END = "<!-- benchmarks: written by benchmarks/report.py -->", "<!-- end of benchmarks -->"
REASONS = "operators.md#cpu-bars-and-what-limits-them"
KINDS = {"cpu": "CPU", "cuda": "GPU"}
TITLES = ("operator", "order", "shape", "type", "backend", "time", "images/s", "GB/s", "% of copy", "TFLOP/s", "% of library",
          "x eager", "x compiled", "x grouped", "x peer", "peak memory")  # fmt: skip
OTHER = ("overhead", "operators", "compat")  # rows for bars alone
Result = dict[str, Any]


def cells(row: Row) -> list[str]:
    """A row under `TITLES`; a dash where there is nothing to measure."""
    speed_up, peaks, seconds = row["speed_up"], row["peak_bytes"], row["seconds"]
    shape = "x".join(str(row[name]) for name in ("n", "c", "size", "size"))

    def share(rival: str) -> str:
        return f"{100 * speed_up[rival]:.0f}" if rival in speed_up else "-"

    def times(rival: str) -> str:
        return f"{speed_up[rival]:.2f}" if rival in speed_up else "-"

    used = f"{peaks['op'] / 2**20:.0f} MiB ({memory(row):.2f} of eager)" if memory(row) is not None else "not measured"
    return [
        row["op"], row["order"], shape, f"{row['dtype']} {row['layout']}", row["backend"], f"{1e3 * seconds:.3f} ms",
        f"{row['n'] / seconds:.3g}" if row["op"] in (*NETWORK_OPS, "method_a_step") else "-",
        f"{1e-9 * row['bytes'] / seconds:.0f}" if row["bytes"] else "-", share("copy"),
        f"{1e-12 * row['flops'] / seconds:.3g}" if row["flops"] and "library" in speed_up else "-", share("library"),
        times("eager"), times("compiled"), times("grouped"), times("peer"), used,
    ]  # fmt: skip


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The rows as aligned text, for terminals."""
    table = [list(TITLES), *(cells(row) for row in rows)]
    widths = [max(len(line[index]) for line in table) for index in range(len(TITLES))]
    for line in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for row in rows:
        if "compiled" in row["notes"]:
            yield f"{row['id']}: torch.compile: {row['notes']['compiled']}"


def results(folder: Path) -> list[Result]:
    """All machines of a folder."""
    return [record.load(file) for file in sorted(folder.glob("*.json"))]


def columns(found: Sequence[Result], kind: str) -> list[tuple[str, list[Row]]]:
    """(title, rows) of each machine and backend of a kind."""
    machines = [result for result in found if result["machine"]["kind"] == kind]
    return [
        (f"{described(result['machine'])}, {backend}", [row for row in result["rows"] if row["backend"] == backend])
        for result in machines
        for backend in BACKENDS[kind]
    ]


def described(machine: dict[str, Any]) -> str:
    threads = machine["threads"]
    return f"{machine['device']}, {threads} {'thread' if threads == 1 else 'threads'}" if threads else str(machine["device"])


def bar_tables(found: Sequence[Result]) -> Iterator[str]:
    yield f"Written by `make bench bench-report`, all alternatives in turn in one run; [what limits the missed bars]({REASONS}).\n"
    for kind in KINDS:
        shown = columns(found, kind)
        if not shown:
            yield f"Bars on a {KINDS[kind]}: not measured.\n"
            continue
        judged = [(bar, [bar.judged(rows) for _, rows in shown]) for bar in BARS if bar.device == kind]
        missing = [bar.title for bar, verdicts in judged if set(verdicts) == {NOT_MEASURED}]
        yield from markdown(
            [f"{KINDS[kind]}: bar", "target", *(title for title, _ in shown)],
            (
                [bar.title, f"{'<=' if bar.smaller else '>='} {bar.text(bar.target)}", *verdicts]
                for bar, verdicts in judged
                if bar.title not in missing
            ),
        )
        if missing:
            yield f"\nNot measured: {'; '.join(missing)}."
        yield ""


def operator_tables(found: Sequence[Result], everything: bool) -> Iterator[str]:
    """Per machine a table: of each operator and backend the row of the largest map, or every row."""
    for kind in KINDS:
        machines = [result for result in found if result["machine"]["kind"] == kind]
        if not machines:
            yield f"Operators on a {KINDS[kind]}: not measured.\n"
        for result in machines:
            metadata, ceilings = result["machine"], result["ceilings"]
            yield f"{described(metadata)}, torch {metadata['torch']}, {result['date']}; copy {ceilings['copy_gb_s']:.0f} GB/s:"
            yield ""
            yield from training_tables.tables(result["rows"])
            rows = [row for row in result["rows"] if row["op"] not in (*training_tables.OPS, *OTHER)]
            if rows:
                yield from markdown(*filled(TITLES, [cells(row) for row in (rows if everything else leading(rows))]))
                yield ""
            else:
                yield f"Operators on {described(metadata)}: not measured.\n"


def leading(rows: Iterable[Row]) -> list[Row]:
    """Of each operator and backend the row of the largest map, forward + backward where there is such a row."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = row["op"], row["backend"]
        rank = [(entry["order"] == "fwd+bwd", entry["map_bytes"]) for entry in (row, best.get(key, row))]
        if key not in best or rank[0] > rank[1]:
            best[key] = row
    return list(best.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=record.FOLDER, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--all", action="store_true", help="every row, not one per operator")
    parser.add_argument("--page", type=Path, metavar="FILE", help=f"replace what stands between {BEGIN} and {END}")
    parser.add_argument("--roofline", type=Path, metavar="PNG", help="draw the plot")
    arguments = parser.parse_args()
    found = results(arguments.results)
    text = "\n".join([*bar_tables(found), *operator_tables(found, arguments.all)])
    if arguments.roofline:
        roofline.plot(found).save(arguments.roofline)
    if not arguments.page:
        print(text)
        return 0
    before, begin, rest = arguments.page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{arguments.page} has no lines {BEGIN} and {END} to write between", file=sys.stderr)
        return 1
    arguments.page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
