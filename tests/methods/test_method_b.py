"""Method B's objective, schedules and training, each against its equation written out again or a figure known beforehand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.checkpoints.trained import TrainedRun
from facegan.cli import main
from facegan.config import TrainConfig
from facegan.errors import FaceganError
from facegan.methods.b.config import PRESETS, MethodBConfig
from facegan.methods.b.growth import drawn_level, level, seen_at
from facegan.methods.common.regularizers import path_lengths
from facegan.methods.common.stylegan2 import MixedFaces, Scores, full_precision, grouped
from facegan.methods.common.stylegan2_losses import discriminator_loss, generator_loss, lazy, path_length_loss
from facegan.models.stylegan2 import Discriminator, Generator, StyleGAN2Config, minibatch_deviation

Train = Callable[..., Path]
TINY = StyleGAN2Config(resolution=8, z_dim=6, w_dim=5, mapping_layers=2, channel_base=64, channel_max=8)


# --- the objective


def test_the_logistic_losses_are_cross_entropies() -> None:
    real, fake = torch.randn(7, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    probability = torch.sigmoid
    expected = -probability(real).log().mean() - (1 - probability(fake)).log().mean()
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), -probability(fake).log().mean())
    assert float(discriminator_loss(torch.tensor([1e4]), torch.tensor([-1e4]))) == 0.0  # where log(sigmoid) would be infinite


def test_lazy_penalties_leave_adam_as_far_and_as_forgetful() -> None:
    rate, betas = lazy(0.0025, (0.0, 0.99), 16)
    # 17 steps of the new rate are 16 of the old one, and so are 17 steps of the new memory
    assert rate * 17 == pytest.approx(0.0025 * 16) and betas[1] ** 17 == pytest.approx(0.99**16) and betas[0] == 0.0
    assert lazy(0.0025, (0.0, 0.99), 0) == (0.0025, (0.0, 0.99))


def test_path_lengths_are_those_of_the_jacobian() -> None:
    torch.manual_seed(0)
    mix = torch.randn(3 * 4 * 6, 2 * 5, dtype=torch.float64)

    def images_of(ws: torch.Tensor) -> torch.Tensor:
        return torch.tanh(ws.flatten(1) @ mix.T).view(-1, 3, 4, 6)

    ws = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 3, 4, 6, dtype=torch.float64)
    found = path_lengths(images_of(ws), ws, y)
    for n in range(3):
        jacobian = torch.autograd.functional.jacobian(images_of, ws[n : n + 1].detach())  # [1, 3, 4, 6, 1, 2, 5]
        turned = torch.einsum("chw,chwld->ld", y[n] / math.sqrt(24), jacobian[0, :, :, :, 0])
        torch.testing.assert_close(found[n], turned.square().sum(1).mean().sqrt())
    torch.testing.assert_close(path_length_loss(found, torch.tensor(0.5)), ((found - 0.5) ** 2).mean())


def test_the_path_length_of_the_real_network_has_the_gradient_that_differences_find() -> None:
    torch.manual_seed(1)
    faces = MixedFaces(Generator(TINY)).double()
    generator = np.random.default_rng(2)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.from_numpy(generator.standard_normal(shape))

    inputs = numbers(4, 2, 6), torch.tensor([1, 2, 3, 4]), None, numbers(4, TINY.num_noise), None, numbers(4, 3, 8, 8)
    weight = faces.generator.synthesis.b8.conv1.weight

    def loss() -> torch.Tensor:
        return path_length_loss(faces(*inputs)[0], torch.tensor(0.1))

    (gradient,) = torch.autograd.grad(loss(), weight)
    direction = numbers(*weight.shape)
    with torch.no_grad():
        weight += 1e-3 * direction
    above = loss().detach()
    with torch.no_grad():
        weight -= 2e-3 * direction
    slope = float((gradient * direction).sum())
    assert float((above - loss().detach()) / 2e-3) == pytest.approx(slope, rel=2e-3)  # images are float32


# --- what a step is made of


def test_the_second_style_begins_at_the_crossover() -> None:
    torch.manual_seed(0)
    faces = MixedFaces(Generator(TINY))
    z, noise = torch.randn(3, 2, 6), torch.randn(3, TINY.num_noise)
    _, ws = faces(z, torch.tensor([1, 2, TINY.num_ws]), None, noise)
    first, second = (faces.generator.mapping(z[:, k]) for k in (0, 1))
    assert TINY.num_ws == 4
    for n, layers in enumerate(["abbb", "aabb", "aaaa"]):
        for k, letter in enumerate(layers):
            torch.testing.assert_close(ws[n, k], (first if letter == "a" else second)[n, k])


def test_consecutive_images_are_a_group_however_the_batch_is_divided() -> None:
    x = torch.randn(16, 4, 2, 2)
    whole = minibatch_deviation(grouped(x, 4), 4)[:, 0, 0, 0]
    parts = torch.cat([minibatch_deviation(grouped(part, 4), 4)[:, 0, 0, 0] for part in x.split(8)])
    expected = [float((x[i : i + 4].var(0, correction=0) + 1e-8).sqrt().mean()) for i in range(0, 16, 4)]
    assert sorted(set(whole.tolist())) == pytest.approx(sorted(expected))
    assert sorted(whole.tolist()) == pytest.approx(sorted(parts.tolist()))
    assert torch.equal(grouped(x[:6], 4), x[:6])  # not a whole number of groups: as it is


def test_full_precision_is_for_a_while_and_ends_with_an_error_too() -> None:
    lower = Discriminator(StyleGAN2Config(resolution=16, z_dim=4, w_dim=4, channel_base=64, channel_max=8, half_sizes=1))
    exact = Discriminator(StyleGAN2Config(resolution=16, z_dim=4, w_dim=4, channel_base=64, channel_max=8))
    exact.load_state_dict(lower.state_dict())
    image = torch.randn(4, 3, 16, 16)
    with pytest.raises(KeyError), full_precision(lower):
        assert torch.equal(lower(image), exact(image))
        raise KeyError
    assert lower.b16.dtype == torch.bfloat16 and not torch.equal(lower(image), exact(image))


@pytest.mark.parametrize(
    ("kimg", "expected"), [(0.0, 2.0), (0.5, 2.0), (0.75, 2.5), (1.0, 3.0), (1.5, 3.0), (1.9, 3.8), (2.0, 4.0), (9.0, 4.0)]
)
def test_sizes_fade_in_one_after_the_other(kimg: float, expected: float) -> None:
    config = MethodBConfig(resolution=16, growing=4, grow_kimg=1.0)
    assert level(config, 1000 * kimg) == pytest.approx(expected)
    assert level(MethodBConfig(resolution=16), 1000 * kimg) is None


def test_reals_are_as_coarse_as_the_size_that_fades_in() -> None:
    images = torch.randn(2, 3, 16, 16)

    def seen(level: float) -> torch.Tensor:
        drawn = drawn_level(level)
        assert drawn is not None
        return seen_at(images, drawn if drawn.weight is None else drawn._replace(weight=torch.from_numpy(drawn.weight)))

    assert seen_at(images, drawn_level(None)) is images and torch.equal(seen(4.0), images)
    eight = images.unflatten(3, (8, 2)).unflatten(2, (8, 2)).mean((3, 5))
    torch.testing.assert_close(seen(3.0), eight)
    four = eight.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5))
    # The filter [1, 3, 3, 1] in one dimension: a pixel is 3/4 of the coarse one it lies in and 1/4 of its nearer neighbour.
    large = torch.zeros(8, 4)
    for i in range(8):
        for j, share in ((i // 2, 0.75), (i // 2 + (1 if i % 2 else -1), 0.25)):
            if 0 <= j < 4:
                large[i, j] = share
    torch.testing.assert_close(seen(2.25), 0.25 * eight + 0.75 * large @ four @ large.T)


# --- whole trainings

VARIANTS = {
    "skip": dict(r1_gamma=0.5),
    "resnet": dict(architecture="resnet", augment="fixed", augment_p=0.5, minimum_images=4),
    "stylegan1": dict(architecture="stylegan1", growing=8, grow_kimg=0.02, mixed_precision="bf16"),
    "bare": dict(pl_weight=0.0, r1_gamma=0.0, ema_kimg=0.0, style_mixing=0.0, phase2_epochs=0, augment="none"),
    "conditional": dict(conditional=True, critics="previous", ada_kimg=0.02),
    "narrow": dict(preset="narrow", d_architecture="orig", noise="none", share_fakes=True, r1_gamma=0.5, phase2_epochs=0),
    "labels": dict(share_fakes=True, conditional=True, accumulate=2, batch=16, augment="fixed", phase2_epochs=0),
}
CRITICS = {"bare": [], "conditional": ["phase2-bald"], "narrow": [], "labels": []}


@pytest.fixture(scope="module")
def trained(train: Train) -> Callable[[str], Path]:
    runs: dict[str, Path] = {}

    def trained(variant: str) -> Path:
        if variant not in runs:
            runs[variant] = train(method="b", **VARIANTS[variant])
        return runs[variant]

    return trained


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_opens_and_makes_faces(variant: str, trained: Callable[[str], Path], tmp_path: Path) -> None:
    run = trained(variant)
    networks = open_networks(run)
    assert networks.states.keys() == {"G_ema", "G", "D"} and networks.config.resolution == 16
    flags = ["--label", "1,1"] if networks.config.c_dim else []
    assert main(["generate", str(run), "--seeds", "3", "--out", str(tmp_path / "faces"), *flags]) == 0
    found = TrainedRun(run)
    assert found.critic_stages() == CRITICS.get(variant, ["phase2-bald", "phase2-beard"])
    images = found.faces([3, 4])
    assert images.shape == (2, 3, 16, 16) and bool(images.isfinite().all())
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["stage"] == "stylegan2" and ("G/path" in last) == ("D/r1" in last) == (variant != "bare")


def test_a_network_without_noise_makes_the_same_face_whatever_is_drawn(trained: Callable[[str], Path]) -> None:
    networks = open_networks(trained("narrow"))
    generator, config = networks.generator(), networks.config
    assert (config.d_architecture, config.channels(16), config.noise) == ("orig", 32, "add")
    strengths = [value for name, value in networks.states["G"].items() if name.endswith("noise_strength")]
    assert len(strengths) == 5 and not any(map(float, strengths))
    z = torch.randn(2, config.z_dim)
    still = generator(z, noise_mode="none")
    assert all(torch.equal(generator(z, noise_mode=mode), still) for mode in ("random", "const"))


def test_a_network_to_start_from_loses_its_noise_where_none_is_asked_for(train: Train, tmp_path: Path) -> None:
    loud = open_networks(train(method="b", kimg=0.008, phase2_epochs=0))
    for state in (loud.states["G"], loud.states["G_ema"]):
        state["synthesis.b16.conv1.noise_strength"].fill_(3.0)
    save_networks(loud, tmp_path / "loud")
    quiet = open_networks(train(method="b", init_from=str(tmp_path / "loud"), noise="none", kimg=0.008, phase2_epochs=0))
    assert all(float(quiet.states[name]["synthesis.b16.conv1.noise_strength"]) == 0 for name in ("G", "G_ema"))


def test_shared_fakes_are_made_once_and_are_those_that_the_generator_learned_from(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    made, judged = [], []
    faces, scores = MixedFaces.forward, Scores.forward

    def making(self: MixedFaces, *args: Any) -> Any:
        images, ws = faces(self, *args)
        made.append(images.detach().clone())
        return images, ws

    def judging(self: Scores, batches: Any, *args: Any) -> Any:
        judged.append([images.detach().clone() for images, _ in batches])
        return scores(self, batches, *args)

    monkeypatch.setattr(MixedFaces, "forward", making)
    monkeypatch.setattr(Scores, "forward", judging)
    train(method="b", share_fakes=True, kimg=0.016, batch=8, augment="none", r1_gamma=0.0, pl_weight=0.0, phase2_epochs=0)
    assert len(made) == 2 and [len(shown) for shown in judged] == [1, 2, 1, 2]  # G's pass, then D's reals and fakes
    for step in (0, 1):
        assert torch.equal(judged[2 * step][0], made[step]) and torch.equal(judged[2 * step + 1][1], made[step])


def test_no_joint_face_is_learned_from_and_every_other_of_the_generators_side_is(trained: Callable[[str], Path], faces: Path) -> None:
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()
    columns = lines[1].split()
    truth = {line.split()[0]: dict(zip(columns, line.split()[1:], strict=True)) for line in lines[2:]}
    hair = ("Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow")
    might = {name: row["No_Beard"] == "-1" or any(row[column] == "1" for column in hair) for name, row in truth.items()}
    usable = {name for name, row in truth.items() if row["Bald"] == "-1" or not might[name]}
    ids = {stage: set((trained("skip") / f"ids/{stage}.txt").read_text().split()) for stage in ("stylegan2", "phase2-bald", "phase2-beard")}
    assert all(found <= usable for found in ids.values()) and all(len(found) > 8 for found in ids.values())
    assert 0.7 * len(usable) < len(ids["stylegan2"]) < 0.8 * len(usable)  # a quarter is the judge's


def test_the_average_is_the_generator_where_there_is_none(trained: Callable[[str], Path]) -> None:
    states = open_networks(trained("bare")).states
    assert all(torch.equal(value, states["G"][name]) for name, value in states["G_ema"].items())
    assert float(states["G"]["mapping.w_avg"].abs().max()) > 0


def test_a_batch_in_parts_is_the_batch(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim, "Adam", lambda params, lr, **_: torch.optim.SGD(params, lr=lr))
    flags = dict(method="b", batch=16, kimg=0.06, phase2_epochs=0, r1_gamma=0.5, ada_kimg=0.1, lr=0.01)
    whole, parts = (load_file(train(**flags, accumulate=count) / "stages/stylegan2/model.safetensors") for count in (1, 2))
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_transfer_starts_from_a_network_and_freezes_the_discriminators_first_layers(
    trained: Callable[[str], Path], train: Train, tmp_path: Path
) -> None:
    start = open_networks(trained("skip"))
    run = train(method="b", init_from=str(trained("skip")), freeze_d=3, kimg=0.016, phase2_epochs=0)
    learned = open_networks(run)
    same = {name for name, value in start.states["D"].items() if torch.equal(value, learned.states["D"][name])}
    weights = {name for name in same if name.endswith(("weight", "bias"))}
    assert {"b16.fromrgb.weight", "b16.conv0.weight"} <= weights and "b4.out.weight" not in weights
    assert not torch.equal(start.states["G"]["synthesis.b16.conv1.weight"], learned.states["G"]["synthesis.b16.conv1.weight"])
    save_networks(StyleGAN2Checkpoint(start.config, {"G_ema": start.states["G_ema"]}), tmp_path / "net")
    with pytest.raises(FaceganError, match="holds no discriminator to freeze"):
        train(method="b", init_from=str(tmp_path / "net"), freeze_d=1)


def test_the_average_of_a_network_to_start_from_is_kept(trained: Callable[[str], Path], train: Train) -> None:
    start = open_networks(trained("skip")).states["G_ema"]
    run = train(method="b", init_from=str(trained("skip")), kimg=0.008, ema_kimg=1000.0, phase2_epochs=0)
    average, raw = (open_networks(run).states[name] for name in ("G_ema", "G"))
    name = "synthesis.b16.conv1.weight"
    assert (average[name] - start[name]).abs().max() < 1e-2 * (raw[name] - start[name]).abs().max()


def test_what_a_network_may_have_seen_goes_with_it(
    trained: Callable[[str], Path], train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = trained("skip")
    assert not open_networks(clean).may_have_seen_joint_faces
    assert main(["convert", str(clean), str(tmp_path / "net")]) == 0
    assert not open_networks(tmp_path / "net").may_have_seen_joint_faces
    assert not open_networks(train(method="b", init_from=str(clean), kimg=0.008, phase2_epochs=0)).may_have_seen_joint_faces
    # a folder does not tell which faces: those of this run may have been among them
    assert open_networks(train(method="b", init_from=str(tmp_path / "net"), kimg=0.008, phase2_epochs=0)).may_have_seen_joint_faces
    assert "may have seen faces with all attributes" in caplog.text
    other = train(method="b", attributes="glasses,smile", kimg=0.008, phase2_epochs=0)  # learns from bald and bearded faces
    with pytest.raises(FaceganError, match=r"`init_from=.*` learned from \d+ faces that carry, or may carry, all attributes of this run"):
        train(method="b", init_from=str(other), kimg=0.008, phase2_epochs=0)


@pytest.mark.parametrize("accumulate", [4, 8])
def test_parts_without_whole_groups_are_refused(accumulate: int, train: Train) -> None:
    with pytest.raises(FaceganError, match=f"`accumulate` is {accumulate}: .* multiple of {4 * accumulate}"):
        train(method="b", accumulate=accumulate, phase2_epochs=0)


def test_a_growing_network_is_opened_when_it_has_grown(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facegan.training import loop

    def stop(self: loop.StageRun, step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    flags = dict(method="b", kimg=0.2, growing=4, grow_kimg=0.08, phase2_epochs=0, snapshot_every=1)
    monkeypatch.setattr(loop.StageRun, "_timed_step", with_before(stop, loop.StageRun._timed_step))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", **flags)
    with pytest.raises(FaceganError, match="has grown to 4 of 16 px so far"):
        open_networks(tmp_path / "run")


def test_memory_that_does_not_suffice_is_a_sentence_that_says_what_would(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(MixedFaces, "forward", exhausted)
    with pytest.raises(FaceganError, match="`accumulate=2`, which takes 4 images at once for the same result"):
        train(method="b", phase2_epochs=0)


def test_a_longer_training_goes_on_from_a_shorter_one(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facegan.training import loop

    def stop(self: loop.StageRun, step: int) -> None:
        if self.stage.name == "stylegan2" and step == 3:
            raise KeyboardInterrupt

    flags = dict(method="b", phase2_epochs=0, snapshot_every=3)
    with monkeypatch.context() as patch:
        patch.setattr(loop.StageRun, "_timed_step", with_before(stop, loop.StageRun._timed_step))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", kimg=0.5, **flags)
    resumed, at_once = train(tmp_path / "run", kimg=0.048, **flags), train(kimg=0.048, **flags)
    stage = "stages/stylegan2/model.safetensors"
    assert (resumed / stage).read_bytes() == (at_once / stage).read_bytes()


def with_before(before: Callable, then: Callable) -> Callable:
    def both(self: object, step: int) -> None:
        before(self, step)
        then(self, step)

    return both


# --- the configuration


def test_gamma_and_presets_follow_the_paper() -> None:
    assert MethodBConfig(resolution=256, batch=32).gamma == pytest.approx(0.0002 * 256**2 / 32)
    assert MethodBConfig(resolution=256, batch=32, r1_gamma=1.5).gamma == 1.5
    assert MethodBConfig(resolution=1024).sizes == PRESETS["paper"][1024] == (512, 8, 32768, 512)
    assert MethodBConfig(resolution=64).sizes == PRESETS["small"][64]
    assert MethodBConfig(resolution=64, recipe="short").sizes == (128, 4, 512, 96)
    assert all(set(table) == {16, 32, 64, 128, 256, 512, 1024} for table in PRESETS.values())


def test_recipes_change_defaults_alone_and_the_first_one_none() -> None:
    """Runs of before there were recipes are of `paper`, and resume by the command that began them."""
    plain, short = MethodBConfig(out="x"), MethodBConfig(out="x", recipe="short", lr=0.001)
    assert plain == MethodBConfig(out="x", recipe="paper") and (plain.lr, plain.r1_every, plain.noise) == (2.5e-3, 16, "add")
    assert (short.lr, short.gamma, short.r1_every, short.noise, short.share_fakes) == (0.001, 5.0, 4, "none", True)
    short.check()
    with pytest.raises(FaceganError, match="`d_architecture` is 'orig': growing takes residual blocks"):
        MethodBConfig(out="x", recipe="short", growing=8).check()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (dict(growing=16), "`growing` is 16"), (dict(freeze_d=2), "`freeze_d` is 2"), (dict(accumulate=3), "`accumulate` is 3"),
        (dict(r1_gamma=-2.0), "`r1_gamma` is -2"), (dict(augment_p=1.5), "`augment_p` is 1.5"), (dict(pl_every=0), "`pl_every` is 0"),
        (dict(kimg=-1.0), "`kimg` is -1"), (dict(growing=4, init_from="x", kimg=200.0), "`growing` and `init_from`"),
        (dict(style_mixing=float("nan")), "`style_mixing` is nan"), (dict(resolution=48), "`resolution` is 48"),
        (dict(ada_kimg=0.0), "`ada_kimg` is 0"), (dict(growing=4, kimg=1.0, grow_kimg=0.6), "`kimg` is 1: growing to 16 px takes 2 x"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(flags: dict, words: str, configure: Callable[..., TrainConfig]) -> None:
    with pytest.raises(FaceganError) as refused:
        configure(method="b", out="x", **flags)
    assert str(refused.value).startswith(words) and "\n" not in str(refused.value)


def test_other_mistakes_are_one_line_and_status_2(
    trained: Callable[[str], Path], faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, base = str(trained("skip")), ["--data", str(faces), "--device=cpu", "--minimum-images", "4", "--phase2-epochs", "0"]
    for arguments, words in [
        (["train", "--method", "b", *base, "--resolution", "32", "--init-from", run, "--out", str(tmp_path / "o")], "makes 16 px faces"),
        (
            [
                "train",
                "--method",
                "b",
                *base,
                "--resolution",
                "16",
                "--init-from",
                str(trained("conditional")),
                "--out",
                str(tmp_path / "p"),
            ],
            "with 2 label(s), this run 16 px with 0: they must agree",
        ),
        (["generate", run, "--label", "1,0", "--out", str(tmp_path / "q")], "knows no labels"),
        (["generate", str(trained("conditional")), "--out", str(tmp_path / "q")], "expects 2, such as 1,1"),
        (["generate", str(trained("conditional")), "--label", "1,x", "--out", str(tmp_path / "q")], "--label is '1,x'"),
    ]:
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert words in error[-1] and "Traceback" not in " ".join(error)


def test_scores_of_several_batches_are_those_of_each(one_thread: None) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(TINY)
    first, second = torch.randn(4, 3, 8, 8), torch.randn(8, 3, 8, 8)
    found = Scores(discriminator)([(first, None), (second, None)])
    alone = [Scores(discriminator)([(batch, None)])[0] for batch in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(found, alone, strict=True)) and [len(x) for x in found] == [4, 8]
    halves = Scores(discriminator)([(second[:4], None), (second[4:], None)])  # of one size: one pass
    for one, half in zip(halves, second.chunk(2), strict=True):
        torch.testing.assert_close(one, Scores(discriminator)([(half, None)])[0])
