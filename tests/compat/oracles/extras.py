"""What is compared beside networks: NVIDIA's augmentation, losses, sampler and pictures of a pickled network; rosinality's augmentation."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import pickle
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import standins
import torch
from measures import BATCH
from networks import SUBJECTS as NETWORKS
from networks import Networks, fill
from PIL import Image
from torch import Tensor

EVERYTHING = dict.fromkeys(
    "xflip rotate90 xint scale rotate aniso xfrac brightness contrast lumaflip hue saturation imgfilter noise cutout".split(), 1
)
SEEDS = "0-3"


def small(name: str) -> Networks:
    torch.manual_seed(0)
    networks = NETWORKS[name].make(NETWORKS[name].width)
    for index, network in enumerate(networks.modules().values()):
        fill(network, index)
        network.train().to(torch.get_default_dtype())
    return networks


def augment(name: str) -> dict[str, Tensor]:
    pipe = importlib.import_module("training.augment").AugmentPipe(**EVERYTHING).to(torch.get_default_dtype())
    torch.manual_seed(1)
    images = torch.rand(BATCH, 3, 32, 32).requires_grad_()
    changed = pipe(images)
    (gradient,) = torch.autograd.grad((changed * torch.randn(changed.shape)).sum(), images)
    return {"picture": changed, "gradient": gradient, **second_order(pipe, images)}


def second_order(pipe: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(2)
    (slope,) = torch.autograd.grad(pipe(images).square().sum(), images, create_graph=True)
    (gradient,) = torch.autograd.grad(slope.square().sum(), images)
    return {"slope": slope, "gradient of the slope": gradient}


def non_leaking(name: str) -> dict[str, Tensor]:
    module = importlib.import_module("non_leaking")
    torch.manual_seed(1)
    images = torch.rand(BATCH, 3, 32, 32)
    return {"picture": module.augment(images, 1.0)[0]}  # its own backward of grid_sample fails on this PyTorch, operators or not


def loss(name: str) -> dict[str, Tensor]:
    """Every phase of their StyleGAN2Loss with their AugmentPipe: what it leaves in the gradients of G and D."""
    networks = small(name)
    generator, discriminator = networks.generator, networks.discriminator
    assert discriminator is not None
    pipe = importlib.import_module("training.augment").AugmentPipe(xflip=1, xint=1, scale=1, rotate=1, brightness=1)
    pipe.to(torch.get_default_dtype())
    made = importlib.import_module("training.loss").StyleGAN2Loss
    ada = name == "sg2ada"
    options = dict(augment_pipe=pipe, r1_gamma=1, style_mixing_prob=0.9, pl_weight=2)
    device = torch.device("cpu")
    if ada:
        losses = made(device, generator.mapping, generator.synthesis, discriminator, **options)
    else:
        losses = made(device, generator, discriminator, **options)
    found: dict[str, Tensor] = {}
    for index, phase in enumerate(("Gmain", "Greg", "Dmain", "Dreg")):
        trained, other = (generator, discriminator) if phase.startswith("G") else (discriminator, generator)
        trained.requires_grad_(True), other.requires_grad_(False)
        trained.zero_grad(set_to_none=True)
        torch.manual_seed(10 + index)
        reals, z, none = torch.randn(BATCH, 3, 32, 32), networks.draw(BATCH), torch.zeros(BATCH, 0)
        last = dict(sync=True) if ada else dict(cur_nimg=0)
        losses.accumulate_gradients(phase=phase, real_img=reals, real_c=none, gen_z=z, gen_c=none, gain=1, **last)
        for entry, parameter in trained.named_parameters():
            if parameter.numel() > 1:  # what nothing depends on has zeros on one side and nothing on the other
                found[f"{phase}/{entry}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return found


def sampler(name: str) -> dict[str, Tensor]:
    rows = importlib.import_module("torch_utils.misc").InfiniteSampler(list(range(50)), seed=3)
    loader = torch.utils.data.DataLoader(list(range(50)), sampler=rows, batch_size=4)
    return {"rows": torch.stack(list(itertools.islice(loader, 30)))}


def pictures(name: str) -> dict[str, Tensor]:
    """PNGs of their script, run as a command, of a pickle that their own classes wrote and that carries its source."""
    script = "generate.py" if name == "sg2ada" else "gen_images.py"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(os.environ["FACEGAN_ORACLE_PICKLE"])
        arguments = [f"--outdir={folder}", "--trunc=1", f"--seeds={SEEDS}", f"--network={file}"]
        if not torch.cuda.is_available():
            standins.no_gpu()
        mode = os.environ["FACEGAN_ORACLE_MODE"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            if mode == "plain":
                sys.argv = [script, *arguments]
                runpy.run_path(script, run_name="__main__")
            else:  # what `python -m facegan.compat` does
                sys.argv = ["facegan.compat", *["--layers"] * (mode == "layers"), script, *arguments]
                runpy.run_module("facegan.compat", run_name="__main__", alter_sys=True)
        return {
            f"png/{path.name}": torch.from_numpy(np.asarray(Image.open(path)).astype(np.int32))
            for path in sorted(Path(folder).glob("*.png"))
        }


def write_pickle(name: str) -> dict[str, Tensor]:
    networks = small(name)
    generator = networks.generator.eval().requires_grad_(False)
    with Path(os.environ["FACEGAN_ORACLE_PICKLE"]).open("wb") as handle:
        content = dict(G=generator, D=networks.discriminator or generator, G_ema=generator, augment_pipe=None, training_set_kwargs=None)
        pickle.dump(content, handle)
    return {}


WORK: dict[str, tuple[str, Callable[[str], dict[str, Tensor]]]] = {
    "sg2ada/augment": ("sg2ada", augment),
    "sg2ada/loss": ("sg2ada", loss),
    "sg2ada/pickle": ("sg2ada", write_pickle),
    "sg2ada/pictures": ("sg2ada", pictures),
    "sg3-stylegan2/augment": ("sg3-stylegan2", augment),
    "sg3-stylegan2/loss": ("sg3-stylegan2", loss),
    "sg3-stylegan2/sampler": ("sg3-stylegan2", sampler),
    "sg3-stylegan2/pickle": ("sg3-stylegan2", write_pickle),
    "sg3-stylegan2/pictures": ("sg3-stylegan2", pictures),
    "sg3-t/pickle": ("sg3-t", write_pickle),
    "sg3-t/pictures": ("sg3-t", pictures),
    "rosinality/augment": ("rosinality", non_leaking),
}
SUBJECTS = {name: NETWORKS[network] for name, (network, _) in WORK.items()}


def compute(name: str, dtype: torch.dtype, checkouts: Path) -> dict[str, Tensor]:
    network, work = WORK[name]
    if dtype == torch.float32:
        return work(network)
    small(network)  # all modules are imported before their name `torch` is replaced
    for module in ("augment", "loss"):
        importlib.import_module(f"training.{module}")
    with standins.float64(checkouts):
        return work(network)
