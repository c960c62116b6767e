"""What a network that a run starts from has seen in its own training."""

from __future__ import annotations

from facegan.checkpoints.networks import KIND, STAGE
from facegan.checkpoints.run import RunFolder, made_by_run
from facegan.errors import FaceganError
from facegan.training.stage import Context


def without_joint_faces(context: Context, path: str, option: str, makes: str = KIND, stage: str = STAGE) -> bool:
    """Whether it is known what that network learned from; FaceganError where joint faces of this run were among it.

    Args:
        makes: what its run makes, see `TrainConfig.MAKES`; `stage`: the one that trained it.
    """
    if made_by_run(path) != makes or RunFolder(path).record()["data_fingerprint"] != context.data.fingerprint:
        return False
    ids = context.data.table.ids
    seen = {ids[index] for index in context.groups.excluded}.intersection(RunFolder(path).ids(stage))
    if seen:
        raise FaceganError(
            f"`{option}={path}` learned from {len(seen)} faces that carry, or may carry, all attributes of this run, such as "
            f"{min(seen)}: nothing here may have seen them, so start from another network, or train from scratch"
        )
    return True
