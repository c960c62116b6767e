"""`facegan mix-search`: the search, and the table that compares its recipe with simpler ways of making faces of several attributes.

Critics choose; the judge, which had no part in choosing, rates. Both are shown on styles that the search never saw.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints.critics import Critics, resized
from facegan.checkpoints.networks import StyleGAN2Checkpoint, refuse_other_colours
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import RunFolder, is_run, write_json
from facegan.config import listed
from facegan.data.attributes import names
from facegan.data.faces import synthetic_seed
from facegan.errors import FaceganError
from facegan.evaluation.evaluator import Evaluator, command_line, machine
from facegan.evaluation.kept import HEADS, Kept, kept_by
from facegan.models.stylegan2 import Generator, StyleGAN2Config, truncate
from facegan.options import SearchOptions
from facegan.plotting.comparison import comparison
from facegan.plotting.sheets import save_png
from facegan.plotting.text import interval
from facegan.styles.channels import MOST, NUMBER, channel_folders, find_channels, own_channels
from facegan.styles.masks import find_mask, mask_folders, own_masks
from facegan.styles.mix import Renderer, mix, stacked
from facegan.styles.projection import latent_distance, w_statistics
from facegan.styles.recipe import Channels, Mask, Mixture, Mode, Recipe, mask_at, mixed, mixture, uniform
from facegan.styles.refine import Refiner
from facegan.styles.search import Found, Objective, Pair, score_of, search, split_pairs
from facegan.styles.store import Style, resolve

log = logging.getLogger("facegan.styles")

AVERAGED_PSI = 0.7  # of the seeds that averaged directions are added to, where `truncation` gives none
SHOWN = 12  # rows and columns of the pictures, at most
WAYS = "ways.png"
SOFTER = 0.04  # the other softness that is tried of every mask
CHANNEL_WEIGHT, DIRECTION_WEIGHT = 1.5, 2.0  # of channels that are compared without a search: of each column's scales, of their direction
REFINED = "refined"  # after the way whose mixes are
SEARCHED = "searched"  # the way of the recipe found; those of families are called "regional searched" and so on


@dataclass(frozen=True)
class Way:
    """One row of the table: a way of making faces."""

    name: str
    drawn: Mixture  # N faces
    bases: Tensor | None = None  # [M, num_ws, w_dim], the faces that it started from
    row_of: Tensor | None = None  # int64 [N], which of them each did
    searched: dict[str, Any] | None = None  # the critics' figures on the half of the styles that the search saw
    shared: bool = True  # whether faces have styles in common, so that they are no independent samples


@dataclass(frozen=True, eq=False)
class SearchReport:
    """The recipe that was found, and the table that compares it with simpler ways."""

    folder: Path
    recipe: Recipe
    text: str  # the table for people
    record: dict[str, Any]  # as search.json has it

    def to_json(self) -> dict[str, Any]:
        """What search.json holds."""
        return dict(self.record)


def search_and_compare(
    request: SearchOptions, network: str, networks: StyleGAN2Checkpoint, draw: Renderer, rows: Sequence[Style], columns: Sequence[Style],
    start: Recipe, out: Path,
) -> SearchReport:  # fmt: skip
    """Write recipe.json, table.md, grid.png (the recipe found), grid-start.png (the one started from), ways.png (some faces of every
    way of mixing) and, last, search.json.

    `draw` makes the faces of `networks`, which messages call `network`.
    """
    request.at_least(1, "batch", "num_random", "pairs")
    request.at_least(0, "budget", "refine")
    refuse_other_colours(networks, network, "searched")
    began, generator = time.perf_counter(), draw.generator
    device = generator.mapping.w_avg.device
    critics = open_critics(request, network, device)
    out.mkdir(parents=True, exist_ok=True)  # before minutes of work
    evaluator = open_evaluator(request, network, critics.attributes, device)
    seen, held = split_pairs([row.name for row in rows], [column.name for column in columns], request.seed, request.pairs)
    w_avg = generator.mapping.w_avg.cpu()

    row_ws, column_ws = paired(rows, columns, seen)
    statistics = w_statistics(generator)

    def away(ws: Tensor) -> Tensor:
        return latent_distance(generator, ws.to(device), statistics)

    resolution = generator.config.resolution
    objective = Objective(row_ws, column_ws, w_avg, draw, critics, resolution, request.batch, budget=request.budget, away=away)
    modes: tuple[Mode, ...] = (request.mode,) if request.mode else ("interpolate", "arithmetic", "regional", "stylespace")
    masks = masks_to_try(request, network, critics.attributes[-1])
    channels = channels_to_try(request, network, generator.config, critics.attributes[-1]) or start.channels
    found = search(objective, start, modes, masks, channels)
    found.recipe.write(out / "recipe.json")
    refine = Refiner(draw, critics, request.refine) if request.refine else None
    ways = all_ways(request, generator, rows, columns, held, found, start, objective, critics.attributes, masks, channels, refine)
    row_images = draw(stacked(rows))
    region = region_of(request, network, critics.attributes[-1], generator.config.resolution)
    table: list[dict[str, Any]] = []
    pictures: list[Tensor] = []
    shown = min(SHOWN, *(len(way.drawn) for way in ways))
    for way in tqdm(ways, desc="ways of mixing", unit="way", disable=None):
        images = draw(way.drawn)
        table.append(rated(way, images, row_images, critics, evaluator, draw, region))
        pictures.append(images[:shown])
    save_png(comparison(torch.stack(pictures), [""] * shown, [way.name.partition(":")[0] for way in ways]), out / WAYS)

    card = next((line["judge"].pop("judge") for line in table if line["judge"]), None)
    for line in table:
        if line["judge"]:
            line["judge"].pop("judge", None)  # the same card in every line
    learned = may_have_seen(network, networks, critics.attributes)
    row_names, col_names = ([style.name for style in styles] for styles in (rows, columns))
    record = {
        "recipe": found.recipe.to_json(), "start": start.to_json(), "attributes": critics.attributes, "table": table,
        "rows": row_names, "columns": col_names, "pairs_searched": seen, "pairs_kept": held,
        "ranges": [{"recipe": recipe.describe(), **asdict(score)} for recipe, score in found.ranges], "recipes_rendered": found.recipes,
        "judge": card, "network_may_have_seen_joint_faces": learned, "command": command_line(),
        "request": {"network": network, **replace(request, rows=tuple(row_names), cols=tuple(col_names)).to_json()},
        "machine": machine(device), "seconds": time.perf_counter() - began,
    }  # fmt: skip
    text = markdown(table, critics.attributes, found, len(seen), len(held), learned, request.refine)
    (out / "table.md").write_text(f"{text}\n\n    {record['command']}\n\n{record['machine']}; {record['seconds']:.0f} s.\n")
    for recipe, name in ((found.recipe, "grid.png"), (start, "grid-start.png")):
        save_png(mix(draw, rows[:SHOWN], columns[:SHOWN], recipe).grid(), out / name)
    write_json(out / "search.json", record)  # last: where it is, everything is
    return SearchReport(out, found.recipe, text, record)


def may_have_seen(network: str, networks: StyleGAN2Checkpoint, attributes: Sequence[str]) -> bool:
    """Whether the network may have learned from faces that carry all `attributes`; so may a run that held out others than these."""
    if networks.may_have_seen_joint_faces:
        return True
    return is_run(network) and not {*names(RunFolder(network).config().attributes)} <= {*attributes}


# --- who rates


def open_critics(request: SearchOptions, network: str, device: torch.device) -> Critics:
    """Those of `critics`, by default of the network's own run."""
    run = request.critics or network
    if not is_run(run):
        raise FaceganError(f"the search needs critics, and {run} is no run of `facegan train`: name one with `critics=RUN`")
    critics = Critics(run, names(request.attributes) if request.attributes else (), device)
    trained = names(RunFolder(run).config().attributes)
    if sorted(critics.attributes) != sorted(trained):
        raise FaceganError(
            f"`attributes` is {','.join(request.attributes)}: {run} held out only faces that carry all of {', '.join(trained)}, so a rate "
            "of fewer would count faces it learned from; name all, or a run trained for these"
        )
    return critics


