#!/usr/bin/env bash
# torch 2.13.0, CPU: Adam(fused=True) pairs a parameter with its gradient and its averages by their place in memory, not by index.
#
# Where one of them has another memory format than the parameter, other elements' values are used, and nothing is raised; the default
# and the foreach implementation index rightly. It takes no exotic input: a channels_last weight whose gradient was set by hand, or
# whose optimiser state came back from a file format without strides (safetensors), and `load_state_dict`, which keeps the strides it
# is given.
#
# Seen: plain and foreach agree to the last bit in all cases; fused agrees to rounding where the formats agree, and elsewhere weights are
# off by up to 0.4 after two steps of 0.1 each. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

LR = 0.1
shape, last, rows = (2, 3, 2, 2), torch.channels_last, torch.contiguous_format
gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1))


def trained(gradients: torch.memory_format, averages: torch.memory_format, **implementation: bool) -> torch.Tensor:
    """Two steps of a channels_last weight; between them the state passes through `averages`."""
    weight = torch.nn.Parameter(torch.zeros(shape).contiguous(memory_format=last))
    adam = torch.optim.Adam([weight], lr=LR, **implementation)
    for _ in range(2):
        weight.grad = gradient.contiguous(memory_format=gradients)
        adam.step()
        kept = adam.state_dict()
        for state in kept["state"].values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name].contiguous(memory_format=averages)
        adam.load_state_dict(kept)
    return weight.detach()


def off(**formats: torch.memory_format) -> tuple[float, float]:
    plain = trained(**formats, foreach=False, fused=False)
    return tuple((trained(**formats, **how) - plain).abs().max().item() for how in ({"foreach": True}, {"fused": True}))


found = {
    "all channels_last": off(gradients=last, averages=last),
    "gradient in rows": off(gradients=rows, averages=last),
    "averages in rows": off(gradients=last, averages=rows),
}
print(f"torch {torch.__version__}")
for case, (foreach, fused) in found.items():
    print(f"{case:18} foreach off by {foreach:.3g}, fused off by {fused:.3g}")
assert all(foreach == 0 for foreach, _ in found.values()), "foreach no longer agrees with the plain implementation"
assert found["all channels_last"][1] < 1e-6, "fused differs where all formats agree"
assert found["gradient in rows"][1] > LR, "fused now indexes the gradient rightly"
assert found["averages in rows"][1] > 1e-3, "fused now indexes the averages rightly"
PYTHON
echo "as described"
