"""Folders of tensors and metadata that are either whole or absent: safetensors + JSON, written aside and renamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from facegan.errors import FaceganError
from facegan.files import RECORD_LIMIT, digest_of, quoted, read_json, written
from facegan.memory import out_of_memory
from facegan.tensors import in_layout_of, read_tensors

TENSORS, METADATA = "model.safetensors", "state.json"
DIGEST = "tensors_sha256"  # in the metadata, of the file of tensors; older versions wrote none


def save(folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write `folder` atomically: whatever interrupts it, `folder` is the old one, the new one or absent.

    Raises FaceganError where the disk is full or read-only; what stood before stays whole.
    """
    try:
        with written(folder) as aside:
            aside.mkdir()
            # One copy each: safetensors refuses shared or strided memory.
            plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
            save_file(plain, aside / TENSORS)
            (aside / METADATA).write_text(json.dumps({**metadata, DIGEST: digest_of(aside / TENSORS)}, indent=1))
    except Exception as error:  # safetensors raises its own type for a failed write
        if not isinstance(error, OSError) and "SafetensorError" not in type(error).__name__:
            raise
        raise FaceganError(
            f"could not save {folder} ({error}); what was saved before is whole: make room or allow writing there, "
            "then run the same command again"
        ) from error


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and metadata of a folder that `save` wrote; FaceganError where the tensors are not those that it wrote."""
    metadata = _record(folder)
    digest = metadata.pop(DIGEST, None)
    try:
        tensors = read_tensors(folder / TENSORS)
        if digest is not None and digest_of(folder / TENSORS) != digest:
            raise FaceganError(f"{TENSORS} is damaged: it is not what was written, by its digest in {METADATA}")
        return tensors, metadata
    except FaceganError as error:
        raise _unreadable(folder, error) from None


def load_metadata(folder: Path) -> dict[str, Any]:
    """The metadata alone; what they must hold is their reader's to check (`facegan.schema`)."""
    metadata = _record(folder)
    metadata.pop(DIGEST, None)
    return metadata


def _record(folder: Path) -> dict[str, Any]:
    try:
        metadata = read_json(folder / METADATA, RECORD_LIMIT)
        if not isinstance(metadata, dict):
            raise FaceganError(f"{METADATA} holds {quoted(metadata)}")
        return metadata
    except FaceganError as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: FaceganError) -> FaceganError:
    return FaceganError(f"could not read {folder} ({error}): expected a folder with {TENSORS} and {METADATA}")


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """What `load` gave goes into networks and optimisers; FaceganError for whatever does not fit there."""
    try:
        yield
    except FaceganError as error:
        raise FaceganError(f"{folder}: {error}") from None
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        reason = quoted(str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__)
        raise FaceganError(f"{folder} does not fit this run ({reason}): remove it to resume from what was saved before") from error


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and bytes."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
        found.update(plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return found.hexdigest()


# --- named state <-> flat tensors


def pack(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": tensor for name, tensor in values.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = prefix + "/"
    return {name[len(start) :]: tensor for name, tensor in tensors.items() if name.startswith(start)}


def pack_optimizer(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{prefix}/{index}/{name}": torch.as_tensor(value) for index, values in state.items() for name, value in values.items()}


def unpack_optimizer(prefix: str, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in unpack(prefix, tensors).items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if not isinstance(parameter, Tensor) or value.shape not in (parameter.shape, ()):
                expected = list(parameter.shape) if isinstance(parameter, Tensor) else "nothing"
                raise FaceganError(f"{prefix}: {quoted(name)} is {quoted(str(list(value.shape)))}, where this network has {expected}")
            if value.shape == parameter.shape and name != "step":  # files hold tensors in rows
                values[name] = in_layout_of(parameter, value)
