#!/usr/bin/env bash
# torch 2.13.0 on a CPU: `randn_like` of a channels_last map draws other numbers than of a map in rows, not the same ones in another order.
#
# A memory format changes nothing about a tensor's values, and converting a network to channels_last is advised for speed. Random numbers
# are an exception, of two kinds. `rand_like` and `dropout` draw the same numbers and lay them out in the order of memory, so that each
# pixel gets another one. `randn_like` and `normal_` do not even draw the same: maps in rows are filled in blocks of 16 by one algorithm,
# others number by number. `bernoulli` is not affected: its result is in rows whatever its argument is. So the same seed gives a training
# whose networks are in channels_last another path length noise, other noise inputs and other dropout masks, and a comparison of the two
# formats with `randn_like` cotangents seems to show wrong gradients. `torch.randn(x.shape)` has the same values in either.
#
# Seen: as said, for [2, 8, 4, 4] in float32. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cat > "$folder/draws.py" <<'PYTHON'
import torch

rows = torch.zeros(2, 8, 4, 4)
last = rows.contiguous(memory_format=torch.channels_last)
draws = {
    "randn_like": torch.randn_like,
    "normal_": lambda x: torch.empty_like(x).normal_(),
    "rand_like": torch.rand_like,
    "dropout": lambda x: torch.nn.functional.dropout(x + 1, 0.5),
    "bernoulli": lambda x: torch.bernoulli(x + 0.5),
    "randn": lambda x: torch.randn(x.shape),
}
found = {}
for name, draw in draws.items():
    results = []
    for x in (rows, last):
        torch.manual_seed(0)
        results.append(draw(x))
    a, b = results
    in_memory = b.permute(0, 2, 3, 1).flatten()
    found[name] = "same" if torch.equal(a, b) else "memory order" if torch.equal(a.flatten(), in_memory) else "other numbers"
    print(f"{name}: {found[name]}")
expected = {
    "randn_like": "other numbers", "normal_": "other numbers", "rand_like": "memory order", "dropout": "memory order",
    "bernoulli": "same", "randn": "same",
}
assert torch.__version__.startswith("2.13.0"), torch.__version__
assert found == expected, found
PYTHON
"$folder/venv/bin/python" "$folder/draws.py"
