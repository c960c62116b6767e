"""One subject in one mode, in this process alone: what it computes goes into a file of tensors.

    python tests/compat/oracles/run.py CHECKOUTS SUBJECT MODE FILE [--dtype float64] [--device cpu]

CHECKOUTS is a folder with clones, each under its repository's name. MODE is `plain` (their own operators, with the stand-ins of
`standins.py`), `patched` (`facegan.compat`) or `layers` (with `layers=True`). Their code is executed, never read; a failure is told
without lines of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from pathlib import Path

import extras
import standins
import torch
from measures import of_networks
from networks import SUBJECTS, Networks, Subject, Width, fill

MODES = ("plain", "patched", "layers")


def prepare(subject: Subject, checkouts: Path, mode: str, device: str, install: bool = True) -> None:
    """The project's code can be imported after this, as the mode has it; `install`: here, not by `python -m facegan.compat`."""
    torch.set_num_threads(1)
    sys.path[:0] = [str(checkouts / path) for path in subject.paths]
    os.chdir(checkouts / subject.paths[0])
    standins.surroundings()
    if mode == "plain":
        standins.plain(subject.project, device)
        if subject.nvidia and device != "cpu":
            standins.reference()
    elif install:
        from facegan import compat

        compat.install(layers=mode == "layers")


def make(subject: Subject, width: Width, device: str) -> Networks:
    """With weights that are the same in every mode; the random numbers of construction are a seed's."""
    torch.manual_seed(0)
    networks = subject.make(width)
    for index, module in enumerate(networks.modules().values()):
        fill(module, index)
        module.to(device).train()
    return networks


def compute(name: str, checkouts: Path, mode: str, dtype: torch.dtype, device: str) -> dict[str, torch.Tensor]:
    subject = {**SUBJECTS, **extras.SUBJECTS}[name]
    prepare(subject, checkouts, mode, device, not name.endswith("/pictures"))
    if name in extras.SUBJECTS:
        return extras.compute(name, dtype, checkouts)
    networks = make(subject, subject.width, device)
    raised = standins.float64(checkouts) if subject.nvidia and dtype == torch.float64 else contextlib.nullcontext()
    with raised:
        for module in networks.modules().values():
            module.to(dtype)
        found = dict(of_networks(networks, dtype, device))
    for key, module in networks.modules().items():
        for entry, value in module.state_dict().items():
            found[f"state/{key}/{entry}"] = value
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=lambda path: Path(path).resolve())
    parser.add_argument("subject", choices=[*SUBJECTS, *extras.SUBJECTS])
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("file", type=lambda path: Path(path).resolve())
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    os.environ["FACEGAN_ORACLE_MODE"] = options.mode
    try:
        found = compute(options.subject, options.checkouts, options.mode, getattr(torch, options.dtype), options.device)
    except Exception as error:
        for frame in traceback.extract_tb(error.__traceback__):
            print(f"  {frame.filename}:{frame.lineno} in {frame.name}", file=sys.stderr)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    torch.save({name: value.detach().cpu() for name, value in found.items()}, options.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
