"""Training a restorer: its losses written out again, its learning rates, what it may see, and which priors it takes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.checkpoints.restorers import RestorerWeights, is_restorer, open_restorer, save_restorer
from facegan.cli import main
from facegan.config import TrainConfig
from facegan.errors import FaceganError
from facegan.methods.common.parts import update
from facegan.methods.restore import stage as stages
from facegan.methods.restore.config import RestoreConfig
from facegan.methods.restore.objective import losses
from facegan.methods.restore.ranges import Degradation
from facegan.methods.restore.stage import RestorerTraining
from facegan.models.restorer import Restorer
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config
from facegan.ops import downsample2d, setup_filter, upsample2d
from facegan.training import loop
from facegan.training.batches import RealBatches

Train = Callable[..., Path]
NETWORK = StyleGAN2Config(resolution=16, z_dim=6, w_dim=5, mapping_layers=2, channel_base=64, channel_max=8)


@pytest.fixture(scope="module")
def trained(train: Train) -> Path:
    return train(method="restore", log_every=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """saved(**options): the folder of a random network of that shape, not known to have seen joint faces."""

    def saved(**options: object) -> str:
        torch.manual_seed(0)
        config = replace(NETWORK, **options)
        states = {"G_ema": Generator(config).state_dict(), "D": Discriminator(config).state_dict()}
        folder = tmp_path_factory.mktemp("prior")
        save_networks(StyleGAN2Checkpoint(config, states, may_have_seen_joint_faces=False), folder)
        return str(folder)

    return saved


# --- one step


def test_the_losses_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    restored, faces, scores = torch.randn(4, 3, 8, 8).double(), torch.randn(4, 3, 8, 8).double(), torch.randn(4).double()
    features = [torch.randn(4, c, s, s) for c, s in ((5, 4), (7, 2))]
    targets = [torch.randn_like(part) for part in features]
    found = losses(restored, faces, scores, features, targets)
    probability = 1 / (1 + (-scores).exp())
    torch.testing.assert_close(found.adversarial, -probability.log().mean())
    torch.testing.assert_close(found.l1, (restored - faces).abs().sum() / (4 * 3 * 8 * 8))
    expected = sum((a - b).abs().sum() / a.numel() for a, b in zip(features, targets, strict=True))
    torch.testing.assert_close(found.features, expected)


class Watched:
    """What one step of a training was given and what it came to, and copies of its networks as they were before."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.steps: list[dict] = []
        step, pairs = RestorerTraining.step, RestorerTraining._pairs

        def kept(stage: RestorerTraining, at: int) -> list:
            found = pairs(stage, at)
            self.steps[-1]["pairs"] = [(pair.faces.clone(), pair.degraded.clone()) for pair in found]
            return found

        def watched(stage: RestorerTraining, at: int) -> dict:
            before = {name: {key: value.clone() for key, value in network.state_dict().items()} for name, network in stage.networks.items()}
            self.steps.append({"stage": stage, "before": before})
            terms = step(stage, at)
            self.steps[-1]["terms"] = {name: float(value) for name, value in terms.items()}
            self.steps[-1]["after"] = {name: value.clone() for name, value in stage.average.network.state_dict().items()}
            return terms

        def updated(accelerator, wrapped, optimizer, loss, parts):
            stage = self.steps[-1]["stage"]
            if wrapped is stage.wrapped_d:  # before the last of the updates, R1's
                self.steps[-1]["between"] = {key: value.clone() for key, value in stage.discriminator.state_dict().items()}
            return update(accelerator, wrapped, optimizer, loss, parts)

        patch.setattr(stages, "update", updated)
        patch.setattr(RestorerTraining, "_pairs", kept)
        patch.setattr(RestorerTraining, "step", watched)


@pytest.fixture(scope="module")
def watched(train: Train) -> list[dict]:
    with pytest.MonkeyPatch.context() as patch:
        found = Watched(patch)
        train(method="restore", kimg=0.024, adversarial_weight=0.5, l1_weight=2.0, feature_weight=0.3, r1_gamma=0.7)
    return found.steps


