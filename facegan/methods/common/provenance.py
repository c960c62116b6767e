"""What a network that a run starts from has seen in its own training."""

from __future__ import annotations

import os

from facegan.checkpoints.networks import KIND, STAGE
from facegan.checkpoints.run import RunFolder, made_by_run
from facegan.config import TrainConfig
from facegan.data.faces import synthetic_seed
from facegan.errors import FaceganError
from facegan.training.stage import Context


def without_joint_faces(context: Context, path: str, option: str, makes: str = KIND, stage: str = STAGE) -> bool:
    """Whether it is known what that network learned from; FaceganError where joint faces of this run were among it.

    Args:
        makes: what its run makes, see `TrainConfig.MAKES`; `stage`: the one that trained it.
    """
    if made_by_run(path) != makes:
        return False
    folder = RunFolder(path)
    same = folder.record()["data_fingerprint"] == context.data.fingerprint
    if not same and not _same_faces(folder.config(), context.config):
        return False
    ids = context.data.table.ids
    seen = {ids[index] for index in context.groups.excluded}.intersection(folder.ids(stage))
    if seen:
        raise FaceganError(
            f"`{option}={path}` learned from {len(seen)} faces that carry, or may carry, all attributes of this run, such as "
            f"{min(seen)}: nothing here may have seen them, so start from another network, or train from scratch"
        )
    return same


def _same_faces(theirs: TrainConfig, ours: TrainConfig) -> bool:
    """Whether both name the same faces at different sizes, as far as can be told: what one has seen the other may not, though the files
    could be others by now, so that nothing else follows."""
    if theirs.resolution == ours.resolution:
        return False
    seeds = [synthetic_seed(config.data, config.seed) for config in (theirs, ours)]
    if None not in seeds:
        return seeds[0] == seeds[1]
    return seeds == [None, None] and os.path.realpath(theirs.data) == os.path.realpath(ours.data)
