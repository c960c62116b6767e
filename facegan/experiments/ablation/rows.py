"""The ablation table of Method A: each row is nothing but flags of `facegan train`, and names the row that it builds on; and Method B's.

A row is compared with that one, from which it differs in the part that its sentence names. All rows of a seed start from the
phase 1 of row `phase1` (`--phase1-from`); a row that cannot, as its networks are others, trains as long in one phase as any other
does in phases 1 and 3 together. `--pretrain-from` is for row `phase1` alone: the others have what it made of it, or other networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from facegan.errors import FaceganError
from facegan.methods import METHODS, configured
from facegan.methods.a.config import RECIPES

START = "phase1"
MIXES, CONDITIONAL = "mixes", "conditional"
ROWS_B = {  # of Method B, what is run
    MIXES: "a network whose styles are mixed in all ways: each way is a line of the table",
    CONDITIONAL: "a second network, conditional, of the same length, asked for both labels (Karras et al. 2020b; Mirza & Osindero 2014)",
}


@dataclass(frozen=True)
class Row:
    on: str  # the row that it builds on; "" for one that stands by itself
    sentence: str  # what it is, or what it adds to that row
    flags: dict[str, Any]
    alone: bool = False  # cannot take over the common phase 1
    against: tuple[str, ...] = ()  # other rows that it is compared with as well

    @property
    def inherits(self) -> bool:
        """Whether it owes the common phase 1 anything."""
        return not self.alone and self.flags.get("inherit_generator", True)


CRITIC = dict(recipe="plain", d_loss_weights=(1.0, 1.0, 0.1), g_loss_weights=(2.0, 30.0))  # the source's weights
SWITCH = dict(**CRITIC, switch_epoch=-1)
REGIONAL = dict(recipe="plain", discriminators="regional")
EQUAL = (1.0, 1.0)  # weights of the discriminator and of the critics
HARD = dict(critic_views=4, critic_gradient_penalty=1.0)
# fmt: off
ROWS: dict[str, Row] = {
    "phase1":         Row("", "a GAN of attribute 1 alone, where all others but conditional and scratch start",
                          dict(recipe="plain", epochs=0)),
    "conditional":    Row("", "a conditional GAN asked for the combination that it never saw (Mirza & Osindero 2014)",
                          dict(recipe="conditional", epochs=0, phase2_epochs=0), alone=True),
    # --- the source's ladder, step by step
    "scratch":        Row("", "a plain GAN on the last attribute, from scratch, of `epochs` alone, no phase 1",
                          dict(recipe="plain", inherit_generator=False, inherit_discriminator=False)),
    "plain":          Row("scratch", "+ warm start: generator and discriminator inherited from phase 1", dict(recipe="plain")),
    "critic":         Row("plain", "+ the frozen critic D2 in both losses, without blurry negatives",
                          dict(**CRITIC, blurry_negatives=False)),
    "blurry":         Row("critic", "+ blurry and harvested negatives for D2", CRITIC),
    "hard-critic":    Row("blurry", "+ a D2 that is harder to attack: gradient penalty, four views", dict(**CRITIC, **HARD)),
    "equal-critic":   Row("hard-critic", "that critic with half of the loss, in place of 94 %",
                          dict(**{**CRITIC, "g_loss_weights": EQUAL}, **HARD)),
    "merge-none":     Row("blurry", "+ the data change at the switch, no merge", dict(**SWITCH, merge="none")),
    "merge-image":    Row("merge-none", "+ AdaIN merge of the images with the snapshot H", dict(**SWITCH, merge="image")),
    "merge-feature":  Row("merge-none", "+ AdaIN merge of the features with H", dict(**SWITCH, merge="feature")),
    "merge-regional": Row("merge-none", "+ AdaIN merge under the attribute's mask, with replay", dict(**SWITCH, merge="regional")),
    "thesis":         Row("merge-feature", "the source's recipe: new layers, inherited ones at a tenth of the rate, new discriminators, no "
                          "augmentation", dict(recipe="thesis")),
    "thesis-unmerged": Row("thesis", "the source's recipe without its merge", dict(recipe="thesis", merge="none")),
    "thesis-image":   Row("thesis", "the source's recipe, merging images in place of features", dict(recipe="thesis", merge="image")),
    "thesis-regional": Row("thesis", "the source's recipe, merging features under the attribute's mask, with replay",
                          dict(recipe="thesis", merge="regional")),
    # --- regional adversaries
    "halves":         Row("plain", "an adversary for each attribute, seeing a fixed half, in place of one for the last attribute",
                          dict(**REGIONAL, masks="halves")),
    "saliency":       Row("halves", "masks from where critics look, in place of halves", dict(**REGIONAL, masks="saliency")),
    "regression":     Row("halves", "masks learned by regression on the labels, in place of halves", dict(**REGIONAL, masks="regression")),
    "best":           Row("regression", "+ new layers: recipe `best`", dict(recipe="best"),
                          against=("conditional", "plain", "thesis")),
    # --- what `best` could still gain
    "best-full":      Row("best", "+ a full-image discriminator, on composites", dict(recipe="best", discriminators="both")),
    "best-critic":    Row("best", "+ frozen critics, hard to attack, with half of the loss",
                          dict(recipe="best", g_loss_weights=EQUAL, **HARD)),
    "best-merge":     Row("best", "+ the regional merge with H, after half of the epochs",
                          dict(recipe="best", switch_epoch=-1, merge="regional")),
    "best-own":       Row("best", "+ self-augmentation by accepted samples", dict(recipe="best", self_augment=True)),
}
# fmt: on


def chosen(wanted: Sequence[str]) -> list[str]:
    """The rows of these names and the common phase 1, in the table's order; none or "all": every row."""
    unknown = [name for name in wanted if name not in ROWS and name != "all"]
    if unknown:
        raise FaceganError(f"`rows` has {unknown[0]!r}: expected names joined by commas, of {', '.join(ROWS)}")
    if not wanted or "all" in wanted:
        return list(ROWS)
    return [name for name in ROWS if name in wanted or name == START]


