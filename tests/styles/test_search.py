"""The search finds what was planted, sees one half of the pairs only, and leaves the judge alone; its table is restated."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import facegan
from facegan.checkpoints.critics import load_critic
from facegan.checkpoints.networks import StyleGAN2Checkpoint, open_networks, save_networks
from facegan.checkpoints.run import RunFolder
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.evaluation import mixing as table
from facegan.evaluation.judge import judge as judge_module
from facegan.evaluation.judge.judge import Judge
from facegan.evaluation.judge.network import JudgeConfig
from facegan.models.regions import Regions
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.options import SearchOptions
from facegan.styles.masks import write_masks
from facegan.styles.recipe import MODES, Recipe, uniform
from facegan.styles.search import WORST, Found, Objective, Score, score_of, search, split_pairs
from facegan.styles.store import Style

LAYERS, SIDE = 6, 16  # of a network of 16 px
START = uniform("crossover", [3, 4, 5], LAYERS)


# --- the search, over a network whose image is its style


def planted(target: tuple[float, ...], mode: str) -> Objective:
    """Two critics, of the even and of the odd layers, content only with the target's weights, and more or less strict from face
    to face. The image shows the style; columns differ from rows (arithmetic: from the mean style) by 1 everywhere."""
    random = torch.Generator().manual_seed(5)
    rows, w_avg = torch.randn(16, LAYERS, 3, generator=random), torch.randn(3, generator=random)
    columns = (w_avg if mode == "arithmetic" else rows) + torch.ones(16, LAYERS, 3)
    strict = 0.2 + 0.5 * torch.rand(2, 16, generator=random)
    seen = 0

    def critics(images: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        part = slice(seen % len(rows), seen % len(rows) + len(images))
        seen += len(images)
        weights = (images - rows[part]).mean(-1)  # [N, layers]
        far = (weights - torch.tensor(target)).abs()
        return torch.stack([1 - strict[k, part] * far[:, k::2].sum(1) for k in (0, 1)])

    return Objective(rows, columns, w_avg, render=lambda drawn: drawn.ws, critics=critics, resolution=SIDE, batch=3)


@pytest.mark.parametrize(
    ("target", "mode"),
    [
        ((0.0, 1.0, 0.25, 1.25, 0.0, 0.75), "interpolate"),
        ((1.0, 0.0, 0.0, 0.5, 0.0, 1.0), "interpolate"),
        ((0.5, 0.0, 1.25, 0.0, 1.0, 0.75), "arithmetic"),
        ((1.0, 0.0, 1.0, 1.0, 0.0, 1.0), "crossover"),
    ],
)
def test_the_search_finds_the_planted_weights(target: tuple[float, ...], mode: str) -> None:
    objective = planted(target, mode)
    found = search(objective, uniform(mode, [3, 4, 5], LAYERS), [mode])
    assert found.recipe == Recipe(mode, target)
    assert found.score.joint == 1 and found.score.least == pytest.approx(1, abs=1e-5)
    assert found.recipes == len(objective.known) < 6**LAYERS / 20


def test_what_lies_where_the_network_has_no_faces_is_not_tried() -> None:
    """Critics that are content only with weights of 4 in all layers lead nowhere; those of 1.25 are within reach."""
    objective = planted((4.0,) * LAYERS, "arithmetic")
    rows = replace(uniform("arithmetic", range(LAYERS), LAYERS), weights=(0.0,) * LAYERS)

    def away(styles: torch.Tensor) -> torch.Tensor:  # 4 halfway between weights of 1.25 and of 1.5
        return 4 * (styles - objective.w_avg).square().sum(-1).mean(-1).sqrt() / halfway

    reach = [
        (objective.rows + weight * (objective.columns - objective.w_avg) - objective.w_avg).square().sum(-1).mean(-1).sqrt().mean()
        for weight in (1.25, 1.5)
    ]
    halfway, objective.away = sum(reach) / 2, away
    asked: list[int] = []
    render = objective.render
    objective.render = lambda drawn: (asked.append(1), render(drawn))[1]
    assert objective(replace(rows, weights=(1.5,) * LAYERS)) == WORST and not asked
    assert objective(replace(rows, weights=(1.25,) * LAYERS)) > WORST and asked
    found = search(objective, uniform("arithmetic", range(LAYERS), LAYERS), ["arithmetic"])
    assert found.score > WORST and max(found.recipe.weights) <= 1.25
    assert 0 < found.recipes == sum(score > WORST for score in objective.known.values()) < len(objective.known)
    unlimited = Objective(objective.rows, objective.columns, objective.w_avg, render, objective.critics, SIDE, 3)
    assert unlimited(replace(rows, weights=(1.5,) * LAYERS)) > WORST


def test_the_ranges_are_all_contiguous_ones_the_best_first() -> None:
    found = search(planted((0.0, 0.0, 1.0, 1.0, 0.0, 0.0), "interpolate"), START, ["interpolate"])
    ranges = {recipe.weights for recipe, _ in found.ranges}
    assert len(found.ranges) == len(ranges) == LAYERS * (LAYERS + 1) // 2
    assert all("0" not in "".join(f"{weight:g}" for weight in weights).strip("0") for weights in ranges)
    assert found.ranges[0][0].layers == [2, 3] and found.recipe == uniform("crossover", [2, 3], LAYERS)
    scores = [score for _, score in found.ranges]
    assert scores == sorted(scores, reverse=True)


def test_a_mode_that_is_not_allowed_is_not_tried() -> None:
    for mode in {*MODES} - {"regional", "stylespace"}:
        objective = planted((0.0, 0.3, 1.0, 1.0, 0.0, 0.0), "interpolate")
        found = search(objective, uniform(mode, [3, 4, 5], LAYERS), [mode])
        assert found.recipe.mode == mode or (mode, found.recipe.mode) == ("interpolate", "crossover")
        assert {recipe.mode for recipe in objective.known} == {mode if mode == "arithmetic" else "interpolate"}
        assert {(recipe.mask, recipe.channels) for recipe in objective.known} == {(None, ())}


def test_the_share_of_faces_counts_before_how_surely() -> None:
    scores = torch.tensor([[0.9, 0.6, 0.4, 3.0], [0.6, 0.5, 0.9, -2.0]])
    score = score_of(scores)
    assert score.joint == 0.25 and score.least == pytest.approx((0.6 + 0.5 + 0.4 + 0) / 4)
    assert Score(0.5, 0.1) > Score(0.25, 0.9) and Score(0.5, 0.2) > Score(0.5, 0.1)


def test_no_style_is_in_both_halves_which_go_by_name() -> None:
    rows, columns = [f"r{i}" for i in range(5)], [f"c{j}" for j in range(7)]
    seen, kept = split_pairs(rows, columns, 0, 1000)
    sides = [[{pair[axis] for pair in half} for half in (seen, kept)] for axis in (0, 1)]
    assert [[len(side) for side in halves] for halves in sides] == [[3, 2], [4, 3]]
    assert all(not first & second for first, second in sides)
    assert len({*seen}) == len(seen) == 12 and len({*kept}) == len(kept) == 6  # every pair within a half, once

    def named(pairs: list[tuple[int, int]], rows: list[str]) -> set[tuple[str, str]]:
        return {(rows[i], columns[j]) for i, j in pairs}

    turned = split_pairs(rows[::-1], columns, 0, 1000)
    assert named(turned[0], rows[::-1]) == named(seen, rows)
    assert named(split_pairs(rows, columns, 1, 1000)[0], rows) != named(seen, rows)
    few = split_pairs(rows, columns, 0, 4)
    assert few == (seen[:4], kept[:4])
    for sizes in ((1, 7), (5, 1)):
        with pytest.raises(FaceganError, match=f"`rows` and `cols` name {sizes[0]} and {sizes[1]} styles: expected at least 2"):
            split_pairs(rows[: sizes[0]], columns[: sizes[1]], 0, 10)


def test_random_mixes_take_every_pair_once_over_ranges_of_layers() -> None:
    rows, columns = (torch.arange(11.0)[:, None, None].expand(-1, LAYERS, 2) + offset for offset in (0, 100))
    order, ws = table.random_mixes(rows, columns, 4, seed=1)
    pairs = (ws[:, :, 0] % 100).mean(1)
    assert pairs.tolist() == order.tolist() and sorted(pairs.tolist()) == list(range(11))
    picked = (ws[:, :, 0] >= 100).float()  # [N, layers]: 1 where the column's style went
    assert (picked.sum(1) >= 1).all() and (picked.diff(dim=1).abs().sum(1) <= 2).all() and 1 < len(picked.unique(dim=0)) <= 4
    assert torch.equal(ws, table.random_mixes(rows, columns, 4, seed=1)[1])


# --- the command, on a run of a few steps


@pytest.fixture(scope="module")
def run(train: Callable[..., Path]) -> Path:
    return train(critics="all", merge="none", switch_epoch=0)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    def network(resolution: int) -> Path:
        torch.manual_seed(1)
        config = StyleGAN2Config(resolution=resolution, z_dim=32, w_dim=32, mapping_layers=2, channel_base=256, channel_max=16)
        generator = Generator(config)
        generator.mapping.w_avg.normal_(std=0.1)
        folder = tmp_path_factory.mktemp("network")
        save_networks(StyleGAN2Checkpoint(config, {"G_ema": generator.state_dict()}), folder)
        return folder

    return network


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache in which judges are kept, here of a few steps each."""
    folder = tmp_path_factory.mktemp("judges")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGAN_CACHE", str(folder))
        patch.setattr(judge_module, "JudgeConfig", partial(JudgeConfig, steps=6, batch=20, width=4, checks=1))
        yield folder / "judge"


