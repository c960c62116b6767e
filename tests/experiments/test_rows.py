"""The rows: valid commands, each different from the one it builds on in the part that it names, and in nothing else."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from facegan import cli
from facegan.checkpoints import checkpoint
from facegan.checkpoints.merged import unpack_generator
from facegan.cli.parser import add_arguments
from facegan.errors import FaceganError
from facegan.experiments.ablation import rows
from facegan.methods import configured
from facegan.methods.a.config import MethodAConfig
from facegan.methods.a.phase3 import Phase3
from facegan.session import accelerator_for, make_context

SHARED = "common"  # folder of phase 1
# What each row changes of the one it builds on, written down from METHOD's table and not from the code.
CHANGES = {
    "plain": {"inherit_generator", "inherit_discriminator"},
    "critic": {"d_loss_weights", "g_loss_weights", "blurry_negatives"},
    "blurry": {"blurry_negatives"},
    "hard-critic": {"critic_views", "critic_gradient_penalty"},
    "equal-critic": {"g_loss_weights"},
    "merge-none": {"switch_epoch"},
    "merge-image": {"merge"},
    "merge-feature": {"merge"},
    "merge-regional": {"merge"},
    "thesis": {"recipe", "grow", "inherit_lr", "augment", "inherit_discriminator"},
    "thesis-unmerged": {"merge"},
    "thesis-image": {"merge"},
    "thesis-regional": {"merge"},
    "halves": {"discriminators", "masks"},
    "saliency": {"masks"},
    "regression": {"masks"},
    "best": {"recipe", "grow", "critics"},
    "best-full": {"discriminators"},
    "best-critic": {"g_loss_weights", "critic_views", "critic_gradient_penalty"},
    "best-merge": {"merge", "switch_epoch"},
    "best-own": {"self_augment"},
}
GIVEN = dict(data="synthetic", resolution=32, width=0.5, phase1_epochs=6, phase2_epochs=4, epochs=8)


def flags(name: str, **given: object) -> dict:
    return rows.flags_of(name, {**GIVEN, **given}, 2, "out", SHARED)


@pytest.mark.parametrize("attributes", ["bald,beard", "bald,bangs", "bald,beard,glasses"])
@pytest.mark.parametrize("name", rows.ROWS)
def test_every_row_is_a_command_of_train(name: str, attributes: str) -> None:
    """Read back by a parser of `facegan train`, its words give a valid configuration with what the user gave."""
    parser = argparse.ArgumentParser()
    add_arguments(parser, MethodAConfig)
    line = rows.to_argv(flags(name, attributes=attributes))
    config = configured(**vars(parser.parse_args(line)))
    assert (config.seed, config.out, config.resolution, config.width) == (2, "out", 32, 0.5)
    assert config.attributes == tuple(attributes.split(","))
    assert config.phase1_from == ("" if name in ("phase1", "conditional") else SHARED)
    steps = attributes.count(",")  # of phase 3, in rows with full discriminators
    lengths = {"phase1": (6, 0), "conditional": (6 + 8 * steps, 0)}  # as long as any other row in all of its phases together
    assert (config.phase1_epochs, config.epochs) == lengths.get(name, (6, 8))


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_differs_in_the_part_it_names(name: str) -> None:
    ours, theirs = (asdict(configured(**flags(row))) for row in (name, rows.ROWS[name].on))
    assert {field for field in ours if ours[field] != theirs[field]} == CHANGES[name]


def test_all_rows_build_on_rows_above_them() -> None:
    order = list(rows.ROWS)
    assert {*CHANGES} == {*order} - {"phase1", "conditional", "scratch"} == {name for name in order if rows.ROWS[name].on}
    assert order[0] == rows.START and {*rows.ROWS["best"].against} == {"conditional", "plain", "thesis"}
    assert all(order.index(other) < order.index(name) for name, row in rows.ROWS.items() for other in (row.on, *row.against) if other)
    assert [name for name in order if not rows.ROWS[name].inherits] == ["conditional", "scratch"]


def test_without_a_word_on_lengths_all_are_equally_long() -> None:
    configs = [configured(**rows.flags_of(name, {}, 0, "out", SHARED)) for name in ("thesis", "plain", "best")]
    assert len({(config.epochs, config.phase1_epochs) for config in configs}) == 1


def test_rows_are_chosen_by_name_and_bring_the_common_phase_1() -> None:
    assert rows.chosen(("best", "thesis")) == ["phase1", "thesis", "best"]
    assert rows.chosen(()) == rows.chosen(("all",)) == list(rows.ROWS)
    with pytest.raises(FaceganError, match="`rows` has 'bets'"):
        rows.chosen(("bets",))


@pytest.mark.parametrize("flag", ["recipe", "merge", "phase1_from", "switch_epoch", "discriminators"])
def test_what_rows_differ_in_is_not_the_users(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = {"switch_epoch": "3", "recipe": "best", "merge": "none", "phase1_from": "x", "discriminators": "full"}
    assert cli.main(["ablate", "--out", str(tmp_path), f"--{flag.replace('_', '-')}={words[flag]}"]) == 2
    assert "is what the rows differ in" in capsys.readouterr().err


@pytest.mark.parametrize("inherit", [True, False])
def test_a_generator_from_scratch_knows_nothing_of_phase_1(inherit: bool, configure: Callable, train: Callable, tmp_path: Path) -> None:
    start = train(recipe="plain", epochs=0)
    config = configure(out=str(tmp_path / "run"), recipe="plain", inherit_lr=0.25, inherit_generator=inherit, inherit_discriminator=False)
    context = make_context(config, accelerator_for(config))
    context.folder.claim(config, context.data.fingerprint)
    tensors, metadata = checkpoint.load(start / "stages/phase1")
    context.folder.finish("phase1", tensors, metadata)
    context.seed_networks("phase3-beard")
    stage = Phase3(context, "phase3-beard", 1, "phase1", [])
    ours = stage.generator.generator.state_dict()
    theirs = unpack_generator(tensors, metadata).generator.state_dict()
    weights = [name for name in theirs if name.endswith("weight")]
    assert ours.keys() == theirs.keys() and weights
    assert all(torch.equal(ours[name], theirs[name]) is inherit for name in weights)
    # What is not inherited trains at the full rate.
    assert stage.optimizer_g.param_groups[0]["lr"] == pytest.approx(config.lr * (0.25 if inherit else 1.0))


def test_an_ablation_goes_on_where_its_data_lie_elsewhere_now(faces: Path, train: Callable[..., Path], tmp_path: Path) -> None:
    from facegan.experiments.ablation.run import claim as claim_ablation

    root = tmp_path / "ablation"
    root.mkdir()
    given = {"data": str(faces), "resolution": 16}
    claim_ablation(root, given)
    for data in (f"{faces}/", os.path.relpath(faces)):
        claim_ablation(root, {**given, "data": data})
    shutil.copytree(faces, tmp_path / "moved")
    with pytest.raises(FaceganError, match="`data` '.*' there, '.*/moved' here"):  # no run yet by which to tell
        claim_ablation(root, {**given, "data": str(tmp_path / "moved")})
    train(root / "best" / "seed0", phase1_epochs=2, epochs=0)
    claim_ablation(root, {**given, "data": str(tmp_path / "moved")})
    (tmp_path / "moved/img_align_celeba/000001.png").write_bytes((faces / "img_align_celeba/000002.png").read_bytes())
    with pytest.raises(FaceganError, match="belongs to another ablation"):
        claim_ablation(root, {**given, "data": str(tmp_path / "moved")})