def refuse_decided(given: Sequence[str]) -> None:
    """Flags that tell the rows apart are not the user's to give."""
    decided = {flag for row in ROWS.values() for flag in row.flags if flag not in ("epochs", "phase2_epochs")} | {"phase1_from"}
    for name in given:
        if name in decided:
            raise FaceganError(f"`{name}` is what the rows differ in: leave it out, and choose among them by `rows`")


def flags_of(name: str, given: dict[str, Any], seed: int, out: str, start: str) -> dict[str, Any]:
    """All flags of a row's `facegan train`: what the user gave, then the row's own; checked.

    `given`: by field name; `start`: folder of the common phase 1 of this seed.
    """
    from facegan.data.attributes import names  # here, as the help lists the rows at once

    row = ROWS[name]
    # The recipes differ in length, and a comparison must not: `best`'s, where the user does not say.
    flags = {"method": "a", "epochs": RECIPES["best"]["epochs"], **given, **row.flags, "seed": seed, "out": out}
    if name != START:
        flags.pop("pretrain_from", None)
    if row.alone:
        lengths = configured(**{**flags, "epochs": given.get("epochs", RECIPES["best"]["epochs"])})
        steps = len(names(lengths.attributes)) - 1  # of phase 3, each of `epochs`
        flags["phase1_epochs"] = lengths.phase1_epochs + steps * lengths.epochs  # type: ignore[attr-defined]
    elif name != START:
        flags["phase1_from"] = start
    configured(**flags)
    return flags


def to_argv(flags: dict[str, Any]) -> list[str]:
    """Flags by field name -> the command line that sets them, in the order of the configuration."""
    order = [item.name for item in fields(METHODS[flags.get("method", "a")].config)]
    line = []
    for name in sorted(flags, key=order.index):
        flag, value = name.replace("_", "-"), flags[name]
        line += (
            [f"--{flag}" if value else f"--no-{flag}"]
            if isinstance(value, bool)
            else [f"--{flag}", ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)]
        )
    return line
