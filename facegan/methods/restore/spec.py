"""The restorer's training as the registry knows it."""

from __future__ import annotations

from facegan.methods.common.memory import more_parts
from facegan.methods.restore.config import RestoreConfig
from facegan.methods.spec import MethodSpec

EXAMPLES = """examples:
  facegan train --method b --noise concat --data faces/ --resolution 128 --phase2-epochs 0 --out runs/prior
  facegan train --method restore --prior runs/prior --data faces/ --resolution 128 --out runs/restore
  facegan restore small/ --weights runs/restore --out large
  facegan train --method restore --init-from runs/restore --data faces/ --resolution 256 --out runs/restore256
  facegan train --method restore --prior ffhq256.pkl --data faces/ --resolution 256 --kimg 200 --out runs/restore256
  torchrun --nproc_per_node 2 -- train.py --method restore --prior runs/prior512 --data faces/ --resolution 512 --out runs/large
The same command again resumes a run; --kimg and --accumulate may change on the way. A larger --kimg continues one that has ended
(without --lr-decay)."""

RESTORE = MethodSpec(
    summary="a network that makes faces larger and sharper",
    config=RestoreConfig,
    package="facegan.methods.restore",
    examples=EXAMPLES,
    less_memory=more_parts,
)
