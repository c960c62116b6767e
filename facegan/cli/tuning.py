"""`facegan tune`: what a GPU is asked once about the layers of a training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from facegan.training import config as training_config

TUNE_EXAMPLES = """examples:
  facegan tune --method b --resolution 256 --mixed-precision bf16     (the flags of `facegan train`, as far as they shape the networks)
Without it a rule chooses, by the layer's size and the GPU. FACEGAN_AUTOTUNE=1 has a training measure what it meets."""


def add_commands(commands: Any, argv: Sequence[str] = ()) -> None:
    """`facegan tune` has the flags of `facegan train` of the method that `argv` names."""
    tune = commands.add_parser("tune", help="measure which algorithm suits each layer of a training on this GPU, and keep the answers",
                               epilog=TUNE_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    training_config.add_arguments(tune, training_config.named_method(argv))
    tune.set_defaults(command=run_tune)


def run_tune(arguments: dict) -> None:
    from facegan.devices import resolve_device
    from facegan.ops.modulated_conv2d import measured
    from facegan.warmup.tune import tune

    config = training_config.from_arguments({"out": "unused", **arguments})
    found = tune(config, resolve_device(config.device))
    for shape, name in found.items():
        print(f"{name:8} {shape}")
    print(f"{len(found)} layers with a choice of algorithms; measured answers are kept in {measured.file()}")
