"""What a compiled kernel does to global memory, read from its PTX.

PTX rather than SASS: ptxas neither widens nor splits an access (kinds and widths were compared with nvdisasm's output for two
specialisations of each Triton kernel here: no difference), both Triton and nvcc write it, it names the source line of every
instruction, and reading it costs nothing, where nvdisasm takes half a second a kernel. What only ptxas knows (registers,
spills, stack) comes from ptxas itself.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

NARROW = 2  # bytes: an access of one bf16 or less
NARROW_SHARE = 0.25  # of the bytes moved in the hot part; a bias or noise value beside 16-byte rows stays under it

_ENTRY = re.compile(r"^\s*(?:\.visible |\.weak )?\.entry\s+(\S+?)\s*\(", re.M)
_LABEL = re.compile(r"^\s*([$\w]+):")
_BRANCH = re.compile(r"\bbra(?:\.uni)?\s+([$\w]+)\s*;")
_ACCESS = re.compile(r"^\s*(?:\{\s*)?(?:@!?%\w+\s+)?(ld|st|atom|red)\.([\w.:]+)")
_ASYNC = re.compile(r"cp\.async\.c[ag]\.shared\.global\S*\s+\[[^]]*\],\s*\[[^]]*\],\s*(0x[0-9a-f]+|\d+)")
_BULK = re.compile(r"cp\.async\.bulk\.")
_TYPE = re.compile(r"[busf](8|16|32|64|128)")
_LOCATION = re.compile(r"^\s*\.loc\s+(\d+)\s+(\d+)")
_MATRIX = re.compile(r"\b(wgmma\.mma_async|mma\.sync)\b")


@dataclass(frozen=True)
class Access:
    """One load ("ld"), store ("st"), asynchronous copy ("cp") or atomic ("at") instruction on global memory."""

    kind: str
    width: int  # bytes a thread moves
    in_loop: bool
    line: int  # of the source file; 0 when unknown


@dataclass
class Body:
    """The instructions of one entry point that touch memory."""

    accesses: list[Access] = field(default_factory=list)
    local: int = 0  # explicit loads and stores of local memory: an array that registers cannot hold
    matrix: Counter[str] = field(default_factory=Counter)

    @property
    def hot(self) -> list[Access]:
        """Accesses in loops where there are any, else all: a kernel without a loop is one tile from end to end."""
        return [access for access in self.accesses if access.in_loop] or self.accesses

    def widths(self) -> str:
        """The hot accesses, as `ld 4x16 1x2, st 2x16` (number x bytes)."""
        counts = Counter((access.kind, access.width) for access in self.hot)
        kinds = [kind for kind in ("ld", "cp", "st", "at") if any(key[0] == kind for key in counts)]
        words = {
            kind: " ".join(f"{n}x{width}" for (k, width), n in sorted(counts.items(), key=lambda item: -item[0][1]) if k == kind)
            for kind in kinds
        }
        return ", ".join(f"{kind} {word}" for kind, word in words.items())

    def narrow(self, allowed: float = NARROW_SHARE) -> str | None:
        """Why the hot part counts as narrow, or None; `allowed` is the share of the bytes that may be."""
        moved = sum(access.width for access in self.hot)
        narrow = [access for access in self.hot if access.width <= NARROW]
        share = sum(access.width for access in narrow) / moved if moved else 0.0
        if share <= allowed:
            return None
        lines = Counter((access.line, access.kind) for access in narrow)
        where = ", ".join(f"{n} {kind} at line {line}" for (line, kind), n in sorted(lines.items()))
        return f"{share:.0%} of the bytes move {NARROW} or fewer at a time ({where})"


def bodies(ptx: str) -> dict[str, Body]:
    """Entry point -> what it does. Device functions that were not inlined count with the entry before them."""
    starts = [(match.start(), match.group(1)) for match in _ENTRY.finditer(ptx)]
    ends = [*(start for start, _ in starts), len(ptx)][1:]
    return {name: _body(ptx[start:end].split("\n")) for (start, name), end in zip(starts, ends, strict=True)}


def _loops(lines: list[str]) -> list[tuple[int, int]]:
    """(first, last) line of every loop: what lies between a label and a branch back to it."""
    labels = {match.group(1): number for number, line in enumerate(lines) if (match := _LABEL.match(line))}
    branches = ((number, match.group(1)) for number, line in enumerate(lines) if (match := _BRANCH.search(line)))
    return [(labels[label], number) for number, label in branches if labels.get(label, number) < number]


def _body(lines: list[str]) -> Body:
    body, loops, line = Body(), _loops(lines), 0
    for number, text in enumerate(lines):
        if location := _LOCATION.match(text):
            line = int(location.group(2))
        if match := _MATRIX.search(text):
            body.matrix[match.group(1).split(".")[0]] += 1
        found = _access(text)
        if found == ("local", 0):
            body.local += 1
        elif found is not None:
            body.accesses.append(Access(*found, any(first <= number <= last for first, last in loops), line))
    return body


def _access(text: str) -> tuple[str, int] | None:
    """(kind, bytes) of one line; ("local", 0) for local memory, None where no such memory is touched."""
    if match := _ASYNC.search(text):
        return "cp", int(match.group(1), 0)
    if _BULK.search(text):
        return "cp", 128  # a bulk copy moves whole lines
    match = _ACCESS.match(text)
    if match is None:
        return None
    parts = match.group(2).split(".")
    if "local" in parts:
        return "local", 0
    if any(part in ("param", "const") or part.startswith("shared") for part in parts):
        return None
    bits = next(int(found.group(1)) for part in reversed(parts) if (found := _TYPE.fullmatch(part)))
    lanes = next((int(part[1:]) for part in parts if part in ("v2", "v4", "v8")), 1)
    kind = match.group(1) if match.group(1) in ("ld", "st") else "at"
    return kind, bits // 8 * lanes
