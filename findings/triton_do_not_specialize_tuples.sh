#!/usr/bin/env bash
# triton 3.9.0: `do_not_specialize` has no effect on an argument that is a tuple.
#
# An argument named there is meant to be one run-time value, whatever it is: one kernel serves all. That holds for plain numbers. The
# numbers in a tuple are specialised all the same, a 1 becomes a constant and multiples of 16 a case of their own, so that launches with
# other numbers compile other kernels, seconds each in the middle of a run, where the decorator says they cannot. No warning is given.
# Nothing is compiled here and no GPU is needed: a hook that Triton calls before it compiles counts what would have been.
#
# Seen: for 1, 2, 3, 16, 17 and 32, one kernel with a number, three with a tuple. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q triton==3.9.0
cat > "$folder/kernels.py" <<'PYTHON'
import triton
import triton.language as tl
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import MockTensor


class Sm90:
    """What Triton asks of a driver before it compiles."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@triton.jit(do_not_specialize=["n"])
def number(out, n):
    tl.store(out, n)


@triton.jit(do_not_specialize=["pair"])
def numbers(out, pair):
    tl.store(out, pair[0] + pair[1])


driver.set_active(Sm90())
wanted = {"number": set(), "numbers": set()}


def note(key, fn, **_):
    wanted[fn.name.split(".")[-1]].add(key)
    return True  # do not compile


knobs.runtime.jit_cache_hook = note
for value in (1, 2, 3, 16, 17, 32):
    number.warmup(MockTensor(tl.int32), value, grid=(1,))
    numbers.warmup(MockTensor(tl.int32), (value, value + 1), grid=(1,))
found = {name: len(keys) for name, keys in wanted.items()}
print(f"triton {triton.__version__}: kernels for six values: {found}")
assert found["number"] == 1, "do_not_specialize no longer holds for numbers"
assert found["numbers"] == 3, "do_not_specialize now holds for tuples, or specialises them otherwise"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/kernels.py"
echo "as described"
