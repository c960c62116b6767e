"""The Python API: `facegan.train`, `facegan.load`, `facegan.load_restorer`, `facegan.label`, and what they return."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from facegan.api.attribute_gan import AttributeGAN
from facegan.api.faces import align
from facegan.api.restorer import Restorer
from facegan.api.sharing import fetched
from facegan.api.stylegan import StyleGAN
from facegan.checkpoints.networks import is_network
from facegan.checkpoints.restorers import is_restorer
from facegan.checkpoints.run import is_run
from facegan.checkpoints.starts import is_start
from facegan.devices import AUTO
from facegan.errors import FaceganError

if TYPE_CHECKING:
    from facegan.labelling.label import Labels

__all__ = ["AttributeGAN", "Restorer", "StyleGAN", "align", "label", "load", "load_restorer", "train"]


def train(data: str | Path = "synthetic", *, attributes: Sequence[str] | str = ("bald", "beard"), method: str = "a",
          out: str | Path, **options: Any) -> AttributeGAN | StyleGAN | Restorer:  # fmt: skip
    """Train a method, or resume the training in `out`, and open what it made.

    Args:
        data: folder or .zip of labelled faces, or "synthetic".
        attributes: what faces are to carry together, in order.
        method: "a" (three-phase GAN with AdaIN merge), "b" (StyleGAN2-ADA) or "restore".
        out: folder of the run.
        options: fields of the method's configuration, such as `resolution`, `recipe`, `seed`; see `facegan train --help`.

    Returns:
        An `AttributeGAN`, a `StyleGAN` or a `Restorer`.

    Raises:
        FaceganError: for options that make no sense, before any work is done, and for data that cannot be read.
    """
    from facegan.methods import configured
    from facegan.session import run

    config = configured(method, data=str(data), attributes=attributes, out=str(out), **options)
    with torch.random.fork_rng():  # initial weights come from the global generator
        folder = run(config)
    return load_restorer(folder, device=config.device) if config.MAKES == "restorer" else load(folder, device=config.device)


def load(source: str | Path, *, stage: str = "", device: str = AUTO, cuda_graphs: str = "auto") -> AttributeGAN | StyleGAN:
    """Open a trained generator; no code of a file is run.

    Args:
        source: a run, a folder of `facegan convert`, an NVIDIA .pkl, a .pt of rosinality, pSp or e4e, `hub:OWNER/NAME`, or the name of a
            network that comes with the package ("synthetic64").
        stage: of a run of Method A, e.g. "phase1" (default: the last generator).
        device: auto, cpu, cuda or cuda:N.
        cuda_graphs: whether what repeats is launched as CUDA graphs: auto, on or off.

    Returns:
        A `StyleGAN`, or an `AttributeGAN` for a run of Method A.

    Raises:
        FaceganError: there is no such network, or the file is damaged.
    """
    place = fetched(source)
    if is_network(place):
        return StyleGAN.from_pretrained(place, stage=stage, device=device, cuda_graphs=cuda_graphs)
    if is_restorer(place):
        raise FaceganError(f"{source} is a restorer, which makes no faces of its own: open it with `facegan.load_restorer`")
    if is_start(place) and not is_run(place):
        raise FaceganError(f"{source} holds networks for Method A's training to start from: give it to `facegan train --pretrain-from`")
    if not is_run(place):
        raise FaceganError(
            f"{source} is no run, network or checkpoint: expected a folder of `facegan train` or `facegan convert`, a .pkl or .pt file, "
            "hub:OWNER/NAME, or synthetic64, which comes with the package"
        )
    return AttributeGAN.from_pretrained(place, stage=stage, device=device, cuda_graphs=cuda_graphs)


def load_restorer(source: str | Path = "", *, scale: int = 0, device: str = AUTO, cuda_graphs: str = "auto") -> Restorer:
    """Open a restorer's weights, or plain interpolation where none are named.

    Args:
        source: a run of `method="restore"`, a folder of `facegan convert`, GPEN's .pth, `hub:OWNER/NAME`, or "synthetic256", which comes
            with the package.
        scale: how many times larger faces become, 2 or 4 (default: 2 without weights, else whatever leads to their size).
        device: auto, cpu, cuda or cuda:N.
        cuda_graphs: auto, on or off.

    Raises:
        FaceganError: there are no such weights, or they are damaged.
    """
    return Restorer(str(fetched(source)), scale=scale, device=device, cuda_graphs=cuda_graphs)


def label(faces: str | Path, *, attributes: Sequence[str] | str = ("bald", "beard"),
          from_: Sequence[str | Path] | str | Path = (), **options: Any) -> Labels:  # fmt: skip
    """Rate faces without labels, as `facegan data label` does; nothing is written until `Labels.save`.

    Args:
        faces: folder or .zip of faces.
        attributes: what to rate them for.
        from_: folders or .zip of labelled faces, to learn from.
        options: `out`, `yes`, `no`, `folds`, `resolution`, `seed`, `overwrite`, `device`; see `facegan data label --help`.

    Returns:
        The `Labels`, most uncertain first.

    Raises:
        FaceganError: for options that make no sense, too few labelled faces, and faces that already have labels of another kind.
    """
    from facegan.labelling.label import label as rated
    from facegan.options import DataLabel

    given: dict[str, Any] = dict(faces=str(faces), attributes=attributes, from_=from_, **options)
    return rated(DataLabel(**given))