def open_evaluator(request: SearchOptions, network: str, attributes: Sequence[str], device: torch.device) -> Evaluator | None:
    """The judge over the data of `data` or of the critics' run; None, with a sentence, where there are none."""
    run = request.critics or network
    config = RunFolder(run).config()
    data = request.data or config.data
    if not request.data and synthetic_seed(data) is None and not Path(data).exists():
        log.warning("the table goes without the judge: %s, the data of %s, are not here; `data` names them", data, run)
        return None
    written = dict(zip(names(config.attributes), listed(config.attributes), strict=True))
    config = replace(config, attributes=tuple(written[name] for name in attributes))
    return Evaluator(config, data, request.judge, device=device)


# --- what is compared


def paired(rows: Sequence[Style], columns: Sequence[Style], pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Both styles of each pair, [N, num_ws, w_dim] twice."""
    return stacked([rows[i] for i, _ in pairs]), stacked([columns[j] for _, j in pairs])


def all_ways(
    request: SearchOptions, generator: Generator, rows: Sequence[Style], columns: Sequence[Style], pairs: Sequence[Pair],
    found: Found, start: Recipe, objective: Objective, attributes: Sequence[str], masks: Sequence[Mask] = (), channels: Channels = (),
    refine: Refiner | None = None,
) -> list[Way]:  # fmt: skip
    """The rows of the table, the mixes over `pairs`; `objective` knows what the search saw."""
    w_avg = generator.mapping.w_avg.cpu()
    row_ws, column_ws = paired(rows, columns, pairs)
    psi = request.truncation if request.truncation != 1 else AVERAGED_PSI
    bases, row_of = stacked(rows), torch.tensor([row for row, _ in pairs])
    num_ws, resolution, mean = generator.config.num_ws, generator.config.resolution, column_ws.mean(0)
    every = range(num_ws)
    recipes = [
        ("given" if start.mask or start.channels else "fixed layers", start),
        ("averaged columns", replace(start, average=1.0)),
        ("directions", replace(uniform("arithmetic", every, num_ws), average=1.0)),
    ]
    if masks:
        alike = next((mask for mask in masks if mask.name == attributes[-1]), masks[0])
        recipes.append(("regional", uniform("regional", every, num_ws, 1.0, alike)))
    if channels:
        recipes.append(("stylespace", uniform("stylespace", every, num_ws, CHANNEL_WEIGHT, None, channels[:NUMBER])))
        shifted = uniform("arithmetic", every, num_ws, DIRECTION_WEIGHT, None, channels[:NUMBER])
        recipes.append(("stylespace directions", replace(shifted, average=1.0)))
    if len(found.best) > 1:
        recipes += [(f"{family} {SEARCHED}", recipe) for family, recipe in found.best.items()]
    mixes = [
        Way(
            f"{name}: {recipe.describe()}", mixture(row_ws, column_ws, recipe, w_avg, resolution, mean), bases, row_of,
            figures(objective.scores(recipe), attributes),
        )
        for name, recipe in (*recipes, (SEARCHED, found.recipe))
    ]  # fmt: skip
    for name, recipe in (*recipes, (SEARCHED, found.recipe)):
        if not refine or name not in ("given", "regional", SEARCHED):
            continue
        if not recipe.mask:
            log.warning("%s is not refined: it has no mask (%s)", name, recipe.describe())
            continue
        refined = refine(mixture(row_ws, column_ws, recipe, w_avg, resolution, mean), column_ws)
        mixes.append(Way(f"{name} {REFINED}: {recipe.describe()}", refined, bases, row_of))
    averages = []
    if not generator.config.c_dim:  # a conditional network has no faces of seeds alone, to which they could be added
        seeds = truncate(stacked(resolve([f"0-{len(pairs) - 1}"], generator, None)), w_avg, psi)
        moved = Mixture(seeds + (stacked(rows).mean(0) - w_avg) + (stacked(columns).mean(0) - w_avg))
        averages = [Way(f"averaged styles, psi {psi:g}", moved, seeds, torch.arange(len(seeds)))]
    order, random = random_mixes(row_ws, column_ws, request.num_random, request.seed)
    return [
        Way("random mixes", Mixture(random), bases, row_of[order]),
        *mixes,
        *averages,
        Way("rows alone", Mixture(bases), shared=False),
        Way("columns alone", Mixture(stacked(columns)), shared=False),
    ]


def random_mixes(row_ws: Tensor, column_ws: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The pairs [N, num_ws, w_dim], dealt out at random to `count` random ranges of layers that cross over: in which order, and mixed."""
    random = np.random.Generator(np.random.Philox(seed))
    num_ws = row_ws.shape[1]
    mixes, order = [], random.permutation(len(row_ws))
    for part in np.array_split(order, count):
        first, last = sorted(random.integers(0, num_ws, size=2).tolist())
        recipe = uniform("crossover", range(first, last + 1), num_ws)
        mixes.append(mixed(row_ws[part], column_ws[part], recipe, torch.zeros(row_ws.shape[2])))
    return torch.from_numpy(order), torch.cat(mixes)


def masks_to_try(request: SearchOptions, network: str, attribute: str) -> list[Mask]:
    """The one that is named, or the network's own (of the columns' attribute, if it has that), the lower half and the mouth; each as it is,
    and softer. None where a mode is asked for that does without."""
    if request.mode not in (None, "regional") and not request.mask:
        return []
    folders = mask_folders(request.styles, located(network))
    own = own_masks(folders)
    names = [request.mask] if request.mask else [*([attribute] if attribute in own else own), "lower", "mouth"]
    given = [request.softness] if request.softness is not None else [None, SOFTER]
    return [find_mask(name, folders, softness) for name in names for softness in given]


def region_of(request: SearchOptions, network: str, attribute: str, resolution: int) -> Tensor | None:
    """Where the columns' attribute is, [1, 1, R, R], whatever masks are tried; None where the network has no mask of it."""
    folders = mask_folders(request.styles, located(network))
    return mask_at(find_mask(attribute, folders), resolution) if attribute in own_masks(folders) else None


def channels_to_try(request: SearchOptions, network: str, config: StyleGAN2Config, attribute: str) -> Channels:
    """The channels that are named, or the network's of the columns' attribute, the best first; none where a mode is asked for that does
    without, or where none were found yet."""
    folders = channel_folders(request.styles, located(network))
    asked = request.mode in (None, "stylespace") and attribute in own_channels(folders)
    name = request.channels or (attribute if asked else "")
    return find_channels(name, folders, config).first(MOST) if name else ()


# --- how it is rated


def figures(scores: Tensor, attributes: Sequence[str]) -> dict[str, Any]:
    """Critics' scores [K, N] as shares of faces."""
    marginals = {name: float(column.gt(0.5).float().mean()) for name, column in zip(attributes, scores, strict=True)}
    return {"samples": scores.shape[1], **asdict(score_of(scores)), "marginals": marginals}


def rated(
    way: Way,
    images: Tensor,
    row_images: Tensor,
    critics: Critics,
    evaluator: Evaluator | None,
    draw: Renderer,
    region: Tensor | None = None,
) -> dict[str, Any]:
    """A line of the table. The rows alone should carry attribute 1 only: they stand where Method A has its phase 1, as a floor.

    `region`: [1, 1, R, R], where the columns' attribute is: what changes outside of it, and of the skin there, is told of ways without a
    mask too.
    """
    scores = torch.cat([critics(part) for part in images.split(256)], dim=1)
    line: dict[str, Any] = {
        "name": way.name, "critics": figures(scores, critics.attributes), "critics_searched": way.searched, "judge": None, "kept": None,
    }  # fmt: skip
    if evaluator:
        size = evaluator.judge.resolution
        own = resized(images, size, "the judge")
        seen = evaluator.score_samples(own.__getitem__, len(own))
        report = evaluator.measure(seen, resized(row_images, size, "the judge"))
        report["floors"]["rows"] = report["floors"].pop("phase1")
        report |= evaluator.appearance(seen) | {"audit": evaluator.audit(seen)}
        if way.bases is not None and way.row_of is not None:
            line["kept"] = kept_by(evaluator, seen, images, draw(way.bases), way.row_of, way.drawn.mask, region).to_json()
        line["judge"] = without_limits(report) if way.shared else report
    return line


def without_limits(report: dict[str, Any]) -> dict[str, Any]:
    """The report without intervals, which take faces for independent samples: 256 mixes of 16 rows and 16 columns know little more
    than 32 styles do, and intervals of 256 faces hold the truth about every second time."""
    for values in (report["joint"], report["normalised"], *report["marginal_intervals"].values()):
        values |= {"low": None, "high": None}
    return report


def markdown(
    table: Sequence[dict[str, Any]], attributes: Sequence[str], found: Found, seen: int, kept: int, learned: bool, refine: int = 0
) -> str:
    """The table for people."""
    head = ["way", "faces", "critics, searched half", "critics", "judge: joint rate", *attributes, "floor", "ceiling", "normalised"]
    head += HEADS
    lines = [head, ["---"] * len(head)]
    for line in table:
        report, searched = line["judge"], line["critics_searched"]
        judged = ["-"] * (len(attributes) + 4)
        if report:
            judged = [interval(report["joint"]), *(f"{report['marginals'][name]:.3f}" for name in attributes)]
            judged += [f"{report['floor']:.3f}", f"{report['ceiling']:.3f}", interval(report["normalised"])]
        own = f"{searched['joint']:.3f}" if searched else "-"
        keeps = Kept.cells(line["kept"])
        lines.append([line["name"], str(line["critics"]["samples"]), own, f"{line['critics']['joint']:.3f}", *judged, *keeps])
    note = (
        f"Recipes were chosen among {found.recipes} by critics on {seen} pairs of one half of the styles; all other columns are of {kept} "
        "pairs of the other half, which the search never saw (averages, rows and columns alone: of all styles). Critics: share of faces in "
        "which each sees its attribute."
    )
    if any(line["name"].partition(":")[0].endswith(REFINED) for line in table):
        note += f" Refined mixes are moved by these critics, pair by pair, in {refine} steps: critics, change outside and skin are what is"
        note += " optimised there."
    if any(line["judge"] for line in table):
        note += " Mixes share their rows and columns, so they are no independent samples, and have no intervals."
        note += " What is kept of the row's face, as shares of what two rows differ by: the pixels outside the mask that changed, the"
        note += " judge's features, and the skin's tone under the mask (its brightest quarter), of ways without a mask as of one of the"
        note += " columns' attribute, where the network has it; row found: mixes that of all rows are nearest to their own; variety: how"
        note += " much those of two rows differ."
        note += " The judge's floor is the larger of its rate on the rows alone and on real faces of attribute 1, blurred like the samples."
    if learned:
        note += (
            "\n\nThis network may have seen faces with all attributes in its training, so its rate says how well such styles mix, not that "
            "they were never learned."
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n\n" + note