def test_a_steps_terms_are_those_of_its_faces(watched: list[dict]) -> None:
    """From the networks before the step, with plain autograd; groups of four for the minibatch deviation."""
    for number, step in enumerate(watched):
        restorer, discriminator = type(step["stage"].restorer)(step["stage"].shape), Discriminator(step["stage"].shape)
        restorer.load_state_dict(step["before"]["restorer"])
        discriminator.load_state_dict(step["before"]["D"])
        ((faces, degraded),) = step["pairs"]
        order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])  # where the discriminator looks for a group: 0 ... 3, and 4 ... 7
        made, features, targets = restorer(degraded), [], []
        scores = discriminator(made[order], kept=features)
        real = discriminator(faces[order], kept=targets)
        adversarial, l1 = torch.log1p((-scores).exp()).mean(), (made - faces).abs().mean()
        likeness = sum((a - b).abs().mean() for a, b in zip(features, targets, strict=True))
        terms = {"G/adversarial": adversarial, "G/l1": l1, "G/features": likeness, "G/loss": 0.5 * adversarial + 2 * l1 + 0.3 * likeness}
        terms["D/loss"] = torch.log1p(scores.exp()).mean() + torch.log1p((-real).exp()).mean()
        if number % 2 == 0:  # the gradient of all scores: of an image by itself it would not know its group
            terms["D/r1"] = r1_of(step, faces[order])
        found = step["terms"]
        assert found.keys() == terms.keys()
        for name, value in terms.items():
            assert found[name] == pytest.approx(value.item(), rel=1e-3), name


def r1_of(step: dict, faces: torch.Tensor) -> torch.Tensor:
    """gamma / 2 of the mean squared gradient (Mescheder et al. 2018, eq. 9), by the discriminator after its first update."""
    discriminator, faces = Discriminator(step["stage"].shape), faces.clone().requires_grad_()
    discriminator.load_state_dict(step["between"])
    (gradient,) = torch.autograd.grad(discriminator(faces).sum(), faces)
    return 0.7 / 2 * gradient.square().sum() / len(faces)


def test_encoder_decoder_and_discriminator_learn_at_100_to_10_to_1(watched: list[dict]) -> None:
    stage = watched[0]["stage"]
    names = {id(parameter): name for name, parameter in stage.restorer.named_parameters()}
    first, second = stage.optimizer_g.param_groups
    rates = {names[id(parameter)]: group["lr"] for group in (first, second) for parameter in group["params"]}
    assert rates.keys() == set(names.values())
    for name, rate in rates.items():
        encoder = name.startswith(("encoder.", "bottleneck.")) or name.endswith("noise_strength")
        assert rate == pytest.approx(0.002 if encoder else 0.0002), name
    (group,) = stage.optimizer_d.param_groups
    assert group["lr"] == pytest.approx(0.00002 * 2 / 3)  # R1 at every second step: of three steps, two are its own
    assert first["betas"] == second["betas"] == (0.0, 0.99) and group["betas"][1] == pytest.approx(0.99 ** (2 / 3))


def test_the_first_steps_move_each_weight_by_its_rate(watched: list[dict]) -> None:
    """Adam without momentum: the first step is the rate itself, wherever there is a gradient."""
    before, after = watched[0]["before"]["restorer"], watched[1]["before"]["restorer"]
    for name, rate in (("encoder.b16.weight", 0.002), ("bottleneck.weight", 0.002), ("generator.synthesis.b16.torgb.weight", 0.0002)):
        moved = (after[name] - before[name]).abs()
        assert float(moved.max()) == pytest.approx(rate, rel=0.02) and float(moved.median()) > 0.5 * rate, name


