"""The networks of MTCNN with the weights that the package `mtcnn` carries (MIT): nothing of that package is run, which needs TensorFlow."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from facegan.errors import FaceganError
from facegan.files import read_bytes
from facegan.models.mtcnn import LandmarkNetwork, ProposalNetwork, RefinementNetwork

INSTALL = "pip install 'facegan[align]'"
_SHA256 = {  # of mtcnn 1.0.0
    "pnet.lz4": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet.lz4": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet.lz4": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
_MOST = 4 << 20  # bytes of one of them


class Networks(NamedTuple):
    """Frozen, on one device."""

    proposals: ProposalNetwork
    refinement: RefinementNetwork
    landmarks: LandmarkNetwork


def missing() -> str:
    """Why there is no detector here, in words; "" where there is one."""
    folder = _folder()
    if folder is None:
        return f"finding faces needs the weights of MTCNN: {INSTALL}"
    absent = [name for name in _SHA256 if not (folder / name).is_file()]
    if absent:
        return f"the package mtcnn has no {absent[0]}, as its release 1.0.0 does: {INSTALL}"
    needed = [name for name in ("joblib", "lz4") if importlib.util.find_spec(name) is None]
    return f"reading the weights of MTCNN needs {' and '.join(needed)}: {INSTALL}" if needed else ""


def available() -> bool:
    """Whether faces can be found here."""
    return not missing()


def _folder() -> Path | None:
    """The weights' folder, found without importing the package."""
    try:
        spec = importlib.util.find_spec("mtcnn")
    except (ImportError, ValueError):  # a broken installation, or a module of that name without a spec
        return None
    return Path(spec.origin).parent / "assets" / "weights" if spec and spec.origin else None


@cache
def networks(device: torch.device) -> Networks:
    """The three networks on a device.

    Raises:
        FaceganError: the extra `align` is not installed, or the files are not those of mtcnn 1.0.0.
    """
    folder = _folder()
    if folder is None or missing():
        raise FaceganError(missing())
    import joblib

    with torch.random.fork_rng(devices=[]):  # the layers' first weights are drawn, and replaced
        nets = (ProposalNetwork(), RefinementNetwork(), LandmarkNetwork())
    for net, (name, digest) in zip(nets, _SHA256.items(), strict=True):
        data = read_bytes(folder / name, _MOST, "file of weights")
        if hashlib.sha256(data).hexdigest() != digest:  # joblib's files are pickles: only the bytes that were looked at are read
            raise FaceganError(f"{folder / name} is not the file of mtcnn 1.0.0: {INSTALL}")
        net.load(joblib.load(io.BytesIO(data)))
        net.requires_grad_(False).eval().to(device)
    return Networks(*nets)
