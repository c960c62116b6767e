"""`facegan train`, `tune`: a training, and what a GPU is asked once about its layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from facegan import launchers
from facegan.cli.command import Command
from facegan.cli.parser import named_method
from facegan.config import Options
from facegan.methods import METHODS, configured

TUNE_EXAMPLES = """examples:
  facegan tune --method b --resolution 256 --mixed-precision bf16     (the flags of `facegan train`, as far as they shape the networks)
Without it a rule chooses, by the layer's size and the GPU. FACEGAN_AUTOTUNE=1 has a training measure what it meets."""


def config_class(words: Sequence[str]) -> list[type[Options]]:
    """The options of the method that is named."""
    return [METHODS[named_method(words)].config]


def examples(words: Sequence[str]) -> str:
    """Those of the method that is named."""
    return METHODS[named_method(words)].examples


def run_train(values: dict[str, Any]) -> None:
    """Train, or resume."""
    config = configured(**values)
    launchers.check_environment(config)
    if config.data.partition(":")[0] != "synthetic" and not os.path.exists(os.path.expanduser(config.data)):
        from facegan.data.loaders import open_catalog

        open_catalog(config.data)  # refuses, in the words that say what is read, and without PyTorch
    if launchers.asked_for()[0] > 1:  # each process says why it ends; c10d's own words on a lost connection are a page of addresses
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from facegan.session import run

    run(config)


def run_tune(values: dict[str, Any]) -> None:
    """Measure, and print which algorithm each layer takes."""
    config = configured(**{"out": "unused", **values})
    from facegan.devices import resolve_device
    from facegan.ops.modulated_conv2d import measured
    from facegan.warmup.tune import tune

    found = tune(config, resolve_device(config.device))
    for shape, algorithm in found.items():
        print(f"{algorithm:8} {shape}")
    print(f"{len(found)} layers with a choice of algorithms; measured answers are kept in {measured.file()}")


COMMANDS = {"train": Command(config_class, run_train, examples), "tune": Command(config_class, run_tune, TUNE_EXAMPLES)}
