"""Which kernels a configuration needs, kept from one run to the next: to find it out again takes seconds.

An answer holds for one configuration, GPU and version of everything it was found by: this package's sources, PyTorch and Triton.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import facegan_kernels
import torch
import triton

import facegan
from facegan.config import TrainConfig
from facegan.files import write_whole
from facegan.ops.modulated_conv2d import algorithms, measured
from facegan.warmup.kernels import Specialisation

# What has no say in which kernels there are, but changes from run to run.
SILENT = (
    "out", "data", "seed", "num", "minimum_images", "snapshot_every", "log_every", "keep_checkpoints", "lr", "critic_lr", "patience",
    "device", "cuda_graphs", "stream", "cache_limit", "download_limit", "decoders",
)  # fmt: skip
log = logging.getLogger("facegan.train")


def recalled(config: TrainConfig, device: torch.device, processes: int, attributes: int) -> list[Specialisation] | None:
    """What `keep` was given for the same; None where it was given nothing, or what is there cannot be read."""
    try:
        return [Specialisation(**values) for values in json.loads(_file(config, device, processes, attributes).read_text())]
    except (OSError, ValueError, TypeError):
        return None


def keep(kernels: list[Specialisation], config: TrainConfig, device: torch.device, processes: int, attributes: int) -> None:
    file = _file(config, device, processes, attributes)
    try:
        write_whole(file, json.dumps([asdict(kernel) for kernel in kernels]))
    except OSError as error:
        log.warning("cannot keep in %s which kernels this configuration needs (%s): it is found out again in every run", file, error)


def _file(config: TrainConfig, device: torch.device, processes: int, attributes: int) -> Path:
    given: dict[str, Any] = {name: value for name, value in config.to_json().items() if name not in SILENT}
    answers = measured.file().read_text() if measured.file().exists() else ""
    gpu = torch.cuda.get_device_name(device), torch.__version__, triton.__version__
    digest = hashlib.sha256(json.dumps((given, processes, attributes, *gpu, _settings(), answers), sort_keys=True, default=str).encode())
    for package in (facegan, facegan_kernels):
        root = Path(str(package.__file__)).parent
        for source in sorted(root.rglob("*.py")):
            digest.update(source.read_bytes())
    return measured.file().parent / "kernels" / f"{digest.hexdigest()[:32]}.json"


def _settings() -> list[str]:
    """Of the process, which kernels depend on."""
    precision = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return [algorithms.requested_algorithm(), str(measured.measuring()), str(precision)]
