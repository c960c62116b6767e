"""The lists of images that stages learned from, `ids/<stage>.txt`, held against what was written when the stage ended.

A list of a finished stage is not written again, and the evaluation relies on it: the judge must not know images that critics knew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facegan.files import digest_of

DIGEST = "ids_sha256"  # in a finished stage's state.json; older versions noted none

log = logging.getLogger("facegan.train")


def list_of(root: Path, stage: str) -> Path:
    """Where a run keeps the list of a stage."""
    return root / "ids" / f"{stage}.txt"


def noted(root: Path, stage: str) -> dict[str, str]:
    """What a finished stage's state.json says of its list."""
    path = list_of(root, stage)
    return {DIGEST: digest_of(path)} if path.exists() else {}


def warn_of_damage(root: Path, stage: str, metadata: Mapping[str, Any]) -> bool:
    """Say so where the list of a finished stage is not the one that was written; whether it is not."""
    path = list_of(root, stage)
    if DIGEST not in metadata or noted(root, stage).get(DIGEST) == metadata[DIGEST]:
        return False
    log.warning(
        "%s is not the list of images that was written when %s ended: it was damaged or changed since; no network is affected, but an "
        "evaluation cannot tell all images that the run has seen: restore the file from a copy", path, stage,
    )  # fmt: skip
    return True
