"""Other projects with facegan against themselves without it: what `test_compat.py` measures, and the bars on a CPU."""

from __future__ import annotations

from typing import NamedTuple


class Race(NamedTuple):
    """One round of `compat_child.py` against another."""

    title: str
    subject: str
    kind: str  # "forward" or "step"
    size: int
    mode: str
    bar: float
    rival: str | None = None  # another subject, unpatched; None for the same


RACES = {
    "rosinality-forward": Race("rosinality's generation, 256 px", "rosinality", "forward", 256, "patched", 1.8),
    "rosinality-step": Race("rosinality's training step, 64 px", "rosinality", "step", 64, "patched", 1.8),
    "rosinality-step-layers": Race("the same with `--layers`", "rosinality", "step", 64, "layers", 1.8),
    "gfpgan-forward-operators": Race("GFPGANv1, 256 px, operators only", "gfpgan", "forward", 256, "patched", 1.7),
    "gfpgan-forward": Race("GFPGANv1, 256 px, with `--layers`", "gfpgan", "forward", 256, "layers", 1.7),
    "sg3-t-forward": Race("StyleGAN3-T's generation, 64 px", "sg3-t", "forward", 64, "patched", 1.4),
    "sg3-r-forward": Race("StyleGAN3-R's generation, 64 px", "sg3-r", "forward", 64, "patched", 1.4),
    "sg3-stylegan2-forward": Race("NVIDIA's StyleGAN2, generation, 256 px, `--layers`", "sg3-stylegan2", "forward", 256, "layers", 1.4),
    "sg3-stylegan2-step-operators": Race(
        "NVIDIA's StyleGAN2, training step, 64 px, operators only", "sg3-stylegan2", "step", 64, "patched", 1.2
    ),
    "sg3-stylegan2-step": Race("NVIDIA's StyleGAN2, training step, 64 px, `--layers`", "sg3-stylegan2", "step", 64, "layers", 1.2),
    "facegan-step": Race("facegan's training step, 64 px, against NVIDIA's", "facegan", "step", 64, "plain", 1.2, "sg3-stylegan2"),
}
