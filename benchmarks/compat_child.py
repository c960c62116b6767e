"""A project's networks in one mode, in a process of their own: one timed round for every line on standard input.

    python benchmarks/compat_child.py CHECKOUTS SUBJECT MODE KIND --size 64

SUBJECT and MODE as `tests/compat/oracles/run.py` has them, or `facegan` with the mode `plain`: this package's own networks of that
size. KIND is `forward` or `step`: both losses, R1 and path length, each with its gradients. It answers `ready`, and then seconds:
of the process on a CPU, of the wall on a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "compat" / "oracles")]

import run  # noqa: E402
from networks import SUBJECTS, Networks, Width  # noqa: E402

from facegan.memory import keep_memory  # noqa: E402


def own(width: Width) -> Networks:
    """This package's networks of the same width."""
    from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config

    config = StyleGAN2Config(
        width.size, width.latent, width.latent, mapping_layers=width.layers, channel_base=width.base, channel_max=width.most
    )
    generator, discriminator = (network(config).to(memory_format=torch.channels_last) for network in (Generator, Discriminator))

    def images(z: Tensor) -> tuple[Tensor, Tensor]:
        ws = generator.mapping(z, None)
        return generator.synthesis(ws, noise_mode="const"), ws

    return Networks(generator, discriminator, lambda n: torch.randn(n, width.latent), images, lambda x: discriminator(x, None), width.size)


class Work:
    """Both kinds of round, of `n` images."""

    def __init__(self, networks: Networks, n: int, device: str) -> None:
        self.networks, self.n, self.device = networks, n, device
        self.reals = torch.rand(n, 3, networks.size, networks.size, device=device) * 2 - 1

    def forward(self) -> None:
        with torch.no_grad():
            self.networks.images(self.inputs())

    def step(self) -> None:
        networks = self.networks
        assert networks.scores is not None and networks.discriminator is not None
        generator, discriminator = networks.generator, networks.discriminator
        self.descend(generator, F.softplus(-networks.scores(networks.images(self.inputs())[0])).mean())
        with torch.no_grad():
            fakes, _ = networks.images(self.inputs())
        scores = networks.scores(fakes), networks.scores(self.reals)
        self.descend(discriminator, (F.softplus(scores[0]) + F.softplus(-scores[1])).mean())
        reals = self.reals.detach().requires_grad_()
        (slope,) = torch.autograd.grad(networks.scores(reals).sum(), reals, create_graph=True)
        self.descend(discriminator, slope.square().sum((1, 2, 3)).mean())
        image, latents = networks.images(self.inputs())
        noise = torch.randn_like(image) / networks.size
        (path,) = torch.autograd.grad((image * noise).sum(), latents, create_graph=True)
        self.descend(generator, (path.square().sum(-1).mean(-1).sqrt() - 0.5).square().mean())

    def inputs(self) -> Tensor:
        return self.networks.draw(self.n).to(self.device)

    def descend(self, network: nn.Module, loss: Tensor) -> None:
        """All that a step does but for the optimizer, which is the same on both sides."""
        torch.autograd.grad(loss, [p for p in network.parameters() if p.requires_grad], allow_unused=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=lambda path: Path(path).resolve())
    parser.add_argument("subject", choices=[*SUBJECTS, "facegan"])
    parser.add_argument("mode", choices=run.MODES)
    parser.add_argument("kind", choices=("forward", "step"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--profile", action="store_true", help="print what a round spends its time in, by operator, and end")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.mode != "plain" or options.subject == "facegan":  # as `python -m facegan.compat` and facegan's own commands do
        keep_memory()
    width = Width(options.size, 16384, 512, 512, 8, 1.0, 1)
    torch.manual_seed(0)
    if options.subject == "facegan":
        networks = own(width)
        for module in networks.modules().values():
            module.to(options.device)
    else:
        subject = SUBJECTS[options.subject]
        run.prepare(subject, options.checkouts, options.mode, options.device)
        networks = run.make(subject, width, options.device)
    work = Work(networks, options.batch, options.device)
    call = getattr(work, options.kind)
    call()
    if options.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            call()
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45))
        return 0
    print("ready", flush=True)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    for _ in sys.stdin:
        if options.device != "cpu":
            torch.cuda.synchronize()
        start = clock()
        call()
        if options.device != "cpu":
            torch.cuda.synchronize()
        print(clock() - start, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
