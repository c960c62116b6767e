"""The networks of the projects, made by their own classes, behind one face: latents, images, scores, parameters."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Networks:
    """A generator and where there is one its discriminator.

    `draw(n)` gives what an image is made from; `images(inputs)` the images and what their path lengths are measured by (the latents
    behind the mapping network); `scores(images)` the discriminator's.
    """

    generator: nn.Module
    discriminator: nn.Module | None
    draw: Callable[[int], Tensor]
    images: Callable[[Tensor], tuple[Tensor, Tensor]]
    scores: Callable[[Tensor], Tensor] | None
    size: int

    def modules(self) -> dict[str, nn.Module]:
        """By name, those that there are."""
        return {name: module for name in ("generator", "discriminator") if (module := getattr(self, name)) is not None}


def fill(module: nn.Module, seed: int) -> None:
    """What starts as zeros (biases, noise strengths) becomes random, so that its effect is seen; buffers stay."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            if not parameter.any():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter)


@dataclass(frozen=True)
class Width:
    """Of networks: small ones for values, those of the benchmarks as wide as the projects' own."""

    size: int = 32
    base: int = 256  # channels x pixels
    most: int = 16
    latent: int = 32
    layers: int = 2
    narrow: float = 1 / 32
    multiplier: int = 2  # of rosinality's channels: 1 is channel_base 16384


def nvidia(
    module: str, nested: bool = False, mapping: dict[str, Any] | None = None, critic: bool = True, **more: Any
) -> Callable[..., Networks]:
    """Generator and Discriminator of `training.<module>`; `nested`: synthesis options in a dict of their own, as in sg2ada."""

    def make(width: Width) -> Networks:
        classes = importlib.import_module(f"training.{module}")
        shared = dict(channel_base=width.base, channel_max=width.most, num_fp16_res=0)
        options = {**shared, "conv_clamp": 256, **more}
        generator = classes.Generator(
            z_dim=width.latent, w_dim=width.latent, c_dim=0, img_resolution=width.size, img_channels=3,
            mapping_kwargs={"num_layers": width.layers, **(mapping or {})}, **({"synthesis_kwargs": options} if nested else options),
        )  # fmt: skip
        discriminator = None
        if critic:
            discriminator = classes.Discriminator(c_dim=0, img_resolution=width.size, img_channels=3, conv_clamp=256, **shared)

        def images(z: Tensor) -> tuple[Tensor, Tensor]:
            ws = generator.mapping(z, None)
            return generator.synthesis(ws, noise_mode="const"), ws

        def still(z: Tensor) -> tuple[Tensor, Tensor]:  # StyleGAN3 has no noise
            ws = generator.mapping(z, None)
            return generator.synthesis(ws), ws

        return Networks(
            generator, discriminator, lambda n: torch.randn(n, width.latent), images if critic else still,
            (lambda images: discriminator(images, None)) if discriminator else None, width.size,
        )  # fmt: skip

    return make


def by_latents(generator: nn.Module, critic: nn.Module | None, width: Width) -> Networks:
    """The call of rosinality's generator, which most others have kept: a list of latents, noise of its own buffers."""

    def images(z: Tensor) -> tuple[Tensor, Tensor]:
        image, latents = generator([z], return_latents=True, randomize_noise=False)
        return image, latents

    return Networks(generator, critic, lambda n: torch.randn(n, width.latent), images, critic, width.size)


def rosinality(module: str, critic: bool = True) -> Callable[[Width], Networks]:
    def make(width: Width) -> Networks:
        classes = importlib.import_module(module)
        generator = classes.Generator(width.size, width.latent, width.layers, width.multiplier)
        return by_latents(generator, classes.Discriminator(width.size, width.multiplier) if critic else None, width)

    return make


def basicsr(width: Width) -> Networks:
    classes = importlib.import_module("basicsr.archs.stylegan2_arch")
    generator = classes.StyleGAN2Generator(width.size, width.latent, width.layers, narrow=width.narrow)
    return by_latents(generator, classes.StyleGAN2Discriminator(width.size, narrow=width.narrow), width)


def by_image(generator: nn.Module, critic: nn.Module | None, width: Width, make: Callable[[Tensor], Tensor]) -> Networks:
    """Networks that restore an image: path lengths are measured by that image."""
    return Networks(
        generator, critic, lambda n: torch.randn(n, 3, width.size, width.size).clamp(-1, 1), lambda x: (make(x), x), critic, width.size
    )


def gpen(width: Width) -> Networks:
    classes = importlib.import_module("face_model.gpen_model")
    options = dict(narrow=width.narrow, device="cpu")
    generator = classes.FullGenerator(width.size, 512, width.layers, **options)
    return by_image(generator, classes.Discriminator(width.size, **options), width, lambda x: generator(x)[0])


def gfpgan(width: Width) -> Networks:
    """As inference_gfpgan.py has it for version 1."""
    classes = importlib.import_module("gfpgan.archs.gfpganv1_arch")
    generator = classes.GFPGANv1(
        width.size, fix_decoder=False, num_mlp=width.layers, input_is_latent=True, different_w=True, narrow=width.narrow, sft_half=True
    )
    return by_image(generator, None, width, lambda x: generator(x, return_rgb=False, randomize_noise=False)[0])


@dataclass(frozen=True)
class Subject:
    """One thing that is compared: where its code is, what makes it, in which precisions and modes it runs."""

    project: str
    paths: Sequence[str]
    make: Callable[[Width], Networks]
    nvidia: bool = False  # casts to float32 in every layer
    width: Width = Width()

    @property
    def modes(self) -> tuple[str, ...]:
        return "patched", "layers"


STYLEGAN3_R = dict(conv_kernel=1, use_radial_filters=True)  # as its train.py has --cfg=stylegan3-r
SUBJECTS = {
    "sg2ada": Subject("stylegan2-ada-pytorch", ["stylegan2-ada-pytorch"], nvidia("networks", nested=True), True),
    # as its train.py makes them
    "sg3-stylegan2": Subject("stylegan3", ["stylegan3"], nvidia("networks_stylegan2", fused_modconv_default="inference_only"), True),
    "sg3-t": Subject("stylegan3", ["stylegan3"], nvidia("networks_stylegan3", critic=False, conv_clamp=256), True),
    "sg3-r": Subject(
        "stylegan3", ["stylegan3"], nvidia("networks_stylegan3", critic=False, **STYLEGAN3_R), True, Width(base=1024, most=64)
    ),
    "stylegan-xl": Subject("stylegan-xl", ["stylegan-xl"], nvidia("networks_stylegan2"), True),
    "eg3d": Subject("eg3d", ["eg3d/eg3d"], nvidia("networks_stylegan2"), True),
    "rosinality": Subject("stylegan2-pytorch", ["stylegan2-pytorch"], rosinality("model")),
    "swagan": Subject("stylegan2-pytorch", ["stylegan2-pytorch"], rosinality("swagan")),
    "psp": Subject("pixel2style2pixel", ["pixel2style2pixel"], rosinality("models.stylegan2.model")),
    "gpen": Subject("GPEN", ["GPEN", "GPEN/face_model"], gpen),
    "basicsr": Subject("BasicSR", ["BasicSR"], basicsr),
    "gfpgan": Subject("GFPGAN", ["GFPGAN", "BasicSR"], gfpgan),
}
