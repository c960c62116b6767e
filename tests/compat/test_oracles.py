"""Other projects on our operators, as black boxes: each unpatched and patched in processes of their own.

    FACEGAN_ORACLES=~/clones pytest tests/compat/test_oracles.py

The folder holds clones under their repositories' names; nothing of them is in this one. `oracles/standins.py` says what the
unpatched code needs to run at all. Of every tensor the largest difference is taken relative to its largest entry.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "oracles"


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


with importable(HERE):
    from extras import SUBJECTS as EXTRAS
    from networks import SUBJECTS

CHECKOUTS = os.environ.get("FACEGAN_ORACLES")
BOUNDS = {"float32": 1e-5, "float64": 1e-10}
MODES = {name: ["patched", *["layers"] * subject.nvidia] for name, subject in {**SUBJECTS, **EXTRAS}.items()}
COMPARED = [(name, mode, dtype) for name in SUBJECTS for mode in MODES[name] for dtype in BOUNDS]
HALF_STEP = [
    (name, mode, dtype) for name in ("sg2ada/loss", "sg2ada/augment", "sg3-stylegan2/loss") for mode in MODES[name] for dtype in BOUNDS
]
PICKLED = [(name, mode) for name in EXTRAS if name.endswith("/pictures") for mode in MODES[name]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHECKOUTS, reason="FACEGAN_ORACLES names no folder with clones of the projects to compare with"),
]
Run = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What a subject computes in a mode, computed once."""
    folder, known = tmp_path_factory.mktemp("oracles"), {}

    def run(name: str, mode: str, dtype: str = "float32") -> dict[str, Tensor]:
        assert CHECKOUTS
        for path in {**SUBJECTS, **EXTRAS}[name].paths:
            if not (Path(CHECKOUTS) / path).is_dir():
                pytest.skip(f"no clone of {path} in {CHECKOUTS}")
        key = f"{name}-{mode}-{dtype}".replace("/", "-")
        if key not in known:
            file = folder / f"{key}.pt"
            path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
            environment = {**os.environ, "PYTHONPATH": path, "FACEGAN_ORACLE_PICKLE": str(folder / f"{name.partition('/')[0]}.pkl")}
            command = [sys.executable, "-W", "ignore", str(HERE / "run.py"), CHECKOUTS, name, mode, str(file), "--dtype", dtype]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            known[key] = torch.load(file)
        return known[key]

    return run


def relative(found: Tensor, truth: Tensor) -> float:
    """The largest difference over the largest entry."""
    return float((found.double() - truth.double()).abs().max() / truth.abs().max().double().clamp_min(1e-30)) if truth.numel() else 0.0


def expect_within(bound: float, found: dict[str, Tensor], expected: dict[str, Tensor], exact: dict[str, Tensor] | None = None) -> None:
    """`exact`: what the unpatched code computes in float64. Where an activation lies at its kink float32 is far from it on either side,
    and two results in float32 are held to twice that distance where it is more than the bound."""
    assert found.keys() == expected.keys()
    off = {}
    for name, truth in expected.items():
        assert found[name].shape == truth.shape, name
        allowed = bound if exact is None or name not in exact else max(bound, 2 * relative(truth, exact[name]))
        difference = relative(found[name], truth)
        if not difference <= allowed:
            off[name] = f"{difference:.1e} (at most {allowed:.1e})"
    assert not off, "\n".join(f"{name}: {value}" for name, value in off.items())


def of_255(image: Tensor) -> Tensor:
    return (image.double() * 127.5 + 128).clamp(0, 255)


@pytest.mark.parametrize("name, mode, dtype", COMPARED)
def test_networks(run: Run, name: str, mode: str, dtype: str) -> None:
    plain, patched = run(name, "plain", dtype), run(name, mode, dtype)
    assert (of_255(plain["picture"]) - of_255(patched["picture"])).abs().max() <= 1
    expect_within(BOUNDS[dtype], patched, plain, run(name, "plain", "float64") if dtype == "float32" else None)


@pytest.mark.parametrize("name, mode, dtype", HALF_STEP)
def test_losses_and_augmentation(run: Run, name: str, mode: str, dtype: str) -> None:
    exact = run(name, "plain", "float64") if dtype == "float32" else None
    expect_within(BOUNDS[dtype], run(name, mode, dtype), run(name, "plain", dtype), exact)


@pytest.mark.parametrize("name, mode", [("sg3-stylegan2/augment", "patched"), ("rosinality/augment", "patched")])
def test_augmentation(run: Run, name: str, mode: str) -> None:
    expect_within(BOUNDS["float32"], run(name, mode), run(name, "plain"))


def test_infinite_sampler(run: Run) -> None:
    assert torch.equal(run("sg3-stylegan2/sampler", "patched")["rows"], run("sg3-stylegan2/sampler", "plain")["rows"])


@pytest.mark.parametrize("name, mode", PICKLED)
def test_pictures_of_a_pickled_network_by_command(run: Run, name: str, mode: str) -> None:
    run(name.replace("pictures", "pickle"), "plain")
    plain, patched = run(name, "plain"), run(name, mode)
    assert plain and plain.keys() == patched.keys()
    for file, image in plain.items():
        assert (image - patched[file]).abs().max() <= 1, file
