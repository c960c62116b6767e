"""What a command is to the parser: options, what runs them, examples; and what is refused before PyTorch is imported: wrong options, and
files and folders that are to be read and are not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facegan.config import Options
from facegan.errors import FaceganError

if TYPE_CHECKING:
    from facegan.api.stylegan import StyleGAN
    from facegan.options import Network


# Fields that name what a command reads -> what it expects; the field's own words where there are none here.
NETWORK = "a run of `train --method b`, a folder of `facegan convert`, a StyleGAN2 .pkl or .pt"
PHOTO, STYLE = "a photo, or a folder of photos", "a .npz file of styles, or a folder of them"
INPUTS = {
    "source": "", "network": f"{NETWORK}, or the name of one that comes with the package", "prior": NETWORK, "init_from": "",
    "pretrain_from": "a run of `train --method a`, a folder of `facegan convert`, or the name of one that comes with the package",
    "photos": PHOTO, "inputs": PHOTO, "target": PHOTO, "photo": PHOTO, "rows": STYLE, "cols": STYLE, "positive": STYLE, "negative": STYLE,
    "sources": "a file or folder of that name", "folder": "a folder of .npz files",
    "faces": "a folder or .zip of faces", "from_": "folders or .zip of labelled faces",
}  # fmt: skip
SHIPPED = Path(__file__).parents[1] / "checkpoints" / "pretrained"  # whose names serve in place of a path
NAMED = ("network", "source", "prior", "init_from", "pretrain_from")  # that take such a name
SUFFIXES = (".png", ".jpg", ".jpeg", ".npz", ".npy", ".pkl", ".pt", ".pth", ".zip", ".json", ".safetensors")


@dataclass(frozen=True)
class Command:
    """One command; `options` may depend on the words that were typed, as those of a training do on its method."""

    options: type[Options] | Callable[[Sequence[str]], Sequence[type[Options]]]
    run: Callable[[dict[str, Any]], None]  # (the values that were given)
    examples: str | Callable[[Sequence[str]], str] = ""

    def options_for(self, words: Sequence[str]) -> Sequence[type[Options]]:
        """The classes whose fields are its arguments."""
        return [self.options] if isinstance(self.options, type) else self.options(words)

    def examples_for(self, words: Sequence[str]) -> str:
        """What stands at the end of its help."""
        return self.examples if isinstance(self.examples, str) else self.examples(words)


def network(options: Network) -> StyleGAN:
    """The StyleGAN2 network that options name."""
    from facegan.api.stylegan import StyleGAN

    return StyleGAN.from_pretrained(options.network, device=options.device, cuda_graphs=options.cuda_graphs)


def refuse_missing(options: type[Options], values: Mapping[str, Any]) -> None:
    """Raises FaceganError for a value that can only be a path, as it has a / or a suffix, or names no network of this package, where
    there is nothing."""
    for item in fields(options):
        if item.name not in INPUTS or item.name not in values or item.metadata.get("choices"):
            continue
        given = values[item.name]
        for value in given if isinstance(given, (list, tuple)) else [given]:
            if isinstance(value, str) and path_alone(value, item.name) and not os.path.exists(os.path.expanduser(value)):
                raise FaceganError(f"{value} does not exist; expected {INPUTS[item.name] or 'a ' + item.metadata['help']}")


def path_alone(value: str, field: str) -> bool:
    """Whether it can be nothing but a path: names, numbers, `hub:OWNER/NAME` and PATH:PART are looked at by the command."""
    if ":" in value or "*" in value or not value:
        return False
    if "/" in value or value.lower().endswith(SUFFIXES):
        return True
    return field in NAMED and not (SHIPPED / value / "config.json").exists()


def refuse_early(classes: Sequence[type[Options]], values: Mapping[str, Any]) -> None:
    """`refuse_missing`, and whatever the options themselves refuse."""
    for options in classes:
        refuse_missing(options, values)
        options(**{item.name: values[item.name] for item in fields(options) if item.name in values})
