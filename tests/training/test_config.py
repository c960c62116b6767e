"""Flags, recipes and what is refused before any work."""

from __future__ import annotations

import argparse

import pytest

from facegan.errors import FaceganError
from facegan.training.config import add_arguments, from_arguments, from_json
from facegan.training.config_a import RECIPES, MethodAConfig


def parse(*words: str) -> MethodAConfig:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    config = from_arguments(vars(parser.parse_args(["--out", "x", *words])))
    assert isinstance(config, MethodAConfig)
    return config


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_defaults_and_its_differences_and_any_flag_overrides_it(recipe: str) -> None:
    config, plain = parse("--recipe", recipe), MethodAConfig()
    for name, value in config.to_json().items():
        expected = {"out": "x", "recipe": recipe, **RECIPES[recipe]}.get(name, getattr(plain, name))
        assert value == expected, name
    overridden = parse("--recipe", recipe, "--merge", "image", "--switch-epoch=-1", "--alpha", "2,3,4", "--no-grow", "--lr", "0.5")
    assert (overridden.merge, overridden.alphas, overridden.grow, overridden.lr) == ("image", (2.0, 3.0, 4.0), False, 0.5)
    assert from_json(overridden.to_json()) == overridden


def test_the_seed_recipe_holds_every_value_of_the_source() -> None:
    config = parse("--recipe", "seed")
    assert config.alphas == (1.0, 1.0, 0.1) and config.betas == (2.0, 30.0)
    assert config.epochs == 1000 and config.switch == 500 and config.merge == "feature" and config.f == "min"
    assert not config.self_augment and config.discriminators == "full" and config.critic_views == 1


def test_a_shorter_run_keeps_the_place_of_the_switch() -> None:
    assert parse("--recipe", "seed", "--epochs", "40").switch == 20
    assert parse("--recipe", "seed", "--epochs", "40", "--switch-epoch", "0", "--merge", "none").switch == 0


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--resolution", "48"], "--resolution"), (["--batch", "0"], "--batch"), (["--log-every", "0"], "--log-every"),
        (["--alpha", "1,1"], "--alpha"), (["--alpha", "1,x,1"], "--alpha"), (["--beta", "1,2,3"], "--beta"),
        (["--alpha", "0,0,0"], "--alpha"), (["--alpha=-1,1,1"], "--alpha"), (["--beta", "0,0"], "--beta"),
        (["--alpha", "0,0,1"], "--alpha"), (["--merge", "feature"], "--merge"), (["--recipe", "seed", "--epochs", "1"], "--merge"),
        (["--masks", "saliency", "--phase2-epochs", "0"], "--masks"),
        (["--switch-epoch", "9999"], "--switch-epoch"), (["--epochs", "-1"], "--epochs"), (["--replay", "1.5"], "--replay"),
        (["--merge-alpha", "2"], "--merge-alpha"), (["--self-augment-share", "0.5"], "--self-augment-share"),
        (["--z-shape", "0"], "--z-shape"), (["--z-shape", "3,"], "--z-shape"), (["--lr", "-1"], "--lr"), (["--lr", "nan"], "--lr"),
        (["--beta1", "1"], "--beta1"), (["--beta2", "-0.5"], "--beta2"), (["--seed", "-1"], "--seed"),
        (["--minimum-images", "0"], "--minimum-images"), (["--self-augment-buffer", "0"], "--self-augment-buffer"),
        (["--images-per-epoch", "-5"], "--images-per-epoch"), (["--r1-gamma", "-1"], "--r1-gamma"), (["--patience", "0"], "--patience"),
        (["--critic-gradient-penalty", "-1"], "--critic-gradient-penalty"), (["--out", ""], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_name(words: list[str], flag: str) -> None:
    with pytest.raises(FaceganError) as refused:
        parse(*words)
    assert str(refused.value).startswith(flag) and "\n" not in str(refused.value)
