"""safetensors files: read within limits, as what comes from others may be anything; networks are built once their tensors fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from facegan.errors import FaceganError
from facegan.files import quoted, regular_file

LARGEST = 8 << 30  # bytes of a file of tensors
LONGEST_HEADER = 4 << 20  # bytes; a training's of a thousand tensors has 100,000
M = TypeVar("M", bound=nn.Module)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        FaceganError: there is none, it is no regular file, is too large, or is damaged. Safetensors itself sees to it that the
            header's shapes agree with the bytes that follow.
    """
    size = regular_file(path, LARGEST, "file of tensors")
    try:
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if not header <= min(size - 8, LONGEST_HEADER):
            raise FaceganError(f"{path} has a header of {header:,} bytes, in a file of {size:,}; expected at most {LONGEST_HEADER:,}")
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise FaceganError(f"{path} is no readable file of tensors ({quoted(str(error))})") from None


def refuse_other_tensors(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: object) -> None:
    """FaceganError unless both have the same names and shapes; `where` begins the message."""
    for name in sorted(expected.keys() | state.keys()):
        theirs, ours = (f"{list(tensors[name].shape)}" if name in tensors else "absent" for tensors in (state, expected))
        if theirs != ours:
            raise FaceganError(f"{where}: {quoted(name)} is {quoted(theirs)}, where this network has {ours}")


@torch.random.fork_rng(devices=[])  # the layers' first weights are drawn, and replaced
def rebuilt(make: Callable[[], M], state: Mapping[str, Tensor], where: object) -> M:
    """`make()` with the weights of `state`; memory is taken only once their names and shapes are known to fit."""
    with torch.device("meta"):
        expected = make().state_dict()
    refuse_other_tensors(state, expected, where)
    network = make()
    network.load_state_dict(state)
    return network
