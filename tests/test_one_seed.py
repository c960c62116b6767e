"""One seed is one face, to the last byte of its file, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import facegan
from facegan.checkpoints.trained import GPU_PART, PART, TrainedRun

FLAGS = {
    "a": dict(phase1_epochs=2, epochs=0),
    "conditional": dict(recipe="conditional", phase1_epochs=2),
    "b": dict(method="b", kimg=0.016, phase2_epochs=0),
}


@pytest.mark.parametrize("method", FLAGS)
def test_a_face_of_sixty_four_is_the_face_alone(method: str, train: Callable[..., Path], tmp_path: Path) -> None:
    run = train(**FLAGS[method])
    label = (1, 1) if method == "b" and TrainedRun(run, device="cpu").num_labels else ()
    gan = facegan.load(run, device="cpu")
    gan.generate(seeds=range(64), label=label).save(tmp_path / "all")
    for seeds in ("7", "63", "5,40-57,0"):
        gan.generate(seeds=seeds, label=label).save(tmp_path / seeds)
        for file in (tmp_path / seeds).glob("seed*.png"):
            assert file.read_bytes() == (tmp_path / "all" / file.name).read_bytes(), (seeds, file.name)


@pytest.mark.parametrize("count", [1, PART - 1, PART, PART + 1, 2 * PART + 3])
def test_any_number_of_faces_is_computed_in_parts_of_one_size(count: int, train: Callable[..., Path]) -> None:
    trained = TrainedRun(train(**FLAGS["conditional"]), device="cpu")
    sizes, whole = [], trained.faces(range(40))
    graphed = trained.graphed
    trained.graphed = lambda z, y: sizes.append((len(z), len(y))) or graphed(z, y)  # type: ignore[assignment]
    assert torch.equal(trained.faces(torch.arange(count)), whole[:count])
    assert set(sizes) == {(PART, PART)} and len(sizes) == -(-count // PART) and GPU_PART % PART == 0
