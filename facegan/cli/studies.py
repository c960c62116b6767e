"""`facegan demo`, `ablate`: whole studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from facegan import options as o
from facegan.cli.command import Command
from facegan.cli.parser import named_method
from facegan.config import Options
from facegan.experiments.ablation.rows import ROWS, ROWS_B
from facegan.methods import METHODS

ABLATE_EXAMPLES = """examples:
  facegan ablate --data synthetic --resolution 32 --seeds 3 --out runs/ablation
  facegan ablate --data celeba.zip --rows plain,thesis,best --seeds 1 --out runs/celeba-rows
  facegan ablate --data celeba.zip --jobs 6 --pairs bald,beard beard,glasses smile,glasses bald,bangs --out runs/pairs
  facegan ablate --data synthetic --attributes bald,beard,glasses --rows plain,best --out runs/three
  facegan ablate --method b --data synthetic --resolution 32 --kimg 100 --augment none --seeds 3 --out runs/mixing
The same command again resumes what was stopped; --rows, --seeds and --jobs may change on the way. OUT/report.md is written again
whenever a row has ended. All flags of `facegan train` go to every row, but for those in which rows differ.
rows{}:
"""


def run_demo(values: dict[str, Any]) -> None:
    """Run the demo and print its table."""
    from facegan.experiments.demo import demo

    options = o.Demo(**values)
    print(demo(options.out, options.seed, options.device).text)


def ablation_options(words: Sequence[str]) -> list[type[Options]]:
    """The ablation's own, and those of the method that is named, but for names that are the ablation's."""
    return [o.AblateOptions, METHODS[named_method(words)].config]


def ablation_examples(words: Sequence[str]) -> str:
    """With all rows of the method that is named, a line each."""
    if named_method(words) == "b":
        sentences, other = ROWS_B, "a"
    else:
        sentences, other = {name: f"on {row.on}: {row.sentence}" if row.on else row.sentence for name, row in ROWS.items()}, "b"
    head = ABLATE_EXAMPLES.format(f" (`--method {other} --help` has those of Method {other.upper()})")
    return head + "\n".join(f"  {name:15s} {sentence}" for name, sentence in sentences.items())


def run_ablate(values: dict[str, Any]) -> None:
    """Run what is missing of an ablation."""
    from facegan.experiments.ablation.run import ablate

    own = {item.name for item in fields(o.AblateOptions)}
    given = {name: value for name, value in values.items() if name not in own}
    print(ablate(o.AblateOptions(**{name: values[name] for name in own & values.keys()}), given))


COMMANDS = {"demo": Command(o.Demo, run_demo), "ablate": Command(ablation_options, run_ablate, ablation_examples)}
