"""Method A as the registry knows it."""

from __future__ import annotations

from facegan.methods.a.config import MethodAConfig
from facegan.methods.spec import MethodSpec

EXAMPLES = """examples:
  facegan train --data synthetic --resolution 32 --phase1-epochs 60 --epochs 60 --out runs/first
  facegan train --data celeba.zip --attributes bald,beard --resolution 64 --out runs/celeba
  facegan train --data few/ --attributes bald,beard --resolution 64 --pretrain-from runs/celeba --out runs/few
  torchrun --nproc_per_node 2 -- train.py --method a --data faces/ --attributes bald,beard,glasses --out runs/three
The same command again resumes a run that was stopped, at whatever moment; a larger --epochs continues one that has ended (recipe best).
`--method b --help` has the flags of Method B, `--method restore --help` those of restoration."""


def smaller_batch(config: MethodAConfig) -> str:
    """Another run in less memory: a step cannot be taken in parts."""
    return f"try `batch={config.batch // 2}` with a new `out`"


METHOD_A = MethodSpec(
    summary="three-phase GAN with AdaIN merge",
    config=MethodAConfig,
    package="facegan.methods.a",
    examples=EXAMPLES,
    less_memory=smaller_batch,
)
