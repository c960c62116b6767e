"""Flags, recipes and what is refused before any work."""

from __future__ import annotations

import argparse
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from facegan.checkpoints.run import RunFolder
from facegan.cli import main
from facegan.cli.parser import add_arguments
from facegan.errors import FaceganError
from facegan.methods import config_of, configured
from facegan.methods.a.config import RECIPES, MethodAConfig


def parse(*words: str) -> MethodAConfig:
    parser = argparse.ArgumentParser()
    add_arguments(parser, MethodAConfig)
    config = configured(**vars(parser.parse_args(["--out", "x", *words])))
    assert isinstance(config, MethodAConfig)
    return config


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_defaults_and_its_differences_and_any_flag_overrides_it(recipe: str) -> None:
    config = parse("--recipe", recipe)
    for item in fields(config):
        assert getattr(config, item.name) == {"out": "x", "recipe": recipe, **RECIPES[recipe]}.get(item.name, item.default), item.name
    overridden = parse("--recipe", recipe, "--merge", "image", "--switch-epoch=-1", "--d-loss-weights", "2,3,4", "--no-grow", "--lr", "0.5")
    assert (overridden.merge, overridden.d_loss_weights, overridden.grow, overridden.lr) == ("image", (2.0, 3.0, 4.0), False, 0.5)


def test_the_thesis_recipe_holds_every_value_of_the_source() -> None:
    config = parse("--recipe", "thesis")
    assert config.d_loss_weights == (1.0, 1.0, 0.1) and config.g_loss_weights == (2.0, 30.0)
    assert config.epochs == 1000 and config.switch == 500 and config.merge == "feature" and config.critic_score_fn == "min"
    assert not config.self_augment and config.discriminators == "full" and config.critic_views == 1


def test_a_shorter_run_keeps_the_place_of_the_switch() -> None:
    assert parse("--recipe", "thesis", "--epochs", "40").switch == 20
    assert parse("--recipe", "thesis", "--epochs", "40", "--switch-epoch", "0", "--merge", "none").switch == 0


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (dict(resolution=48), "resolution"), (dict(batch=0), "batch"), (dict(log_every=0), "log_every"), (dict(out=""), "out"),
        (dict(d_loss_weights=(0.0, 0.0, 0.0)), "d_loss_weights"), (dict(d_loss_weights=(-1.0, 1.0, 1.0)), "d_loss_weights"),
        (dict(g_loss_weights=(0.0, 0.0)), "g_loss_weights"), (dict(d_loss_weights=(0.0, 0.0, 1.0)), "d_loss_weights"),
        (dict(d_loss_weights=(math.nan, 1.0, 1.0)), "d_loss_weights"),
        (dict(merge="feature"), "merge"), (dict(recipe="thesis", epochs=1), "merge"), (dict(recipe="seed"), "recipe"),
        (dict(masks="saliency", phase2_epochs=0), "masks"), (dict(switch_epoch=9999), "switch_epoch"), (dict(epochs=-1), "epochs"),
        (dict(replay=1.5), "replay"), (dict(merge_alpha=2.0), "merge_alpha"), (dict(self_augment_share=0.5), "self_augment_share"),
        (dict(z_shape=(0,)), "z_shape"), (dict(lr=-1.0), "lr"), (dict(lr=math.nan), "lr"), (dict(beta1=1.0), "beta1"),
        (dict(beta2=-0.5), "beta2"), (dict(seed=-1), "seed"), (dict(minimum_images=0), "minimum_images"),
        (dict(self_augment_buffer=0), "self_augment_buffer"), (dict(images_per_epoch=-5), "images_per_epoch"),
        (dict(r1_gamma=-1.0), "r1_gamma"), (dict(patience=0), "patience"), (dict(critic_gradient_penalty=-1.0), "critic_gradient_penalty"),
        (dict(method="c"), "method"),
    ],
    ids=str,
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(FaceganError) as refused:
        configured(**{"out": "x", **values})
    assert str(refused.value).startswith(f"`{field}`") and "\n" not in str(refused.value)


@pytest.mark.parametrize("words", ["--d-loss-weights 1,1", "--d-loss-weights 1,x,1", "--g-loss-weights 1,2,3", "--z-shape 3,", "--lr nan"])
def test_flags_of_another_type_are_refused_by_name(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["train", "--out", "x", *words.split()])
    except SystemExit as ended:  # of the parser, which reads single numbers
        status = ended.code
    said = capsys.readouterr().err.splitlines()[-1]
    assert status == 2 and words.split()[0] in said and words.split()[1] in said


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_configuration_is_what_its_recipe_says(recipe: str, tmp_path: Path) -> None:
    """Built by hand, changed or read back: never a recipe's name with the values of another."""
    config = MethodAConfig(recipe=recipe, out="x", lr=0.5)
    assert {name: getattr(config, name) for name in RECIPES[recipe]} == RECIPES[recipe] and config.lr == 0.5
    folder = RunFolder(tmp_path)
    folder.claim(config, "data")
    assert config_of(folder) == config and replace(config, lr=0.25) == MethodAConfig(recipe=recipe, out="x", lr=0.25)


def test_lists_and_texts_of_attributes_are_the_same() -> None:
    ways = ["bald, beard", ["bald", "beard"], ("bald", "beard")]
    assert {MethodAConfig(out="x", attributes=way) for way in ways} == {MethodAConfig(out="x")}  # type: ignore[arg-type]