@pytest.fixture(scope="module")
def searched(run: Path, network: Callable, judges: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, Path]:
    """search.json, its folder, and the network; the search must see its pairs only, and the judge must not be asked meanwhile."""
    out, folder = tmp_path_factory.mktemp("search"), network(SIDE)
    asked: list[str] = []
    given: list[Objective] = []

    def spied(judge: Judge, *arguments: object, **options: object) -> torch.Tensor:
        asked.append(phase[0])
        return probabilities(judge, *arguments, **options)

    def watched(objective: Objective, *arguments: object) -> object:
        phase[0] = "search"
        given.append(objective)
        found = search(objective, *arguments)
        phase[0] = "after"
        return found

    phase, probabilities = ["before"], Judge.probabilities
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Judge, "probabilities", spied)
        patch.setattr(table, "search", watched)
        words = ["mix-search", "--network", str(folder), "--rows", "0-3", "--cols", "10-14", "--critics", str(run)]
        assert main([*words, "--num-random", "3", "--batch", "7", "--out", str(out)]) == 0
    assert "after" in asked and "search" not in asked
    record = json.loads((out / "search.json").read_text())
    rows, columns = zip(*record["pairs_searched"], strict=True)
    torch.testing.assert_close(given[0].rows, styles_of(folder, list(rows)))
    torch.testing.assert_close(given[0].columns, styles_of(folder, [10 + column for column in columns]))
    return record, out, folder


