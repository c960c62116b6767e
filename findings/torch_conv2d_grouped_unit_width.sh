#!/usr/bin/env bash
# torch 2.13.0 on a CPU: a grouped F.conv2d sums wrongly, without a word, where a weight of width 1 has an unusual stride there.
#
# The stride of a dimension of one element is of no account, as nothing is ever read there but its first one: views come with any value.
# A filter along one axis, kept as [out, height, in] and brought to conv2d's [out, in, height, 1] by transpose and unsqueeze, has the
# stride 1 there. With a channels_last float32 input and groups the sums are then of other products. A contiguous copy of the same weight, a
# contiguous input, one group, and float64 are right.
#
# Seen: errors of 6 for two and for three groups, of 1e-6 in all other cases. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy torch==2.13.0
cat > "$folder/sums.py" <<'PYTHON'
import torch
from torch.nn.functional import conv2d

torch.manual_seed(0)
print("torch", torch.__version__)


def error(x, weight, groups):
    right = conv2d(x.double().contiguous(), weight.double().contiguous(), groups=groups, padding=1)
    return (conv2d(x, weight, groups=groups, padding=1).double() - right).abs().max().item()


for groups in (1, 2, 3):
    x = torch.randn(3, 6, 6, 6).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(6, 2, 6 // groups).transpose(1, 2).unsqueeze(3)  # [out, in, 2, 1]
    copy = weight.contiguous()
    assert torch.equal(weight, copy)
    found = {
        "the view": error(x, weight, groups),
        "its copy": error(x, copy, groups),
        "a contiguous input": error(x.contiguous(), weight, groups),
        "float64": error(x.double(), weight.double(), groups),
    }
    print(f"{groups} group(s), strides {weight.stride()} and {copy.stride()}:", {name: f"{value:.1e}" for name, value in found.items()})
    assert (found.pop("the view") > 1) == (groups > 1)
    assert all(value < 1e-4 for value in found.values())
print("as described")
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/sums.py"
