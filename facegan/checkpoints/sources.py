"""Networks that a run starts from, told apart by what they hold and not by where they lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from facegan.checkpoints import checkpoint
from facegan.checkpoints.pretrained import located
from facegan.files import digest_of

# Options that name one, and the stages of which the first that has finished is read where it is a run.
OPTIONS = {
    "init_from": ("stylegan2", "restorer"),
    "prior": ("stylegan2",),
    "phase1_from": ("phase1",),
    "pretrain_from": ("pretrain", "phase1"),
}


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of the tensors that each of these options of a run names; nothing of what is not there, or not finished."""
    found = {name: digest(config[name], *stages) for name, stages in OPTIONS.items() if config.get(name)}
    return {name: value for name, value in found.items() if value}


def digest(path: str, *stages: str) -> str:
    """Of a file, a folder of a network, or the first finished stage of a run among `stages`; "" where there is none."""
    place = located(path)
    for file in (place, *(place / "stages" / stage / checkpoint.TENSORS for stage in stages), place / checkpoint.TENSORS):
        if file.is_file():
            return digest_of(file)
    return ""


def same_network(name: str, there: object, here: object, known: Mapping[str, str]) -> bool:
    """Whether an option names the network that it named when the run began, whose digest is `known` (not of older versions' runs)."""
    if name not in OPTIONS or not there or not here:
        return False
    if os.path.realpath(str(there)) == os.path.realpath(str(here)):
        return True
    return name in known and digest(str(here), *OPTIONS[name]) == known[name]