def faces_of(folder: Path, ws: torch.Tensor) -> torch.Tensor:
    return open_networks(folder).generator().synthesis(ws, "const")


def styles_of(folder: Path, seeds: list[int]) -> torch.Tensor:
    z = torch.from_numpy(np.concatenate([np.random.RandomState(seed).randn(1, 32) for seed in seeds])).float()
    return open_networks(folder).generator().mapping(z)


def test_the_search_writes_what_it_found(searched: tuple) -> None:
    record, out, _ = searched
    written = ["grid-start.png", "grid.png", "recipe.json", "search.json", "table.md", "ways.png"]
    assert sorted(path.name for path in out.iterdir()) == written
    assert json.loads((out / "recipe.json").read_text()) == record["recipe"]
    assert record["start"] == {"mode": "crossover", "weights": [0.0, *[1.0] * 5]}  # 8-16 px of 16
    assert len(record["pairs_searched"]) == 2 * 3 and len(record["pairs_kept"]) == 2 * 2
    # ranges of layers in two modes; two modes under lower and mouth, each of two softnesses, three averages, five weights
    assert len(record["ranges"]) == 2 * 21 + 2 * 4 * 3 * 5 and record["recipes_rendered"] >= 42 + 120
    assert record["rows"] == [f"seed000{i}" for i in range(4)] and "torch" in record["machine"] and record["judge"]
    ways = [line["name"].split(":")[0] for line in record["table"]]
    mixes = ["fixed layers", "averaged columns", "directions", "regional", "layers searched", "regional searched", "searched"]
    assert ways == ["random mixes", *mixes, "averaged styles, psi 0.7", "rows alone", "columns alone"]
    text = (out / "table.md").read_text()
    for line in record["table"]:
        assert f"| {line['name']} | {line['critics']['samples']} |" in text
        # styles alone are independent samples, faces that share them are not
        limited = line["name"] in ("rows alone", "columns alone")
        joint = line["judge"]["joint"]
        assert f"| {joint['rate']:.3f} {'[' if limited else '|'}" in text and (joint["low"] is not None) is limited
        assert line["judge"]["audit"].keys() == {"Male", "Young", "Smiling"} and "diversity_attr" in line["judge"]["diversity"]
        assert line["judge"]["quality"].keys() & {"kid_attr", "note"}
    assert "no independent samples" in text


