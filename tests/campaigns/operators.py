"""Calls of every operator drawn at random, on every backend that can run here, against restatements of the papers in float64.

    python tests/campaigns/operators.py --count 100000 --seconds 3600 --seed 0

Shapes are small and odd, some empty, some of one pixel; dtypes, formats, strides, factors, paddings, gains and limits are drawn; a share of
the calls is differentiated once or twice with random cotangents, and a share is wrong in one argument and must be refused in a
sentence. A process of its own makes the calls, so that one which ends it or does not end is found, named, and passed over. What failed is
printed as a line of Python, to be run in tests/campaigns with tests/support on the path.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported, which facegan does
sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from arguments import parser_of  # noqa: E402
from fuzzed_operators import OPERATORS, TOLERANCES, Call, Skipped, laid  # noqa: E402

from facegan import backend  # noqa: E402

TARGETS = [("reference", "cpu"), ("native", "cpu"), ("triton", "cpu"), ("native", "cuda"), ("triton", "cuda")]
KINDS = ("values", "first order", "second order", "refused", "wrong")
HANGS = 120.0  # seconds after which a call is given up; Triton's interpreter takes up to ten
OUT_OF = 50  # calls of the CPU's interpreter are one in so many: they take a hundred times as long as others


@dataclass(frozen=True)
class Case:
    """One call: everything else about it is drawn from the seed."""

    op: str
    backend: str
    device: str
    seed: int

    def __str__(self) -> str:
        return f"from operators import Case, check; check({self!r})"


def drawn(seed: int, index: int, targets: list[tuple[str, str]]) -> Case:
    dice = random.Random(seed * 1_000_003 + index)
    slow = [target for target in targets if target == ("triton", "cpu")]
    fast = [target for target in targets if target not in slow]
    name, device = dice.choice(slow if slow and dice.randrange(OUT_OF) == 0 else fast)
    return Case(dice.choice(list(OPERATORS)), name, device, seed * 1_000_003 + index)


def check(case: Case) -> str:
    """Make the call; returns which kind it was, or raises AssertionError."""
    dice = random.Random(case.seed)
    torch.manual_seed(case.seed % 2**63)
    call: Call = OPERATORS[case.op](dice)
    with backend.use_backend(case.backend):
        if dice.random() < 0.08 and call.spoil is not None:
            return refused(call, dice, case.device)
        return held(call, dice, case.device)


def refused(call: Call, dice: random.Random, device: str) -> str:
    """One argument is wrong: a sentence says so, whatever the backend."""
    arguments = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in call.arguments.items()}
    assert call.spoil is not None
    what = call.spoil(dice, arguments)
    try:
        call.run(arguments)
    except ValueError as error:  # FaceganError is one
        assert str(error), f"{what}: refused without a word"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:200]}") from error
    raise AssertionError(f"{what}: taken without a word")


def held(call: Call, dice: random.Random, device: str) -> str:
    dtype = dice.choice([torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16])
    order = dice.choice([0, 0, 0, 1, 2])
    given, wide = dict(call.arguments), dict(call.arguments)
    for name, value in call.arguments.items():
        if isinstance(value, torch.Tensor):
            kept = name in call.constants
            value = value if kept and name != "mask" else value.to(dtype)
            wide[name] = value.double()
            given[name] = value.to(device) if kept else laid(value.to(device), dice)
    names = [name for name in call.leaves if isinstance(given.get(name), torch.Tensor)] if order else []
    before = {name: value.clone() for name, value in given.items() if isinstance(value, torch.Tensor)}
    for arguments in (given, wide):
        for name in names:
            arguments[name] = arguments[name].requires_grad_()
    (expected, distance), found = call.restated(wide), call.run(given)
    x = given[call.first]
    assert found.shape == expected.shape, f"shape {list(found.shape)}; expected {list(expected.shape)}"
    assert found.dtype == dtype, f"dtype {found.dtype}; expected {dtype}"
    for format in (torch.contiguous_format, torch.channels_last) if x.ndim == 4 and min(*x.shape, *found.shape) > 1 else ():
        assert not x.is_contiguous(memory_format=format) or found.is_contiguous(memory_format=format), f"x has {format}; the result not"
    close("value", [found], [expected], dtype)
    near = distance <= TOLERANCES[dtype] * max([1.0, float(expected.detach().abs().max()) if expected.numel() else 0.0])
    if order and names and not near and expected.requires_grad and found.requires_grad:
        order = differentiated(given, wide, names, found, expected, dtype, order, dice)
    else:
        order = 0
    for name, value in before.items():
        assert torch.equal(given[name].detach().nan_to_num(), value.nan_to_num()), f"{name} was written to"
    return KINDS[order]


def differentiated(
    given: dict[str, Any], wide: dict[str, Any], names: list[str], found: Any, expected: Any, dtype: torch.dtype, order: int, dice: Any
) -> int:
    """First and second order, each argument's against the restatement's; returns the order that was reached."""
    g = torch.randn(expected.shape).to(dtype)
    both = [(found, given, laid(g.to(found.device), dice)), (expected, wide, g.double())]
    outer = [torch.randn(wide[name].shape).to(dtype) for name in names]
    results = []
    for y, arguments, cotangent in both:
        leaves = [arguments[name] for name in names]
        first = torch.autograd.grad(y, leaves, cotangent, create_graph=order == 2, allow_unused=True, materialize_grads=True)
        results.append((leaves, first))
    close("first order", *(first for _, first in results), dtype)
    if order == 1:
        return 1
    seconds = []
    for leaves, first in results:
        pairs = [(t, o.to(t)) for t, o in zip(first, outer, strict=True) if t.requires_grad]
        if not pairs:
            seconds.append([torch.zeros_like(leaf) for leaf in leaves])
            continue
        outputs, cotangents = zip(*pairs, strict=True)
        seconds.append(torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True, materialize_grads=True))
    close("second order", *seconds, dtype)
    return 2


def close(what: str, found: Any, expected: Any, dtype: torch.dtype) -> None:
    """Within the dtype's rounding of the largest number of this order."""
    scale = max([1.0, *(float(t.detach().abs().max()) for t in expected if t.numel())])
    if dtype == torch.float16 and scale > 3e3:
        raise Skipped("beyond float16")
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        error = (a.detach().cpu().double() - b.detach()).abs()
        worst = float(error.max()) if error.numel() else 0.0
        assert worst <= TOLERANCES[dtype] * scale, f"{what} {i}: off by {worst:.3g} where the largest number is {scale:.3g} ({dtype})"


