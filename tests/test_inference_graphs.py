"""What makes faces, restores and projects, as graphs: on the CPU, where a recording of operators stands in for one of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from facegan import cli, graphs, tape
from facegan.checkpoints.networks import open_networks
from facegan.checkpoints.trained import TrainedRun
from facegan.graphs import Graphed
from facegan.plotting.sheets import to_pil
from facegan.restore.faces import Face
from facegan.restore.restorer import RestorerPipeline
from facegan.styles.mix import Renderer
from facegan.styles.perceptual import DiscriminatorFeatures, Pyramid
from facegan.styles.projection import Projection, Settings, adam
from facegan.styles.recipe import Mixture


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(graphs, "WARMUP", 1)  # the first call is recorded, the second compared, further ones are replays
    with tape.on_the_cpu():
        yield


def replays(graphed: Graphed) -> bool:
    """Whether some kind of call has come to replays, and nothing was given up."""
    return graphed.record is not None and any(entry.calls > 2 and entry.recording for entry in graphed.entries.values())


@pytest.mark.parametrize("flags", [dict(merge="regional", critics="all"), dict(method="b", preset="tiny", phase2_epochs=0),
                                   dict(method="b", preset="tiny", phase2_epochs=0, noise="concat")], ids=str)  # fmt: skip
def test_faces_of_a_run(flags: dict, train: Callable[..., Path], recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facegan.checkpoints.trained.PART", 2)
    folder = train(**flags, cuda_graphs="off")
    plain, replayed = (TrainedRun(folder, device="cpu", cuda_graphs=mode) for mode in ("off", "on"))
    assert torch.equal(replayed.faces(range(9)), plain.faces(range(9)))
    assert replays(replayed.graphed) and plain.graphed.record is None


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_mixes(noise_mode: str, recorded: None) -> None:
    generator = open_networks("synthetic64").generator()
    ws = torch.randn(5, generator.config.num_ws, generator.config.w_dim, generator=torch.Generator().manual_seed(0)) / 4
    plain, replayed = (Renderer(generator, noise_mode, cuda_graphs=mode) for mode in ("off", "on"))
    assert torch.equal(replayed(ws), plain(ws)) and replays(replayed.graphed)


@pytest.mark.parametrize("masked", [False, True])
def test_mixes_in_channels(masked: bool, recorded: None) -> None:
    generator = open_networks("synthetic64").generator()
    shape = (2, 5, generator.config.num_ws, generator.config.w_dim)
    rows, columns = torch.randn(shape, generator=torch.Generator().manual_seed(0)) / 4
    mask = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) if masked else None
    mixed = Mixture(rows, columns, mask, (("b8.conv0", 5), ("b32.torgb", 0)))
    plain, replayed = (Renderer(generator, cuda_graphs=mode) for mode in ("off", "on"))
    assert torch.equal(replayed(mixed), plain(mixed)) and replays(replayed.graphed)
    assert not torch.equal(plain(mixed), plain(rows))


def test_restored_faces(recorded: None) -> None:
    faces = [Face(str(seed), "", to_pil(image)) for seed, image in enumerate(torch.rand(2, 3, 64, 64) * 2 - 1)]
    plain, replayed = (RestorerPipeline("synthetic256", 0, "cpu", mode) for mode in ("off", "on"))
    for shift in range(4):
        found, expected = (network(faces[shift % 2 :] + faces[: shift % 2]) for network in (replayed, plain))
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert replays(replayed.graphed)


@pytest.mark.parametrize("space", ["w", "w+"])
@pytest.mark.parametrize("likeness", ["discriminator", "pyramid"])
def test_a_projection(space: str, likeness: str, recorded: None) -> None:
    """Every step has a learning rate and noise of its own, and after three quarters of them there is none on w."""
    networks = open_networks("synthetic64")
    discriminator = networks.discriminator()
    assert discriminator is not None
    perceptual = DiscriminatorFeatures(discriminator) if likeness == "discriminator" else Pyramid()
    generator, settings = networks.generator(), Settings(space, 16, 0)  # type: ignore[arg-type]
    z = torch.randn(2, generator.config.z_dim, generator=torch.Generator().manual_seed(1))
    targets = generator.synthesis(generator.mapping(z), "const")
    plain, replayed = (Projection(generator, perceptual, targets, ["a", "b"], settings, mode) for mode in ("off", "on"))
    plain.optimizer = adam([plain.w, plain.noise], recorded=True)
    distances = [torch.stack([one.advance().clone() for _ in range(16)]) for one in (plain, replayed)]
    assert [entry.calls for entry in replayed.graphed.entries.values()] == [12, 4] and replays(replayed.graphed)
    assert torch.equal(distances[1], distances[0]) and torch.equal(replayed.styles(), plain.styles())


def test_generate_by_graphs_writes_the_same_pictures(recorded: None, tmp_path: Path) -> None:
    for mode in ("on", "off"):
        words = ["--seeds", "0-3", "--noise-mode", "random", "--device", "cpu", "--cuda-graphs", mode, "--out", str(tmp_path / mode)]
        assert cli.main(["generate", "synthetic64", *words]) == 0
    files = sorted((tmp_path / "on").iterdir())
    assert len(files) == 5 and all(file.read_bytes() == (tmp_path / "off" / file.name).read_bytes() for file in files)


@pytest.mark.parametrize("words", [["generate", "synthetic64"], ["mix", "--rows", "0", "--cols", "1"]])
def test_asked_for_without_a_gpu(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main([*words, "--device", "cpu", "--cuda-graphs", "on", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("facegan: --cuda-graphs is on, but needs one process on a CUDA device")
