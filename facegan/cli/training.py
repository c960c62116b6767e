"""`facegan train`, `generate`, `convert`: networks are made, used and exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facegan.cli.options import RAW, add_device
from facegan.training import config as training_config

TRAIN_EXAMPLES = """examples:
  facegan train --data synthetic --resolution 32 --phase1-epochs 60 --epochs 60 --out runs/first
  facegan train --data celeba.zip --attributes bald,beard --resolution 64 --out runs/celeba
  accelerate launch train.py --method a --data faces/ --attributes bald,beard,glasses --out runs/three
The same command again resumes a run that was stopped, at whatever moment; with more --epochs one that has ended goes on (recipe best).
`--method b --help` has the flags of Method B, `--method restore --help` those of restoration."""
TRAIN_B_EXAMPLES = """examples:
  facegan train --method b --data synthetic --resolution 32 --kimg 100 --augment none --out runs/drawn
  facegan train --method b --data celeba.zip --attributes bald,beard --resolution 64 --out runs/styles
  facegan train --method b --data faces/ --resolution 256 --init-from ffhq256.pkl --freeze-d 4 --kimg 200 --out runs/transfer
  facegan train --method b --data faces/ --conditional --out runs/labels      (then: facegan generate runs/labels --label 1,1)
  accelerate launch train.py --method b --data faces/ --resolution 256 --mixed-precision bf16 --out runs/large
The same command again resumes a run; --kimg and --accumulate may change on the way. More --kimg lets one that has ended go on."""
TRAIN_RESTORE_EXAMPLES = """examples:
  facegan train --method b --noise concat --data faces/ --resolution 128 --phase2-epochs 0 --out runs/prior
  facegan train --method restore --prior runs/prior --data faces/ --resolution 128 --out runs/restore
  facegan restore small/ --weights runs/restore --out large
  facegan train --method restore --prior ffhq256.pkl --data faces/ --resolution 256 --kimg 200 --out runs/restore256
  accelerate launch train.py --method restore --prior runs/prior512 --data faces/ --resolution 512 --mixed-precision bf16 --out runs/large
The same command again resumes a run; --kimg and --accumulate may change on the way. More --kimg lets one that has ended go on."""
GENERATE_EXAMPLES = """examples:
  facegan generate runs/mine --seeds 0-63 --best 16 --out faces
  facegan generate ffhq.pkl --seeds 85,265,297 --truncation 0.7 --out faces      (the faces that its own code makes of these seeds)"""
CONVERT_EXAMPLES = """examples:
  facegan convert ffhq.pkl networks/ffhq          (then: facegan mix --network networks/ffhq ...)
  facegan convert runs/styles styles.pt           (for programs that read rosinality's checkpoints)
  facegan convert runs/styles shared --slim       (half the size, to pass on)"""


def add_commands(commands: Any, argv: Sequence[str]) -> None:
    """`facegan train` has the flags of the method that `argv` names."""
    method = training_config.named_method(argv)
    examples = {"a": TRAIN_EXAMPLES, "b": TRAIN_B_EXAMPLES, "restore": TRAIN_RESTORE_EXAMPLES}[method]
    train = commands.add_parser("train", help="train a generator, or resume one", epilog=examples, formatter_class=RAW)
    training_config.add_arguments(train, method)
    train.set_defaults(command=run_train)

    generate = commands.add_parser("generate", help="make faces with a trained run or a StyleGAN2 network",
                                   epilog=GENERATE_EXAMPLES, formatter_class=RAW)  # fmt: skip
    generate.add_argument("run", help="folder of `facegan train --out` or `facegan convert`, or a StyleGAN2 .pkl or .pt file")
    generate.add_argument("--seeds", default="0-15", help="which faces: 0-63, or 1,5,9 (default: %(default)s); one seed, one face")
    generate.add_argument("--out", required=True, help="folder for seed0000.png ... and grid.png")
    generate.add_argument("--stage", default="", help="a stage of the run, e.g. phase1 (default: its last generator)")
    generate.add_argument("--best", type=int, default=0, metavar="N", help="only the N that the run's critics score highest")
    generate.add_argument("--truncation", type=training_config.finite, default=1.0, metavar="PSI",
                          help="StyleGAN2: below 1 trades variety for quality (default: %(default)s)")  # fmt: skip
    generate.add_argument("--noise-mode", choices=("const", "random", "none"), default="const", help="StyleGAN2 (default: %(default)s)")
    generate.add_argument("--label", default="", help="conditional StyleGAN2: one number a label, e.g. 1,1 (in the order of --attributes)")
    add_device(generate, graphs=True)
    generate.set_defaults(command=run_generate)

    convert = commands.add_parser("convert", help="read a StyleGAN2 checkpoint of another project; none of its code is run",
                                  epilog=CONVERT_EXAMPLES, formatter_class=RAW)  # fmt: skip
    convert.add_argument("source", metavar="IN", help="NVIDIA's .pkl, a .pt of rosinality, pSp or e4e, or a folder of ours")
    convert.add_argument("out", metavar="OUT", help="folder for model.safetensors and config.json, or FILE.pt in rosinality's form")
    convert.add_argument("--slim", action="store_true", help="to pass on: averaged generator, discriminator in half precision")
    convert.add_argument("--force", action="store_true", help="write a FILE.pt even if rosinality's own code cannot load such a network")
    convert.set_defaults(command=run_convert)


def run_train(arguments: dict) -> None:
    from facegan.training.session import run

    run(training_config.from_arguments(arguments))


def run_generate(arguments: dict) -> None:
    from facegan.generate import generate

    generate(**arguments)


def run_convert(arguments: dict) -> None:
    from facegan.checkpoints.convert import convert

    convert(**arguments)