def test_the_table_is_that_of_critics_and_judge(searched: tuple, run: Path, judges: Path) -> None:
    record, _, folder = searched
    judge, critics = Judge.load(next(judges.iterdir())), [load_critic(RunFolder(run), f"phase2-{name}") for name in ("bald", "beard")]
    lines = {line["name"].split(":")[0].split(",")[0]: line for line in record["table"]}
    rows, columns = styles_of(folder, [0, 1, 2, 3]), styles_of(folder, [10, 11, 12, 13, 14])
    w_avg = open_networks(folder).generator().mapping.w_avg
    seeds = styles_of(folder, list(range(10)))

    def mixes(recipe: dict, pairs: str) -> torch.Tensor:
        a, b = (part[[pair[axis] for pair in record[pairs]]] for axis, part in enumerate((rows, columns)))
        b = b + recipe.get("average", 0) * (b.mean(0) - b)  # of the pairs
        weights = torch.tensor(recipe["weights"])[:, None]
        styles = a + weights * (b - (w_avg if recipe["mode"] == "arithmetic" else a))
        if "mask" not in recipe:
            return faces_of(folder, styles)
        grey = np.array(Image.open(io.BytesIO(base64.b64decode(recipe["mask"]["png"])))) / 255
        mask = torch.from_numpy(grey.reshape(SIDE, grey.shape[0] // SIDE, SIDE, -1).mean((1, 3))).float()[None, None]
        return open_networks(folder).generator().synthesis(a, "const", regions=Regions(styles[:, None], mask))

    moved = w_avg + 0.7 * (seeds[: len(record["pairs_kept"])] - w_avg) + (rows.mean(0) - w_avg) + (columns.mean(0) - w_avg)
    everything = {
        "fixed layers": mixes(record["start"], "pairs_kept"),
        "searched": mixes(record["recipe"], "pairs_kept"),
        "averaged styles": faces_of(folder, moved),
        "rows alone": faces_of(folder, rows),
        "columns alone": faces_of(folder, columns),
    }
    floor = judge.verdicts(faces_of(folder, rows))[:, -1].mean()
    for name, images in everything.items():
        line = lines[name]
        scores = torch.stack([critic(images) for critic in critics])
        assert line["critics"]["samples"] == len(images)
        assert line["critics"]["joint"] == pytest.approx(float((scores > 0.5).all(0).float().mean()))
        assert line["critics"]["least"] == pytest.approx(float(scores.amin(0).clamp(0, 1).mean()), rel=1e-3)
        assert line["critics"]["marginals"]["beard"] == pytest.approx(float((scores[1] > 0.5).float().mean()))
        assert line["judge"]["joint"]["rate"] == pytest.approx(judge.verdicts(images)[:, -1].mean())
        assert line["judge"]["floors"].keys() == {"blurred", "rows"} and line["judge"]["floors"]["rows"] == pytest.approx(floor)
    for name, recipe in (("fixed layers", record["start"]), ("searched", record["recipe"])):
        scores = torch.stack([critic(mixes(recipe, "pairs_searched")) for critic in critics])
        assert lines[name]["critics_searched"]["joint"] == pytest.approx(float((scores > 0.5).all(0).float().mean()))
    on_searched = [Score(*(lines[name]["critics_searched"][key] for key in ("joint", "least"))) for name in ("searched", "fixed layers")]
    assert on_searched[0] >= on_searched[1]


def test_the_recipe_is_used_again(searched: tuple, tmp_path: Path) -> None:
    record, out, folder = searched
    words = ["mix", "--network", str(folder), "--rows", "0-3", "--cols", "10-14", "--recipe", str(out / "recipe.json")]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "grid.png").read_bytes() == (out / "grid.png").read_bytes()


def test_python_searches_among_styles_as_among_names(searched: tuple, run: Path, judges: Path, tmp_path: Path) -> None:
    record, out, folder = searched
    net = facegan.load(folder, device="cpu")
    rows, columns = net.styles("0-3"), net.styles("10-14")
    found = net.search_recipe(rows=rows, cols=columns, critics=str(run), num_random=3, batch=7, out=tmp_path)
    assert asdict(found.recipe)["weights"] == tuple(record["recipe"]["weights"]) and found.text in (out / "table.md").read_text()
    own = {"seconds", "command"}
    ours, theirs = ({key: value for key, value in each.items() if key not in own}
                    for each in (json.loads((tmp_path / "search.json").read_text()), record))  # fmt: skip
    assert ours == theirs and found.to_json()["rows"] == record["rows"]


def test_without_data_the_table_goes_without_the_judge(
    searched: tuple, run: Path, network: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = shutil.copytree(run, tmp_path / "run")
    record = json.loads((elsewhere / "config.json").read_text())
    record["config"]["data"] = "/no/such/place"
    (elsewhere / "config.json").write_text(json.dumps(record))
    words = ["mix-search", "--network", str(network(2 * SIDE)), "--rows", "0-1", "--cols", "2-3", "--mode", "crossover"]
    with caplog.at_level("INFO"):
        assert main([*words, "--critics", str(elsewhere), "--out", str(tmp_path / "out")]) == 0
    assert "goes without the judge: /no/such/place" in caplog.text
    assert caplog.text.count("faces of 32 px are resized to 16 px, which the critics know") == 1
    record = json.loads((tmp_path / "out/search.json").read_text())
    assert record["judge"] is None and all(line["judge"] is None for line in record["table"])
    assert record["recipe"]["mode"] == "crossover" and len(record["recipe"]["weights"]) == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--critics", "RUN", "--attributes", "bald,hat"], "has no critic for hat (it has: bald, beard): train it with --critics all"),
        (["--critics", "RUN", "--attributes", "bald"], "--attributes is bald: RUN held out only faces that carry all of bald, beard, so"),
        (["--critics", "RUN", "--attributes", "beard,bald,beard"], "name all, or a run trained for these"),
        (["--critics", "RUN", "--rows", "0"], "--rows and --cols name 1 and 4 styles: expected at least 2 of each"),
        (["--critics", "/no/run"], "/no/run is no run of `facegan train`"),
        (["--critics", "RUN", "--data", "/no/such/place"], "no such folder or file"),
        (["--critics", "RUN", "--judge", "/no/judge"], "does not hold a complete judge"),
        (["--critics", "RUN", "--num-random", "0"], "--num-random is 0"),
    ],
)
def test_mistakes_cost_no_search(
    words: list[str], said: str, run: Path, network: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["mix-search", "--network", str(network(SIDE)), "--rows", "0-3", "--cols", "4-7", "--out", str(tmp_path)]
    assert main([*arguments, *(str(run) if word == "RUN" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert said.replace("RUN", str(run)) in error and "ranges of layers" not in error and "Traceback" not in error


# --- what the table says of it all


def requested(critics: object, **fields: object) -> SearchOptions:
    return SearchOptions(critics=str(critics), **fields)


def test_the_order_of_the_attributes_may_change_and_own_selectors_stay(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge rates by what the run was trained for, rows' attribute first."""
    elsewhere = shutil.copytree(run, tmp_path / "run")
    record = json.loads((elsewhere / "config.json").read_text())
    record["config"]["attributes"] = ["bald=Bald & !Blurry/!Bald", "beard"]
    (elsewhere / "config.json").write_text(json.dumps(record))
    monkeypatch.setattr(table, "Evaluator", lambda config, *_, device: config)
    request = requested(elsewhere, attributes="beard,skinhead")
    cpu = torch.device("cpu")
    critics = table.open_critics(request, "net", cpu)
    assert critics.attributes == ["beard", "bald"]
    assert table.open_evaluator(request, "net", critics.attributes, cpu).attributes == ("beard", "bald=Bald & !Blurry/!Bald")


@pytest.mark.parametrize("flags", [{}, {"mode": "crossover"}, {"mode": "stylespace"}, {"mask": "mouth"}, {"softness": 0.2}])
def test_what_is_kept_is_told_of_the_attributes_region_whatever_is_tried(flags: dict, tmp_path: Path) -> None:
    values = torch.zeros(SIDE, SIDE)
    values[4:12, 2:9] = 1
    write_masks({"beard": values.repeat_interleave(8, 0).repeat_interleave(8, 1)}, tmp_path / "masks")
    request = SearchOptions(rows=("0-3",), cols=("4-7",), **flags)
    found = table.region_of(request, str(tmp_path), "beard", SIDE)
    assert found is not None and torch.equal(found, values[None, None])
    assert table.region_of(request, str(tmp_path), "bald", SIDE) is None


def test_a_network_that_may_have_seen_joint_faces_is_said_to(searched: tuple) -> None:
    record, out, folder = searched
    sentence = "This network may have seen faces with all attributes in its training"
    assert open_networks(folder).may_have_seen_joint_faces and record["network_may_have_seen_joint_faces"] is True
    assert (out / "table.md").read_text().count(sentence) == 1
    found = Found(START, Score(0, 0), [], 1)
    assert [sentence in table.markdown([], ["a", "b"], found, 1, 1, learned) for learned in (True, False)] == [True, False]


def test_a_run_has_seen_what_it_did_not_hold_out(run: Path) -> None:
    """A run for bald,beard held out faces with all of bald,beard,glasses too, but none of bald,glasses that it could learn from."""
    clean = StyleGAN2Checkpoint(StyleGAN2Config(resolution=8), {}, may_have_seen_joint_faces=False)
    for attributes, learned in (("beard,bald", False), ("bald,beard,glasses", False), ("bald,glasses", True)):
        assert table.may_have_seen(str(run), clean, attributes.split(",")) is learned
        assert table.may_have_seen("no-run", clean, attributes.split(",")) is False
        assert table.may_have_seen(str(run), replace(clean, may_have_seen_joint_faces=True), attributes.split(","))


def test_a_conditional_network_goes_without_averages_over_seeds() -> None:
    config = StyleGAN2Config(resolution=8, z_dim=4, w_dim=3, c_dim=2, mapping_layers=2, channel_base=64, channel_max=8)
    styles = [Style(f"s{i}", torch.randn(config.num_ws, 3)) for i in range(4)]
    recipe = uniform("crossover", [0], config.num_ws)
    objective = SimpleNamespace(scores=lambda recipe: torch.zeros(2, 2))
    request, rows, columns = requested("run"), styles[:2], styles[2:]
    found = Found(recipe, Score(0, 0), [], 1, {"layers": recipe})
    ways = table.all_ways(request, Generator(config), rows, columns, [(0, 1)], found, recipe, objective, ["a", "b"])
    names = [way.name.split(":")[0] for way in ways]
    assert names == ["random mixes", "fixed layers", "averaged columns", "directions", "searched", "rows alone", "columns alone"]
