"""Method B as the registry knows it."""

from __future__ import annotations

from facegan.methods.b.config import MethodBConfig
from facegan.methods.common.memory import more_parts
from facegan.methods.spec import MethodSpec

EXAMPLES = """examples:
  facegan train --method b --data synthetic --resolution 32 --kimg 100 --augment none --out runs/drawn
  facegan train --method b --data celeba.zip --attributes bald,beard --resolution 64 --out runs/styles
  facegan train --method b --recipe short --data celeba.zip --resolution 64 --batch 16 --kimg 400 --out runs/evening
  facegan train --method b --data faces/ --resolution 256 --init-from ffhq256.pkl --freeze-d 4 --kimg 200 --out runs/transfer
  facegan train --method b --data faces/ --conditional --out runs/labels      (then: facegan generate runs/labels --label 1,1)
  torchrun --nproc_per_node 2 -- train.py --method b --data faces/ --resolution 256 --mixed-precision bf16 --out runs/large
The same command again resumes a run; --kimg and --accumulate may change on the way. A larger --kimg continues one that has ended."""


def sizes_unused(config: MethodBConfig) -> bool:
    """A network that grows leaves its later sizes unused for a while; one that has grown, maybe taken over, its earlier colours; one
    without noise its strengths."""
    return bool(config.growing or config.init_from or config.noise == "none")


METHOD_B = MethodSpec(
    summary="StyleGAN2-ADA, whose styles are mixed",
    config=MethodBConfig,
    package="facegan.methods.b",
    examples=EXAMPLES,
    less_memory=more_parts,
    unused_parameters=sizes_unused,
)
