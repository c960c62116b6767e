"""The phases of method A: what they learn from, when they switch, and that every part of them runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facegan.checkpoints import checkpoint
from facegan.checkpoints.critics import load_critic
from facegan.checkpoints.merged import unpack_generator
from facegan.graphs import Graphed
from facegan.methods.a import phase1
from facegan.methods.a.adversarial import Batch
from facegan.methods.a.phase3 import Phase3
from facegan.methods.common import critics as phase2
from facegan.pixels import to_float, to_uint8
from facegan.randomness import Randomness, Shard
from facegan.session import accelerator_for, make_context
from facegan.training.augment import sharpness
from facegan.training.stage import Context

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def context_of(configure: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Context]:
    def context_of(**flags: object) -> Context:
        config = configure(out=str(tmp_path_factory.mktemp("context")), **flags)
        return make_context(config, accelerator_for(config))

    return context_of


# --- which images are used: the attribute file read by other eyes


def labels(faces: Path) -> dict[str, dict[str, bool]]:
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()
    names = lines[1].split()
    return {line.split()[0]: dict(zip(names, (value == "1" for value in line.split()[1:]), strict=True)) for line in lines[2:]}


def facial_hair(truth: dict[str, bool]) -> bool:
    return truth["Goatee"] or truth["Mustache"] or truth["Sideburns"]


def bald_only(truth: dict[str, bool]) -> bool:
    shaved = truth["No_Beard"] and not facial_hair(truth) and not truth["5_o_Clock_Shadow"]
    return truth["Bald"] and shaved and not truth["Wearing_Hat"] and not truth["Blurry"]


def beard_only(truth: dict[str, bool]) -> bool:
    bearded = truth["Male"] and not truth["No_Beard"] and facial_hair(truth)
    haired = not truth["Bald"] and not truth["Receding_Hairline"]
    return bearded and haired and not truth["Wearing_Hat"] and not truth["Blurry"]


def might_be_joint(truth: dict[str, bool]) -> bool:
    return truth["Bald"] and (not truth["No_Beard"] or facial_hair(truth) or truth["5_o_Clock_Shadow"])


def used(run: Path) -> dict[str, set[str]]:
    return {file.stem: set(file.read_text().split()) for file in (run / "ids").glob("*.txt")}


def truth_of(name: str, table: dict[str, dict[str, bool]]) -> dict[str, bool]:
    return table[name if name in table else name + ".png"]


@pytest.fixture(scope="module", params=["thesis", "best", "conditional"])
def finished(request: pytest.FixtureRequest, train: Train) -> tuple[str, Path]:
    return request.param, train(recipe=request.param, pretrain_epochs=2, epochs=0 if request.param == "conditional" else 4)


def test_no_stage_ever_uses_a_joint_or_doubtful_face_or_one_of_the_judge(
    finished: tuple[str, Path], faces: Path, context_of: Callable[..., Context]
) -> None:
    recipe, run = finished
    table, seen = labels(faces), used(run)
    everyone = set().union(*seen.values())
    assert not [name for name in everyone if might_be_joint(truth_of(name, table))]
    assert sum(map(might_be_joint, table.values())) > 10  # there were some to use
    context = context_of(recipe=recipe)
    judged = {context.data.table.ids[i] for i in context.split.judge}
    people = dict(line.split() for line in (faces / "identity_CelebA.txt").read_text().splitlines())
    person = {name: people[name if name in people else name + ".png"] for name in everyone | judged}
    assert len(judged) > 20 and not {person[name] for name in everyone} & {person[name] for name in judged}


def test_each_stage_uses_its_groups_alone(finished: tuple[str, Path], faces: Path) -> None:
    recipe, run = finished
    table, seen = labels(faces), used(run)

    def groups(stage: str) -> set[str]:
        def kind(truth: dict[str, bool]) -> str:
            return "bald" if bald_only(truth) else "beard" if beard_only(truth) else "other"

        return {kind(truth_of(name, table)) for name in seen[stage]}

    stages = {"thesis": ["phase2-bald", "phase3-beard"], "best": ["phase3-beard"], "conditional": []}[recipe]
    assert {"pretrain", "phase1", *stages} <= seen.keys()
    assert groups("pretrain") == {"bald", "beard", "other"}
    assert groups("phase1") == ({"bald", "beard", "other"} if recipe == "conditional" else {"bald"})
    if recipe != "conditional":
        # the regression behind the masks of `best` looks at every face of the train part whose labels are known
        assert groups("phase3-beard") == ({"bald", "beard", "other"} if recipe == "best" else {"bald", "beard"})
    if "phase2-bald" in seen:
        truths = [truth_of(name, table) for name in seen["phase2-bald"]]
        assert all(bald_only(truth) or not truth["Bald"] for truth in truths)
        assert any(map(bald_only, truths)) and any(map(beard_only, truths))
    if recipe == "conditional":
        none = [truth for truth in (truth_of(name, table) for name in seen["phase1"]) if not bald_only(truth) and not beard_only(truth)]
        assert none and not any(truth["Bald"] or not truth["No_Beard"] for truth in none)


def test_three_attributes_one_after_the_other_and_all_at_once(train: Train, faces: Path) -> None:
    flags = dict(attributes="bald,beard,glasses", minimum_images=2, phase1_epochs=2, phase2_epochs=2, epochs=4)
    run = train(**flags)
    order = ["phase1", "phase2-bald", "phase3-beard", "phase2-beard", "phase3-glasses"]
    assert [row["stage"] for row in stage_ends(run)] == order
    regional = train(**flags, discriminators="regional", masks="saliency")
    order = ["phase1", "phase2-bald", "phase2-beard", "phase2-glasses", "phase3-glasses"]
    assert [row["stage"] for row in stage_ends(regional)] == order
    assert load_file(regional / "stages/phase3-glasses/model.safetensors")["masks"].shape == (3, 1, 16, 16)
    table = labels(faces)
    for name in set().union(*used(run).values(), *used(regional).values()):
        truth = truth_of(name, table)
        assert not (might_be_joint(truth) and truth["Eyeglasses"])


def stage_ends(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for i, row in enumerate(rows) if i + 1 == len(rows) or rows[i + 1]["stage"] != row["stage"]]


# --- phase 1


@pytest.mark.parametrize("recipe", ["thesis", "best", "conditional"])
def test_phase_1_goes_on_with_both_networks_of_pre_training(recipe: str, train: Train) -> None:
    """A phase of no steps ends on what it began with."""
    run = train(recipe=recipe, pretrain_epochs=2, phase1_epochs=0, phase2_epochs=0, epochs=0)
    before, after = (load_file(run / f"stages/{stage}/model.safetensors") for stage in ("pretrain", "phase1"))
    weights = [name for name in before if name.endswith("weight")]
    assert {name.partition("/")[0] for name in weights} >= {"generator", "discriminator"}
    assert all(torch.equal(before[name], after[name]) for name in weights)


@contextmanager
def watched(owner: object, name: str, seen: Callable[..., None]) -> Iterator[None]:
    """Calls `seen(self, result, *arguments)` after each call of a method."""
    original = getattr(owner, name)

    def method(self: object, *arguments: object) -> object:
        result = original(self, *arguments)
        seen(self, result, *arguments)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, method)
        yield


def test_the_harvest_keeps_soft_noisy_and_untrained_samples_alone(train: Train) -> None:
    sizes, bounds = {}, []

    def note(stage: phase1.Phase1, _result: bool, step: int) -> None:
        sizes[step] = stage.harvest.clone()
        bounds[:] = stage.bounds

    with watched(phase1.Phase1, "after_step", note):
        train(phase1_epochs=30, phase2_epochs=0, epochs=0, harvest_every=2)
    assert [len(sizes[step]) for step in (1, 2, 3)] == [0, 64, 64]  # up to a tenth of the phase everything
    for step in range(4, 31):
        new = sizes[step][len(sizes[step - 1]) :]
        assert len(new) <= 64 and (step % 2 == 0 or len(new) == 0)
        measured = sharpness(to_float(new.numpy())) if len(new) else torch.zeros(0)
        assert ((measured < bounds[0] * 1.01) | (measured > bounds[1] * 0.99)).all()  # rounded to bytes since


def test_harvest_bounds_are_the_percentiles_of_the_reals(context_of: Callable[..., Context]) -> None:
    context = context_of()
    index = context.attribute_set(0)
    measured = np.sort([float(sharpness(to_float(np.array(context.data.images[i : i + 1])))) for i in index])
    expected = np.quantile(measured, [0.10, 0.99])
    np.testing.assert_allclose(phase1.sharpness_bounds(context, index), expected, rtol=1e-5)


def test_conditional_reals_come_with_their_own_label(context_of: Callable[..., Context]) -> None:
    context = context_of(recipe="conditional")
    sets = phase1.labelled_sets(context)
    owner: dict[bytes, set[int]] = {}
    for kind, index in enumerate(sets):
        for i in index:
            image = to_float(np.array(context.data.images[i : i + 1])).contiguous()
            for form in (image, image.flip(3)):
                owner.setdefault(form.numpy().tobytes(), set()).add(kind)
    reals, kinds = phase1.conditional_reals(context, sets), np.zeros(3)
    for step in range(20):
        (images,), y = reals(step, 24)
        for image, label in zip(to_float(images).contiguous(), y, strict=True):
            (kind,) = owner[image[None].numpy().tobytes()]
            assert np.array_equal(label, [[1, 0], [0, 1], [0, 0]][kind])
            kinds[kind] += 1
    assert kinds.min() > 110  # of 480, a third each
    asked = np.concatenate([phase1.conditional_labels(context, "x", step, 24, 3) for step in range(20)])
    assert not asked.all(1).any()


# --- phase 2


def test_negatives_of_a_critic_hold_the_demanded_quarters(context_of: Callable[..., Context], train: Train, faces: Path) -> None:
    context = context_of(batch=32)
    run = train(Path(context.folder.root), batch=32, phase1_epochs=8, phase2_epochs=0, epochs=0)
    harvest = load_file(run / "stages/phase1/model.safetensors")["harvest"]
    assert len(harvest) >= 8
    stage = phase2.Phase2(context, 0)
    positives, *parts = Graphed(lambda lesson: [phase2.shown(part) for part in lesson.parts], "cpu")(stage.draw(3))
    assert len(positives) == 16
    others, negatives, degraded, blurry = parts
    assert [len(part) for part in parts] == [4, 4, 4, 4]
    table = labels(faces)
    by_image = {}
    for i, name in enumerate(context.data.table.ids):
        image = to_float(np.ascontiguousarray(context.data.images[i : i + 1])).contiguous()
        for form in (image, image.flip(3)):
            by_image[form.numpy().tobytes()] = truth_of(name, table)

    def truths(images: torch.Tensor) -> list[dict[str, bool] | None]:
        return [by_image.get(image[None].contiguous().numpy().tobytes()) for image in images]

    assert all(truth is not None and beard_only(truth) for truth in truths(others))
    assert all(truth is not None and not truth["Bald"] for truth in truths(negatives))
    assert truths(degraded) == [None] * 4 and truths(blurry) == [None] * 4
    kept = {to_float(image[None].numpy()).contiguous().numpy().tobytes() for image in harvest}
    kept |= {to_float(image[None].numpy()).flip(3).contiguous().numpy().tobytes() for image in harvest}
    assert all(image[None].contiguous().numpy().tobytes() in kept for image in blurry)
    # half of what is degraded are positives: blur itself must mean "no"
    rows = stage.sources["degraded"].index
    assert 0.4 < np.isin(rows, context.attribute_set(0)).mean() < 0.6


def test_a_critic_validates_on_people_it_never_trains_on_and_keeps_its_best_weights(
    context_of: Callable[..., Context], train: Train
) -> None:
    context = context_of(phase2_epochs=60)
    run = train(Path(context.folder.root), phase2_epochs=60, epochs=2, patience=3)
    metadata = json.loads((run / "stages/phase2-bald/state.json").read_text())
    assert 0.8 < metadata["balanced_accuracy"] <= 1 and 0 <= metadata["blurry_accuracy"] <= 1
    assert 10 <= metadata["best_step"] <= metadata["steps"] <= 60
    critic = load_critic(context.folder, "phase2-bald")
    stage = phase2.Phase2(context, 0)
    yes = torch.cat([critic(part) for part in stage.validation["positives"].split(8)]).gt(0.5).double().mean()
    no = torch.cat([critic(part) for part in stage.validation["negatives"].split(8)]).le(0.5).double().mean()
    assert float(yes + no) / 2 == pytest.approx(metadata["balanced_accuracy"])
    validation = {image[None].contiguous().numpy().tobytes() for image in stage.validation["positives"]}
    training = {
        to_float(np.ascontiguousarray(context.data.images[i : i + 1])).contiguous().numpy().tobytes()
        for i in stage.sources["positives"].index
    }
    assert validation and not validation & training


def test_a_critics_score_is_of_one_image_whatever_stands_beside_it(context_of: Callable[..., Context]) -> None:
    stage = phase2.Phase2(context_of(blurry_negatives=False), 0)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    together, alone = stage.critic(images), torch.cat([stage.critic(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


# --- phase 3


def test_the_switch(train: Train, context_of: Callable[..., Context]) -> None:
    """Up to it X_2 and no merge; at it H = G; after it X_1, H frozen, the strength rising to --merge-alpha."""
    log: list[dict] = []
    context = context_of()
    who = {}
    for k in range(2):
        for i in context.attribute_set(k):
            image = to_float(np.array(context.data.images[i : i + 1])).contiguous()
            who |= {form.numpy().tobytes(): k for form in (image, image.flip(3))}

    def note(stage: Phase3, _terms: dict, step: int) -> None:
        ((images,), _) = stage.reals[0](step, stage.context.config.batch)
        images = to_float(images)
        weights = {name: value.clone() for name, value in stage.generator.generator.state_dict().items()}
        frozen = {name: value.clone() for name, value in stage.generator.snapshot.state_dict().items()}
        kinds = {who[image[None].contiguous().numpy().tobytes()] for image in images}
        log.append(dict(step=step, kinds=kinds, G=weights, H=frozen, strength=stage.generator.strength))

    with watched(Phase3, "step", note):
        run = train(epochs=20, switch_epoch=8, merge_alpha=0.5, merge_ramp=0.5)
    assert [entry["kinds"] for entry in log] == [{1}] * 8 + [{0}] * 12
    assert [entry["strength"] for entry in log[:8]] == [0.0] * 8
    ramp = [0.5 * min(1, (i + 1) / 6) for i in range(12)]
    assert [entry["strength"] for entry in log[8:]] == pytest.approx(ramp)
    for name, value in log[7]["G"].items():  # the weights with which step 8 begins
        assert all(torch.equal(entry["H"][name], value) for entry in log[8:]), name
    assert any(not torch.equal(log[8]["G"][name], value) for name, value in log[7]["G"].items())
    merged = unpack_generator(*checkpoint.load(run / "stages/phase3-beard"))
    assert merged.merging and merged.strength == 0.5
    assert all(torch.equal(merged.snapshot.state_dict()[name], value) for name, value in log[-1]["H"].items())


def test_phase_3_begins_with_the_generator_of_phase_1(train: Train, context_of: Callable[..., Context]) -> None:
    context = context_of(ema_images=100.0)
    run = train(Path(context.folder.root), ema_images=100.0, epochs=0)
    first = unpack_generator(*context.folder.load_stage("phase1"))
    third = Phase3(context, "phase3-beard", 1, "phase1", [])
    z = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(third.generator(z), first(z)) and third.generator.generator.config.grown
    groups = third.optimizer_g.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.1 * context.config.lr, context.config.lr])
    assert run.exists()


def test_replay_chooses_a_quarter_spread_over_the_batch(train: Train) -> None:
    values = []

    def note(stage: Phase3, loss: torch.Tensor | None, batch: Batch, fake: torch.Tensor) -> None:
        if loss is not None:
            with torch.no_grad():
                kept = stage.generator.snapshot(batch.z)[3::4]
            expected = ((fake.detach()[3::4] - kept).abs() * stage.generator.mask).double().mean()
            values.append((float(loss.detach()), float(expected)))

    with watched(Phase3, "extra_loss", note):
        train(merge="regional", replay=0.25)
    assert len(values) == 3
    for ours, expected in values:
        assert ours == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert values[-1][0] > 1e-4  # G has left H


def test_replay_of_two_processes_is_the_mean_of_their_halves(train: Train, context_of: Callable[..., Context]) -> None:
    context = context_of(batch=16, merge="regional", masks="halves")
    train(Path(context.folder.root), batch=16, merge="regional", masks="halves", phase2_epochs=0, epochs=0)
    stage = Phase3(context, "phase3-beard", 1, "phase1", [])
    stage.generator.strength = 0.5
    random = torch.Generator().manual_seed(0)
    z, fake = torch.randn(16, 128, generator=random), torch.randn(16, 3, 16, 16, generator=random)

    def replayed(z: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        chosen = torch.from_numpy(stage._chosen())
        loss = stage.extra_loss(Batch(z=z, y=None, reals=[], numbers={}, penalised=False, chosen=chosen), fake)
        assert loss is not None
        return loss

    whole, halves = replayed(z, fake), []
    for rank in range(2):
        one_of_two = Randomness(context.config.seed, Shard(rank, 2), context.device)
        stage.context = replace(context, randomness=one_of_two, accelerator=SimpleNamespace(num_processes=2))
        halves.append(replayed(z[8 * rank :][:8], fake[8 * rank :][:8]))
    assert whole > 0.1
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_composites_take_each_region_from_its_own_face(context_of: Callable[..., Context], train: Train) -> None:
    context = context_of(discriminators="both", masks="halves")
    train(Path(context.folder.root), discriminators="both", masks="halves", phase2_epochs=0, epochs=0)
    stage = Phase3(context, "phase3-beard", 1, "phase1", [])
    random = torch.Generator().manual_seed(0)
    top = torch.rand(2, 3, 16, 16, generator=random) - 0.5
    bottom = 0.25 * torch.rand(2, 3, 16, 16, generator=random) + 0.2
    composite = stage._composites([top, bottom]).numpy()
    c, s = bottom.double().numpy(), top.double().numpy()
    moments = [(x.mean((2, 3), keepdims=True), np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)) for x in (c, s)]
    matched = (moments[1][1] * (c - moments[0][0]) / moments[0][1] + moments[1][0]).clip(-1, 1)
    np.testing.assert_array_equal(composite[:, :, :8], top[:, :, :8].numpy())  # bald: rows 0-8 of 16
    np.testing.assert_allclose(composite[:, :, 9:], matched[:, :, 9:], rtol=1e-4, atol=1e-5)  # beard: rows 8-15
    np.testing.assert_allclose(composite[:, :, 8], (s[:, :, 8] + matched[:, :, 8]) / 2, rtol=1e-4, atol=1e-5)


def test_own_samples_take_at_most_a_quarter_and_only_what_is_accepted(context_of: Callable[..., Context]) -> None:
    from facegan.methods.a.selfaugment import Numbers, OwnSamples

    context = context_of(batch=32, self_augment=True, self_augment_buffer=8)
    own = OwnSamples(context, (0.05, 10.0))
    random = torch.Generator().manual_seed(0)
    fakes = torch.rand(6, 3, 16, 16, generator=random) * 2 - 1
    fakes[5] = 0  # too soft
    assert len(own.images) == 0
    own.offer(fakes, torch.tensor([0.9, 0.4, 0.6, -1.0, 2.0, 0.9]))
    stored = to_float(own.images.numpy()).contiguous()
    torch.testing.assert_close(stored, fakes[[0, 2, 4]], rtol=0, atol=1 / 127)
    queue = list(own.images)  # first in, first out
    for order in ([0, 2, 4], [4, 0, 2], [2, 4, 0]):
        own.offer(fakes[order], torch.ones(3))
        queue = (queue + list(to_uint8(fakes[order])))[-8:]
        assert torch.equal(own.images, torch.stack(queue))
    own.offer(fakes[[0, 2, 4] * 4], torch.ones(12))  # more than there is room for
    assert torch.equal(own.images, to_uint8(fakes[([0, 2, 4] * 4)[-8:]]))
    again = OwnSamples(context, (0.05, 10.0))  # as a resumed run has it
    again.load_state(own.state())
    reals, most = torch.full((32, 3, 16, 16), 0.5), []
    for step in range(60):
        drawn = own.draw(step, 32)
        mixed = own.mixed(reals, Numbers(*map(torch.from_numpy, drawn)))
        assert torch.equal(mixed, again.mixed(reals, Numbers(*map(torch.from_numpy, drawn))))
        most.append(int((mixed != 0.5).flatten(1).any(1).sum()))
    assert max(most) == 8 and np.mean(most) > 5 and torch.equal(reals, torch.full((32, 3, 16, 16), 0.5))


# --- every flag runs


@pytest.mark.parametrize(
    "flags",
    [
        *(dict(merge=merge) for merge in ("none", "image", "regional")),
        *(dict(discriminators="regional", masks=masks, merge="none") for masks in ("regression", "saliency", "halves")),
        dict(discriminators="both", merge="regional"),
        *(dict(critic_score_fn=name) for name in ("identity", "clamp", "sigmoid")),
        dict(self_augment=True, critics="all"),
        dict(conditional=True, d_loss_weights="1,1,0", g_loss_weights="1,0", phase2_epochs=0),
        dict(conditional=True, discriminators="regional", merge="regional"),
        dict(grow=False, z_shape="2,4,4", inherit_discriminator=True),
        dict(discriminators="both", masks="halves", inherit_discriminator=True, merge="none"),
        dict(critic_views=3, critic_gradient_penalty=0.1, r1_every=2),
        dict(r1_gamma=0.1, r1_every=2, mixed_precision="bf16", augment="color,translation", ema_images=50.0),
        dict(blurry_negatives=False, merge="none", switch_epoch=0),
        dict(phase1_epochs=0, phase2_epochs=0, epochs=0),
    ],
    ids=lambda flags: "-".join(f"{name}={value}" for name, value in flags.items())[:60],
)  # fmt: skip
def test_every_part_runs_and_changes_the_weights(flags: dict, train: Train) -> None:
    run = train(**{"phase1_epochs": 2, "phase2_epochs": 2, "epochs": 2, "pretrain_epochs": 0, **flags})
    for file in run.glob("stages/*/model.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values() if tensor.is_floating_point())
    if flags.get("epochs") != 0:
        a, b = (load_file(run / f"stages/{stage}/model.safetensors") for stage in ("phase1", "phase3-beard"))
        assert not torch.equal(a["generator/stem.weight"], b["generator/stem.weight"])
        assert (run / "samples/phase3-beard-0000002.png").stat().st_size > 100


def test_r1_is_taken_in_fp32_and_the_rest_in_bf16(train: Train) -> None:
    from facegan.methods.a.discriminators import Discriminators
    from facegan.models.conv_gan import Generator

    images, dtypes = [], []
    with watched(Generator, "run", lambda _g, result, *_: images.append(result[1][0].dtype)):
        with watched(Discriminators, "forward", lambda _d, result, *_: dtypes.append(result[0][0].dtype)):
            train(mixed_precision="bf16", r1_gamma=0.1, r1_every=3, phase1_epochs=6, phase2_epochs=0, epochs=0)
    full, lower = torch.float32, torch.bfloat16
    assert dtypes == [full, lower, lower] * 2
    assert lower in images