def work(seed: int, first: int, count: int, until: float, targets: Any, at: Any, counts: Any, log: str) -> None:
    """In a process of its own: `at` is the call that is being made."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    faulthandler.enable(open(log + ".crash", "w"))  # noqa: SIM115
    for index in range(first, count):
        if time.time() > until:
            break
        at.value = index
        case = drawn(seed, index, targets)
        row = (list(OPERATORS).index(case.op) * len(TARGETS) + TARGETS.index((case.backend, case.device))) * len(KINDS)
        try:
            counts[row + KINDS.index(check(case))] += 1
        except Skipped:
            counts[row] += 1  # its value was right
        except Exception as error:  # what a call raises that should not is a finding too
            counts[row + KINDS.index("wrong")] += 1
            report(log, case, f"{type(error).__name__}: {error}")
    at.value = -1


def report(log: str, case: Case, message: str) -> None:
    with open(log, "a") as file:
        file.write(f"{case}  # {' '.join(message.split())[:300]}\n")


def watched(seed: int, count: int, until: float, targets: Any, counts: Any, log: str) -> int:
    """Run all calls, in another process after each that crashed or hung; returns the number of calls made."""
    fork = multiprocessing.get_context("fork")
    at, first = fork.Value("q", 0), 0
    while first < count and time.time() < until:
        at.value = first
        process = fork.Process(target=work, args=(seed, first, count, until, targets, at, counts, log))
        process.start()
        last, since = first, time.time()
        while process.is_alive():
            process.join(0.2)
            if at.value != last:
                last, since = at.value, time.time()
            elif time.time() - since > HANGS:
                process.kill()
                process.join()
        if at.value == -1:
            break
        case = drawn(seed, at.value, targets)
        row = (list(OPERATORS).index(case.op) * len(TARGETS) + TARGETS.index((case.backend, case.device))) * len(KINDS)
        counts[row + KINDS.index("wrong")] += 1
        report(log, case, f"the process ended with {process.exitcode}" if process.exitcode != -9 else f"no end within {HANGS:.0f} s")
        first = at.value + 1
    return sum(counts)


def main(count: int, seconds: float, seed: int) -> int:
    """Make `count` calls, or as many as the seconds allow; 1 where one was wrong."""
    start = time.time()
    targets = [(name, device) for name, device in TARGETS if (device == "cpu" or torch.cuda.is_available()) and served(name, device)]
    if torch.cuda.is_available():
        targets = [target for target in targets if target != ("triton", "cpu")]
    counts = multiprocessing.get_context("fork").RawArray("q", len(OPERATORS) * len(TARGETS) * len(KINDS))
    with tempfile.TemporaryDirectory() as folder:
        log = str(Path(folder) / "findings")
        made = watched(seed, count, start + seconds, targets, counts, log)
        findings = Path(log).read_text().splitlines() if Path(log).exists() else []
    print(f"{'operator':<18}{'backend':<16}" + "".join(f"{kind:>14}" for kind in KINDS))
    for i, op in enumerate(OPERATORS):
        for j, (name, device) in enumerate(TARGETS):
            row = counts[(i * len(TARGETS) + j) * len(KINDS) :][: len(KINDS)]
            if any(row):
                print(f"{op:<18}{name + ' ' + device:<16}" + "".join(f"{number:>14,}" for number in row))
    print(*findings, sep="\n", end="\n" * bool(findings))
    wrong = sum(counts[KINDS.index("wrong") :: len(KINDS)])
    print(f"{made:,} calls in {time.time() - start:.0f} s, {wrong:,} wrong")
    return 1 if wrong else 0


def served(name: str, device: str) -> bool:
    return name == "reference" or backend.unavailable("bias_act", name, device) is None


if __name__ == "__main__":
    parser = parser_of(__doc__, count=100_000, seconds=3600)
    sys.exit(main(**vars(parser.parse_args())))