def test_the_average_follows_the_network(watched: list[dict]) -> None:
    for number, step in enumerate(watched[:-1]):
        half_life = min(50.0, 0.05 * 8 * (number + 1))
        share = 0.5 ** (8 / half_life)
        new = watched[number + 1]["before"]["restorer"]
        for name in ("encoder.b8.weight", "generator.synthesis.b4.const"):
            expected = share * step["before"]["restorer_ema"][name] + (1 - share) * new[name]
            torch.testing.assert_close(step["after"][name], expected)


def test_the_spoiled_faces_are_those_of_the_seed(watched: list[dict]) -> None:
    ((faces, degraded),) = watched[0]["pairs"]
    assert faces.shape == degraded.shape == (8, 3, 16, 16) and float(faces.abs().max()) <= 1
    assert all(not torch.equal(face, bad) for face, bad in zip(faces, degraded, strict=True))
    assert not torch.equal(faces, watched[1]["pairs"][0][0])


# --- whole trainings


def test_a_run_opens_restores_and_converts(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert is_restorer(trained)
    weights = open_restorer(trained)
    assert not weights.may_have_seen_joint_faces and weights.config.noise == "concat" and weights.config.resolution == 16
    stored = load_file(trained / "stages/restorer/model.safetensors")
    name = "encoder.b16.weight"
    assert torch.equal(weights.state[name], stored[f"network/restorer_ema/{name}"]) and "network/D/b4.out.weight" in stored
    assert main(["convert", str(trained), str(tmp_path / "slim"), "--slim"]) == 0
    assert "joint" not in capsys.readouterr().out and not open_restorer(tmp_path / "slim").may_have_seen_joint_faces
    for command in (["generate", str(trained)], ["restore", "--from-run", str(trained)]):
        assert main([*command, "--out", str(tmp_path / "out")]) == 2
        assert "is a restorer, which makes no faces of its own" in capsys.readouterr().err.splitlines()[-1]
    samples = sorted(path.name for path in (trained / "samples").iterdir())
    assert samples[-1].startswith("restorer-") and samples[-1].endswith(".png")
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["stage"] == "restorer" and {"G/loss", "G/adversarial", "G/l1", "G/features", "D/loss"} <= last.keys()


def test_no_joint_face_is_learned_from_and_every_other_of_the_generators_side_is(trained: Path, faces: Path) -> None:
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()
    columns = lines[1].split()
    truth = {line.split()[0]: dict(zip(columns, line.split()[1:], strict=True)) for line in lines[2:]}
    hair = ("Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow")
    might = {name: row["No_Beard"] == "-1" or any(row[column] == "1" for column in hair) for name, row in truth.items()}
    usable = {name for name, row in truth.items() if row["Bald"] == "-1" or not might[name]}
    ids = set((trained / "ids/restorer.txt").read_text().split())
    assert ids <= usable and 0.7 * len(usable) < len(ids) < 0.8 * len(usable)  # a quarter is the judge's


def test_what_is_fetched_is_among_the_ids(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched, rows = set[int](), RealBatches.rows

    def noted(self: RealBatches, step: int, count: int) -> np.ndarray:
        found = rows(self, step, count)
        fetched.update(found.tolist())
        return found

    monkeypatch.setattr(RealBatches, "rows", noted)
    ids = set((train(method="restore", kimg=0.024) / "ids/restorer.txt").read_text().split())
    assert len(fetched) == 24 and {f"{index:06d}.png" for index in fetched} <= ids


VARIANTS = {
    "lifted": dict(prior="add"),
    "bf16": dict(mixed_precision="bf16"),
    "bare": dict(r1_gamma=0.0, feature_weight=0.0, adversarial_weight=0.0, ema_kimg=0.0),
    "one kind of damage": dict(blur="0,0", downsample="2,2", noise="0,0", jpeg="100,100", fade="0,0"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_train(variant: str, train: Train, saved: Callable[..., str]) -> None:
    flags = dict(VARIANTS[variant])
    if flags.get("prior"):
        flags["prior"] = saved(noise=flags["prior"])
    run = train(method="restore", kimg=0.024, log_every=1, **flags)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and all(math.isfinite(row["G/loss"]) for row in rows)
    assert ("D/r1" in rows[0]) == (variant != "bare")
    weights = open_restorer(run)
    assert weights.config.half_sizes == (4 if variant == "bf16" else 0) and (weights.config.conv_clamp == 256.0) == (variant == "bf16")
    found = weights.restorer()(torch.rand(2, 3, 16, 16) * 2 - 1)
    assert found.dtype == torch.float32 and bool(found.isfinite().all())
    if variant == "bare":
        stored = load_file(run / "stages/restorer/model.safetensors")
        assert all(torch.equal(value, stored[f"network/restorer/{name}"]) for name, value in weights.state.items())


def test_a_restorer_learns(train: Train) -> None:
    """Forty steps towards the unspoiled faces: the distance falls."""
    run = train(method="restore", kimg=40 * 8 / 1000, log_every=10, adversarial_weight=0.0, feature_weight=0.0, r1_gamma=0.0, lr=0.01,
                downsample="1,2", blur="0,0.5")  # fmt: skip
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["G/l1"] < 0.8 * rows[0]["G/l1"]


def test_a_batch_in_parts_is_the_batch(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim, "Adam", lambda params, lr=0.0, **_: torch.optim.SGD(params, lr=lr))
    # One step: from the second on rounding may turn a unit's sign, and two runs of one batch part ways, in plain PyTorch too.
    flags = dict(method="restore", batch=16, kimg=0.016, r1_gamma=0.5, lr=0.01)
    whole, parts = (load_file(train(**flags, accumulate=count) / "stages/restorer/model.safetensors") for count in (1, 2))
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_discriminator_begins_as_the_priors(train: Train, saved: Callable[..., str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = Watched(patch)
        prior = saved(noise="concat")
        train(method="restore", kimg=0.008, prior=prior)
    start = open_networks(prior).states
    before = found.steps[0]["before"]
    assert all(torch.equal(value, before["D"][name]) for name, value in start["D"].items())
    for name, value in start["G_ema"].items():
        if not name.endswith("noise_strength"):
            assert torch.equal(value, before["restorer"][f"generator.{name}"]), name


def test_an_unfinished_run_is_opened_as_far_as_it_is(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = loop.StageRun._timed_step

    def stopping(self: loop.StageRun, step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt
        timed(self, step)

    monkeypatch.setattr(loop.StageRun, "_timed_step", stopping)
    for every, name in ((1, "some"), (1000, "none")):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / name, method="restore", snapshot_every=every)
    weights = open_restorer(tmp_path / "some")
    assert weights.restorer()(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16) and not weights.may_have_seen_joint_faces
    with pytest.raises(FaceganError, match="none has no snapshot of its restorer yet: let the training run for a while"):
        open_restorer(tmp_path / "none")


# --- priors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(resolution=32), "makes 32 px faces, this run 16 px: change `resolution`"), (dict(c_dim=2), r"this one has 2 label\(s\)"),
        (dict(architecture="resnet"), "architecture resnet"), (dict(architecture="stylegan1"), "architecture stylegan1"),
    ],
    ids=["size", "labels", "resnet", "stylegan1"],
)  # fmt: skip
def test_a_prior_that_cannot_be_one_is_refused(options: dict, words: str, train: Train, saved: Callable[..., str]) -> None:
    with pytest.raises(FaceganError, match=f"`prior=.*{words}") as refused:
        train(method="restore", prior=saved(**options))
    assert "\n" not in str(refused.value)


def test_a_prior_that_is_not_there_or_no_network_is_refused(train: Train, trained: Path, tmp_path: Path) -> None:
    no_generator = "does not describe a StyleGAN2 network"
    for path, words in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no model"), (trained, no_generator)):
        with pytest.raises(FaceganError, match=words):
            train(method="restore", prior=str(path))


def test_what_a_prior_may_have_seen_goes_with_the_restorer(
    train: Train, saved: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    run = train(method="restore", kimg=0.008, prior=saved(noise="concat"))  # a folder does not tell which faces it was
    assert open_restorer(run).may_have_seen_joint_faces and "may have seen faces with all attributes" in caplog.text
    assert main(["convert", str(run), str(tmp_path / "net")]) == 0
    assert "may have seen joint faces" in capsys.readouterr().out and open_restorer(tmp_path / "net").may_have_seen_joint_faces
    other = train(method="b", attributes="glasses,smile", kimg=0.008, phase2_epochs=0)  # learns from bald and bearded faces
    with pytest.raises(FaceganError, match=r"`prior=.*` learned from \d+ faces that carry, or may carry, all attributes of this run"):
        train(method="restore", kimg=0.008, prior=str(other))


# --- the configuration


def test_the_defaults_are_the_papers() -> None:
    config = RestoreConfig(prior="x", resolution=256, batch=32)
    assert (config.adversarial_weight, config.l1_weight, config.feature_weight) == (1.0, 1.0, 0.02)
    assert (100, 100 * config.decoder_lr, 100 * config.discriminator_lr) == pytest.approx((100, 10, 1))
    assert config.degradation == Degradation() and config.degradation.jpeg == (60.0, 100.0) and config.degradation.downsample == (0.8, 8.0)
    assert config.gamma == pytest.approx(0.0002 * 256**2 / 32) and replace(config, r1_gamma=2.0).gamma == 2.0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (dict(prior=""), "`prior` is missing: train one by `facegan train --method b --noise concat --resolution 16"),
        (dict(accumulate=3), "`accumulate` is 3"), (dict(r1_gamma=-2.0), "`r1_gamma` is -2"), (dict(l1_weight=-1.0), "`l1_weight` is -1"),
        (dict(adversarial_weight=0.0, l1_weight=0.0, feature_weight=0.0), "`adversarial_weight`, `l1_weight` and `feature_weight` are"),
        (dict(blur="3"), "`blur` is '3': expected 2 numbers, got 1"), (dict(jpeg="60,x"), "`jpeg` is '60,x': expected numbers"),
        (dict(downsample="8,0.8"), "`downsample` is 8,0.8: expected two numbers in order"), (dict(noise="0,300"), "`noise` is 0,300"),
        (dict(decoder_lr=float("nan")), "`decoder_lr` is nan"), (dict(l1_kimg=9.0), "`l1_kimg` is 9: expected 0 to"),
        (dict(kimg=-1.0), "`kimg` is -1"), (dict(r1_every=0), "`r1_every` is 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(flags: dict, words: str, configure: Callable[..., TrainConfig]) -> None:
    with pytest.raises(FaceganError) as refused:
        configure(method="restore", out="x", **{"prior": "x", **flags})
    assert str(refused.value).startswith(words) and "\n" not in str(refused.value)


def test_parts_without_whole_groups_are_refused(train: Train) -> None:
    with pytest.raises(FaceganError, match="`accumulate` is 4: .* multiple of 16"):
        train(method="restore", accumulate=4)


def test_memory_that_does_not_suffice_is_a_sentence_that_says_what_would(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(stages, "degrade", exhausted)
    with pytest.raises(FaceganError, match="`accumulate=2`, which takes 4 images at once for the same result"):
        train(method="restore")


def test_at_first_l1_alone_may_train(train: Train) -> None:
    run = train(method="restore", kimg=0.048, l1_kimg=0.024, log_every=1)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert ["D/loss" in row for row in rows] == [False] * 3 + [True] * 3
    assert all(row["G/loss"] == pytest.approx(row["G/l1"]) for row in rows[:3])


# --- from a restorer in place of a prior


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of a random restorer to 8 px, not known to have seen joint faces."""
    torch.manual_seed(0)
    config = replace(NETWORK, resolution=8, channel_base=96, channel_max=8, noise="concat")
    folder = tmp_path_factory.mktemp("small")
    save_restorer(RestorerWeights(config, Restorer(config).state_dict(), may_have_seen_joint_faces=False), folder)
    return str(folder)


def test_a_training_starts_from_a_restorer_of_its_size(train: Train, trained: Path) -> None:
    run = train(method="restore", init_from=str(trained), kimg=0.0)
    before, after = open_restorer(trained), open_restorer(run)
    assert all(torch.equal(after.state[name], value) for name, value in before.state.items())
    assert not after.may_have_seen_joint_faces  # its record tells what it learned from
    longer = open_restorer(train(method="restore", init_from=str(trained), kimg=0.016, l1_kimg=0.016))
    assert not torch.equal(longer.state["bottleneck.weight"], before.state["bottleneck.weight"])


def test_a_training_starts_from_a_restorer_of_half_its_size(train: Train, small: str) -> None:
    run = train(method="restore", init_from=small, kimg=0.0)
    found, theirs = open_restorer(run), open_restorer(small)
    assert found.config == replace(theirs.config, resolution=16)
    images, taps = torch.rand(4, 3, 16, 16) * 2 - 1, setup_filter()
    expected = upsample2d(theirs.restorer()(downsample2d(images, taps)), taps)
    torch.testing.assert_close(found.restorer()(images), expected, rtol=1e-3, atol=1e-4)
    assert found.may_have_seen_joint_faces  # a folder does not tell which faces it was


def test_a_start_from_a_restorer_that_saw_joint_faces_is_refused(train: Train, small: str) -> None:
    other = train(method="restore", init_from=small, attributes="bald,glasses", kimg=0.008)
    with pytest.raises(FaceganError, match=r"`init_from=.*` learned from \d+ faces that carry, or may carry, all attributes of this run"):
        train(method="restore", init_from=str(other), kimg=0.008)


def test_so_is_one_that_saw_them_at_half_the_size(train: Train) -> None:
    wide = dict(method="b", noise="concat", preset="tiny", kimg=0.0, phase2_epochs=0)
    prior = train(**wide, attributes="bald,glasses")
    other = train(method="restore", prior=str(prior), attributes="bald,glasses", kimg=0.008)
    with pytest.raises(FaceganError, match=r"`init_from=.*` learned from \d+ faces that carry, or may carry, all attributes of this run"):
        train(method="restore", init_from=str(other), resolution=32, kimg=0.008)
    clean = train(method="restore", init_from=str(other), attributes="bald,glasses", resolution=32, kimg=0.0)
    assert open_restorer(clean).may_have_seen_joint_faces  # the same files, as far as can be told, and no more


def test_what_can_not_be_made_longer_keeps_no_state_for_it(train: Train) -> None:
    assert not list(train(method="restore", kimg=0.024, lr_decay=0.5).glob("checkpoints/*"))


@pytest.mark.parametrize(
    "flags,words",
    [
        (dict(resolution=32), "restores to 8 px, this run to 32 px: expected `resolution` 8 or 16"),
        (dict(prior="runs/prior"), "`prior` and `init_from`: a restorer has a decoder of its own"),
        (dict(init_from="nowhere"), "nowhere does not exist"),
        (dict(init_from="synthetic64"), "does not describe a restorer"),
        (dict(batch=6), "`batch` is 6: expected a multiple of 8"),
    ],
)
def test_a_restorer_that_does_not_suit_is_refused(flags: dict, words: str, train: Train, small: str, tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=words):
        train(tmp_path / "run", **{"method": "restore", "init_from": small, **flags})
    assert not (tmp_path / "run").exists()


def test_a_decoder_too_narrow_to_grow_is_refused_before_anything_is_written(train: Train, tmp_path: Path) -> None:
    config = replace(NETWORK, resolution=8, channel_base=64, noise="concat")
    save_restorer(RestorerWeights(config, Restorer(config).state_dict()), tmp_path / "narrow")
    with pytest.raises(FaceganError, match="the first map of a 16 px restorer has 4 channels here"):
        train(tmp_path / "run", method="restore", init_from=str(tmp_path / "narrow"))
    assert not (tmp_path / "run").exists()
