#!/usr/bin/env bash
# torch 2.13.0 on a CPU: the weight gradient of F.conv2d is an error for a weight of one output channel that came from TensorFlow's order.
#
# TensorFlow keeps a convolution's weight as [height, width, in, out]; permute(3, 2, 0, 1) brings it to conv2d's order without a copy. With
# one output channel, as a mask or a score has, that view counts as channels_last whatever its stride over the single channel. With a
# channels_last input in bfloat16 or float64 the forward pass is right, and backward ends in "slow_conv2d: grad_weight must be contiguous".
# Two output channels, an NCHW input, float32 (which oneDNN computes), and a clone of the weight in channels_last are right.
#
# Seen: the error in bfloat16 and float64, none in float32. The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy torch==2.13.0
cat > "$folder/gradient.py" <<'PYTHON'
import torch
from torch.nn.functional import conv2d

print("torch", torch.__version__)


def said(out, dtype, memory_format, copy=False):
    torch.manual_seed(0)
    weight = torch.randn(3, 3, 4, out, dtype=dtype).permute(3, 2, 0, 1)
    weight = (weight.clone(memory_format=torch.channels_last) if copy else weight).requires_grad_()
    x = torch.randn(2, 4, 8, 8, dtype=dtype).contiguous(memory_format=memory_format)
    try:
        conv2d(x, weight).sum().backward()
    except RuntimeError as error:
        return str(error)
    wide = weight.detach().double().contiguous().requires_grad_()
    conv2d(x.double().contiguous(), wide).sum().backward()
    torch.testing.assert_close(weight.grad.double(), wide.grad, rtol=0.05, atol=0.5)
    return "right"


for dtype in (torch.float32, torch.bfloat16, torch.float64):
    found = {
        "one channel": said(1, dtype, torch.channels_last),
        "two channels": said(2, dtype, torch.channels_last),
        "an NCHW input": said(1, dtype, torch.contiguous_format),
        "a clone": said(1, dtype, torch.channels_last, copy=True),
    }
    print(dtype, found)
    expected = "right" if dtype == torch.float32 else "slow_conv2d: grad_weight must be contiguous"
    assert found.pop("one channel") == expected
    assert set(found.values()) == {"right"}
PYTHON
"$folder/venv/bin/python" "$folder/gradient.py"
