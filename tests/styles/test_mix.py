"""Recipes, layers, mixing, the grid, `facegan mix` and `facegan walk`, against plain restatements."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import facegan
from facegan.checkpoints.networks import StyleGAN2Checkpoint, save_networks
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.plotting import video
from facegan.plotting.grid import Grid, grid
from facegan.styles import mix
from facegan.styles.recipe import Recipe, layer_sizes, mixed, parse_layers, parse_weights, start_layers, uniform
from facegan.styles.store import write_style
from facegan.styles.walk import walk

LAYERS, WIDTH = 8, 32  # of a network of 32 px


def config(resolution: int, **options: object) -> StyleGAN2Config:
    return StyleGAN2Config(resolution=resolution, z_dim=32, w_dim=WIDTH, mapping_layers=2, channel_base=256, channel_max=16, **options)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(3)
    generator = Generator(config(32)).eval().requires_grad_(False)
    generator.mapping.w_avg.normal_()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.3)
    return generator


@pytest.fixture(scope="module")
def network(generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "net"
    save_networks(StyleGAN2Checkpoint(generator.config, {"G_ema": generator.state_dict()}), folder)
    return folder


@pytest.fixture
def refusal(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Runs `facegan mix` or `walk`, which must fail; returns the one sentence that it said."""

    def refusal(command: str, *words: str) -> str:
        assert main([command, "--network", str(network), *words]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("facegan: ")]
        assert len(errors) == 1
        return errors[0]

    return refusal


def style_of(generator: Generator, seed: int) -> torch.Tensor:
    return generator.mapping(torch.from_numpy(np.random.RandomState(seed).randn(1, 32)).float())[0]


# --- recipes and layers


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("4-7", [4, 5, 6, 7]), ("4,6", [4, 6]), ("6,4-5", [4, 5, 6]), ("0", [0]), ("all", list(range(8))),
        ("4px", [0]), ("8px", [1, 2]), ("16-32px", [3, 4, 5, 6, 7]), ("0, 8-16px", [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_layers_as_users_write_them(text: str, layers: list[int]) -> None:
    assert parse_layers(text, config(32)) == layers


@pytest.mark.parametrize("text", ["8", "4-8", "5-3", "64px", "12px", "16-64px", "2-8px", "8-4px"])
def test_layers_beyond_the_network_tell_its_range(text: str) -> None:
    with pytest.raises(FaceganError, match=f"asks for {text}, but this network has layers 0 to 7, of sizes 4px to 32px"):
        parse_layers(text, config(32))


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1;2", "4 px", "1-2-3", "all,1"])
def test_layers_that_are_none(text: str) -> None:
    with pytest.raises(FaceganError, match="expected layers such as"):
        parse_layers(text, config(32))


def maps_of(generator: Generator, w: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    """(size, output) of every layer."""
    maps: list[tuple[int, torch.Tensor]] = []
    layers = [layer for block in generator.synthesis.blocks for layer in block.layers]
    hooks = [layer.register_forward_hook(lambda layer, _, out: maps.append((layer.size, out))) for layer in layers]
    generator.synthesis(w, "const")
    for hook in hooks:
        hook.remove()
    return maps


def test_sizes_are_those_of_the_first_layer_that_a_style_changes(generator: Generator) -> None:
    w = style_of(generator, 1)[None]
    before, first = maps_of(generator, w), []
    for layer in range(LAYERS):
        changed = w.clone()
        changed[:, layer] += 1
        pairs = zip(before, maps_of(generator, changed), strict=True)
        differ = [size for (size, old), (_, new) in pairs if not torch.equal(old, new)]
        first.append(differ[0] if differ else 32)  # the last style colours only
    assert first == layer_sizes(generator.config)


def test_the_two_styles_of_every_size_of_stylegan1() -> None:
    assert layer_sizes(config(16, architecture="stylegan1")) == [4, 4, 8, 8, 16, 16]


@pytest.mark.parametrize(
    ("resolution", "text", "layers"),
    [(256, "32-64px", [5, 6, 7, 8]), (64, "32-64px", [5, 6, 7, 8, 9]), (32, "16-32px", [3, 4, 5, 6, 7]), (8, "4-8px", [0, 1, 2, 3])],
)
def test_the_start_is_32_to_64_px_or_the_same_share(resolution: int, text: str, layers: list[int]) -> None:
    assert start_layers(config(resolution)) == (text, layers)


def test_weights_as_users_write_them() -> None:
    assert parse_weights("4:0.5,5-6:1,8px:-0.25", config(32)) == (0, -0.25, -0.25, 0, 0.5, 1, 1, 0)
    for text in ("4", "4:", "4:x", "4:nan", "4:1e999", "4:1e308", ":1"):
        with pytest.raises(FaceganError, match="`weights`|`layers`"):
            parse_weights(text, config(32))


def test_a_recipe_comes_back_from_its_file(tmp_path: Path) -> None:
    recipe = Recipe("arithmetic", (0.0, 0.1, 1.25, -2.0, 1 / 3))
    recipe.write(tmp_path / "deep/recipe.json")
    assert Recipe.read(tmp_path / "deep/recipe.json", 5) == recipe
    with pytest.raises(FaceganError, match="for networks of 5 styles, this one has 8"):
        Recipe.read(tmp_path / "deep/recipe.json", 8)
    for text in ("", "[]", "{}", '{"mode": "blend", "weights": [1]}', '{"mode": "crossover", "weights": [0.5]}',
                 '{"mode": "arithmetic", "weights": ["1"]}', '{"mode": "arithmetic", "weights": [NaN]}', '{"mode": null, "weights": [1]}',
                 '{"mode": "arithmetic", "weights": [1e308]}', '{"mode": "arithmetic", "weights": [true]}', "[" * 100_000,
                 '{"mode": "arithmetic", "weights": [1' + "0" * 400 + "]}", '{"mode": "arithmetic", "weights": []}'):  # fmt: skip
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(FaceganError, match="bad.json is no recipe") as caught:
            Recipe.read(tmp_path / "bad.json", 1)
        assert len(str(caught.value)) < 600
    with pytest.raises(FaceganError, match="weights of mixing hold 1e[+]308; expected one number per layer, from -1000 to 1000"):
        Recipe("interpolate", (0.5, 1e308))


def test_a_recipe_in_words() -> None:
    assert Recipe("interpolate", (0, 1, 1, 0.5, 0, 1)).describe() == "interpolate 1-2, 3:0.5, 5"
    assert Recipe("crossover", (0, 0)).describe() == "crossover of no layer"


# --- mixing


def test_mixing_is_its_formula() -> None:
    random = torch.Generator().manual_seed(0)
    rows, columns, w_avg = (torch.randn(*shape, generator=random) for shape in ((3, 1, 5, 7), (1, 2, 5, 7), (7,)))
    weights = (0.0, 0.3, 1.0, 1.25, -0.5)
    between, added = (mixed(rows, columns, Recipe(mode, weights), w_avg) for mode in ("interpolate", "arithmetic"))
    crossed = mixed(rows, columns, Recipe("crossover", (0, 1, 1, 0, 1)), w_avg)
    assert between.shape == added.shape == crossed.shape == (3, 2, 5, 7)
    for i in range(3):
        for j in range(2):
            for layer, weight in enumerate(weights):
                a, b = rows[i, 0, layer].double(), columns[0, j, layer].double()
                torch.testing.assert_close(between[i, j, layer].double(), (1 - weight) * a + weight * b, rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(added[i, j, layer].double(), a + weight * (b - w_avg.double()), rtol=1e-5, atol=1e-5)
                assert torch.equal(crossed[i, j, layer], columns[0, j, layer] if layer in (1, 2, 4) else rows[i, 0, layer])


def test_styles_of_another_network_are_refused() -> None:
    with pytest.raises(FaceganError, match=r"styles are \[5, 7\] and \[6, 7\], and the recipe has 5 weights"):
        mixed(torch.zeros(5, 7), torch.zeros(6, 7), Recipe("crossover", (1,) * 5), torch.zeros(7))


@pytest.mark.parametrize("mode", ["crossover", "interpolate"])
@pytest.mark.parametrize("noise_mode", ["const", "random"])
def test_all_layers_give_the_columns_image_and_none_the_rows_to_the_bit(
    generator: Generator, mode: str, noise_mode: str, tmp_path: Path
) -> None:
    styles = [mix.Style(f"seed{seed}", style_of(generator, seed)) for seed in range(5)]
    rows, columns = styles[:2], styles[2:]
    for weight, axis in ((1.0, 1), (0.0, 0)):
        recipe = uniform(mode, range(LAYERS), LAYERS, weight)
        mixes = mix.mix(mix.Renderer(generator, noise_mode), rows, columns, recipe)
        for i in range(2):
            for j in range(3):
                assert torch.equal(mixes.tensors[i, j], (mixes.rows, mixes.cols)[axis][(i, j)[axis]])
    if noise_mode == "const":
        for column, image in zip(columns, mixes.cols, strict=True):
            assert torch.equal(image, generator.synthesis(column.w[None], "const")[0])
    assert not torch.equal(mixes.rows[0], mixes.rows[1])


def test_random_noise_has_a_source_of_its_own_that_gives_a_seeds_numbers(generator: Generator) -> None:
    ws = torch.stack([style_of(generator, seed) for seed in range(3)])
    before = torch.random.get_rng_state()
    found = mix.Renderer(generator, "random", batch=2)(ws)
    assert torch.equal(before, torch.random.get_rng_state())
    for rows in (slice(0, 2), slice(2, 3)):
        torch.manual_seed(0)  # as it was once drawn, from everyone's source
        assert torch.equal(found[rows], generator.synthesis(ws[rows], "random"))


def test_a_batch_too_large_says_which_to_try(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(ws: torch.Tensor, noise_mode: str, noise: None, regions: None) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(generator.synthesis, "forward", exhausted)
    with pytest.raises(FaceganError, match="6 faces of 32 px at once do not fit into memory: .*`batch` 3"):
        mix.Renderer(generator, batch=8)(torch.zeros(6, LAYERS, WIDTH))


def test_free_memory_is_given_back_as_faces_are_made(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search draws thousands of batches, and grew by 32 MiB with each recipe."""
    given: list[None] = []
    monkeypatch.setattr(mix, "GIVES_BACK", 4 * 32**2)
    monkeypatch.setattr(mix, "give_back", lambda: given.append(None))
    draw, ws = mix.Renderer(generator, batch=2), torch.zeros(3, LAYERS, WIDTH)
    calls = []
    for _ in range(4):
        draw(ws)
        calls.append(len(given))
    assert calls == [0, 1, 2, 2]  # after 5 faces, and after 4 more


class Counted(mix.Renderer):
    """A renderer that counts the faces it made."""

    made = 0

    def __call__(self, ws: torch.Tensor) -> torch.Tensor:
        self.made += len(ws)
        return super().__call__(ws)


@pytest.mark.parametrize("batch", [1, 4])
def test_faces_are_written_as_they_are_made_and_an_interruption_leaves_them(generator: Generator, batch: int, tmp_path: Path) -> None:
    styles = [mix.Style(f"s{seed}", style_of(generator, seed)) for seed in range(6)]
    rows, columns, recipe = styles[:3], styles[3:5], uniform("interpolate", range(3), LAYERS, 0.5)
    kept = mix.mix(mix.Renderer(generator), rows, columns, recipe)
    kept.save(tmp_path / "kept")
    draw = Counted(generator, batch=batch)
    mixing = mix.Mixing(draw, rows, columns, recipe)
    assert (len(mixing), mixing.row_names, mixing.col_names, draw.made) == (11, ("s0", "s1", "s2"), ("s3", "s4"), 0)
    for row, column, image in mixing:
        expected = kept.rows[row] if column < 0 else kept.cols[column] if row < 0 else kept.tensors[row, column]
        torch.testing.assert_close(image, expected, rtol=0, atol=0 if batch == 1 else 1e-4)
    assert draw.made == 11
    assert mixing.save(tmp_path / "made") == tmp_path / "made/grid.png"
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "made").iterdir()) and len(names) == 3 * 2 + 2
    for name in names if batch == 1 else ():
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "made" / name).read_bytes(), name

    class Stopped(Exception):
        pass

    class Stops(mix.Renderer):
        left = 8

        def __call__(self, ws: torch.Tensor) -> torch.Tensor:
            self.left -= 1
            if self.left < 0:
                raise Stopped
            return super().__call__(ws)

    with pytest.raises(Stopped):
        mix.Mixing(Stops(generator), rows, columns, recipe).save(tmp_path / "stopped")
    left = sorted(path.name for path in (tmp_path / "stopped").iterdir())
    assert left == ["recipe.json", "row-s0_col-s3.png", "row-s0_col-s4.png", "row-s1_col-s3.png"]
    for name in left:
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_more_mixes_than_memory_are_refused_where_they_would_be_kept(generator: Generator) -> None:
    styles = [mix.Style(f"s{seed}", torch.zeros(LAYERS, WIDTH)) for seed in range(700)]
    with pytest.raises(FaceganError, match=r"700 rows and 700 columns of 32 px take 5.6 GiB as tensors: mix fewer, or use .*mixing"):
        mix.mix(mix.Renderer(generator), styles, styles, uniform("crossover", [0], LAYERS, 1.0))


def test_faces_are_made_as_many_at_once_as_their_size_allows() -> None:
    assert [mix.batch_for(size) for size in (8, 64, 256, 512, 1024, 2048)] == [8, 8, 8, 2, 1, 1]


@pytest.mark.parametrize(("rows", "columns", "side", "shown"), [
    (8, 9, 256, (8, 9)), (99, 99, 96, (99, 99)), (999, 99, 27, (999, 99)), (5000, 50, 15, (5000, 50)), (9000, 9000, 13, (562, 562)),
])  # fmt: skip
def test_the_grid_of_very_many_faces_stays_a_picture_that_memory_holds(rows: int, columns: int, side: int, shown: tuple[int, int]) -> None:
    found = Grid([f"r{i}" for i in range(rows)], [f"c{i}" for i in range(columns)], 1024)
    assert (found.side, found.shown) == (side, shown)
    assert found.picture.width * found.picture.height <= 110_000_000
    for row, column in ((0, 0), (shown[0] - 1, shown[1] - 1), (-1, 0), (0, -1), (rows - 1, columns - 1)):
        found.put(Image.new("RGB", (1024, 1024), (200, 0, 0)), row, column)
    red = (np.asarray(found.picture) == (200, 0, 0)).all(-1).sum()
    assert red == 4 * side**2


# --- pictures


def boxes(picture: Image.Image, colours: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom of what has each colour, which must be a full rectangle."""
    pixels, found = np.asarray(picture), []
    for colour in colours:
        ys, xs = np.nonzero((pixels == colour).all(-1))
        box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert len(xs) == (box[2] - box[0]) * (box[3] - box[1])
        found.append(tuple(map(int, box)))
    return found


@pytest.mark.parametrize(("resolution", "side"), [(8, 128), (48, 144), (64, 128), (200, 200), (512, 256)])
def test_the_grid_has_sources_outside_and_mixes_where_they_meet(resolution: int, side: int) -> None:
    levels = [(k, 255 - k, 2 * k) for k in range(10, 21)]  # a colour of its own for each of 2 + 3 sources and 6 mixes
    images = torch.tensor(levels)[:, :, None, None].expand(-1, -1, resolution, resolution) / 127.5 - 1
    names = ["a", "b"], ["c", "d", "a name that is far too long for its column"]
    picture = grid(images[:2], images[2:5], images[5:].unflatten(0, (2, 3)), *names)
    rows, columns, mixes = (lambda found: (found[:2], found[2:5], found[5:]))(boxes(picture, levels))
    assert all(right - left == bottom - top == side for left, top, right, bottom in (*rows, *columns, *mixes))
    for i in range(2):
        for j in range(3):
            left, top, right, bottom = mixes[3 * i + j]
            assert (left, right) == columns[j][::2] and (top, bottom) == rows[i][1::2]
    gap, wide = mixes[1][0] - mixes[0][2], mixes[0][0] - rows[0][2]
    assert 0 < gap < wide == mixes[0][1] - columns[0][3]
    pixels = np.asarray(picture)
    assert (pixels[: rows[0][1] - wide, : columns[0][0]] == 255).all()  # the corner
    assert (pixels[: columns[0][1]] != 255).any(-1).any(0)[columns[0][0] : columns[0][2]].any()  # a name above its column
    outside = (pixels != 255).any(-1)
    outside[:, rows[0][0] :] = False
    assert outside[rows[1][1] : rows[1][3]].any() and not outside[: rows[0][1]].any()  # and beside its row
    between = (pixels[: columns[0][1], columns[1][2] : columns[2][0]] == 255).all()
    assert between  # the long name stays over its column


# --- video


def path_through(styles: torch.Tensor, frames: int) -> torch.Tensor:
    return walk([mix.Style(str(index), w) for index, w in enumerate(styles)], frames)


def test_the_walk_is_closed_smooth_and_meets_every_style() -> None:
    styles = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    path = path_through(styles, 200)
    assert path.shape == (1000, 3, 4) and torch.equal(path[::200], styles)
    speed = path.roll(-1, 0) - path  # the last step leads to the first frame
    jolt = (speed.roll(-1, 0) - speed).abs().max()
    assert jolt < 0.05 * speed.abs().max()  # a straight line would turn at once: by its whole speed
    for k in range(5):  # Catmull & Rom: the velocity at a style is half the way between its neighbours
        torch.testing.assert_close(speed[200 * k] * 200, (styles[(k + 1) % 5] - styles[k - 1]) / 2, rtol=0.1, atol=0.1)
    middle = path_through(styles, 2)[1]
    torch.testing.assert_close(middle, (-styles[4] + 9 * styles[0] + 9 * styles[1] - styles[2]) / 16)


def test_a_gif_has_all_its_frames(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "deep/walk.gif"
    words = ["--rows", "0-2", "--out", str(path), "--frames", "4", "--fps", "10"]
    capsys.readouterr()
    assert main(["walk", "--network", str(network), *words]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.size, gif.info["loop"], gif.info["duration"]) == (12, (256, 256), 0, 100)
        gif.seek(4)  # the second style
        frame = np.asarray(gif.convert("RGB")).astype(float)
    assert main(["generate", str(network), "--seeds", "1", "--out", str(tmp_path)]) == 0
    face = Image.open(tmp_path / "seed0001.png").resize((256, 256), Image.Resampling.LANCZOS)
    assert np.abs(frame - np.asarray(face)).mean() < 12  # 256 colours
    assert [item.name for item in path.parent.iterdir()] == ["walk.gif"]


@pytest.mark.parametrize("fps", [7.3, 10, 24, 29.97, 60, 100])
@pytest.mark.parametrize("held", [1, 3, 48])
def test_a_gif_takes_as_long_as_it_should_also_where_frames_are_alike(fps: float, held: int, tmp_path: Path) -> None:
    """GIF counts hundredths of a second; Pillow writes neighbours that are alike once, and `held` are."""
    video.write_video(tmp_path / "x.gif", (Image.new("RGB", (8, 8), (k // held * 5, 90, 0)) for k in range(48)), fps)
    begun = 0
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 48 // held
        for k in range(gif.n_frames):
            gif.seek(k)
            assert abs(begun - 1000 * k * held / fps) <= 5 + 1e-6
            begun += gif.info["duration"]
    assert abs(begun - 1000 * 48 / fps) <= 5 + 1e-6


def test_an_mp4_goes_through_imageio_ffmpeg(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable) -> None:
    path, sent = tmp_path / "walk.mp4", []
    words = ["walk", "--rows", "0", "7", "--frames", "3", "--out", str(path)]
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert "needs imageio-ffmpeg, which is not installed: pip install 'facegan[video]'" in refusal(*words)

    def write_frames(path: str, size: tuple[int, int], fps: float, output_params: list[str], **_: object):  # noqa: ANN202
        sent.append((size, fps))
        assert "out_color_matrix=bt709" in output_params[output_params.index("-vf") + 1]  # converted so
        assert output_params[output_params.index("-colorspace") + 1] == "bt709"  # and said to be
        try:
            while True:
                sent.append(len((yield)))
        finally:
            Path(path).write_text("a film")

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(write_frames=write_frames))
    assert main([*words, "--network", str(network)]) == 0
    assert sent == [((256, 256), 24.0), *[256 * 256 * 3] * 6] and path.read_text() == "a film"


# --- the command


def test_mix_writes_pairs_grid_and_recipe(network: Path, generator: Generator, tmp_path: Path) -> None:
    write_style(tmp_path / "styles/beard.npz", style_of(generator, 9))
    words = ["mix", "--network", str(network), "--rows", "0-1", "--cols", "9", "beard", "--styles", str(tmp_path / "styles")]
    assert main([*words, "--weights", "3-5:0.5", "--mode", "arithmetic", "--out", str(tmp_path / "out")]) == 0
    pairs = [f"row-seed000{i}_col-{name}.png" for i in range(2) for name in ("beard", "seed0009")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["grid.png", "recipe.json", *sorted(pairs)]
    assert (tmp_path / "out" / pairs[0]).read_bytes() == (tmp_path / "out" / pairs[1]).read_bytes()
    w = style_of(generator, 1).clone()
    w[3:6] += 0.5 * (style_of(generator, 9)[3:6] - generator.mapping.w_avg)
    expected = (generator.synthesis(w[None], "const")[0].permute(1, 2, 0).numpy() * 127.5 + 127.5).clip(0, 255)
    found = np.asarray(Image.open(tmp_path / "out/row-seed0001_col-seed0009.png")).astype(float)
    assert np.abs(found - expected).max() <= 1
    assert main([*words, "--recipe", str(tmp_path / "out/recipe.json"), "--out", str(tmp_path / "again")]) == 0
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_default_layers_are_said(network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        words = ["mix", "--network", str(network), "--rows", "0", "--cols", "1", "--mode", "crossover"]
        assert main([*words, "--out", str(tmp_path)]) == 0
    assert "no `layers`: the columns' styles go to those of 16-32px, layers 3-7 of 0-7" in caplog.text
    assert json.loads((tmp_path / "recipe.json").read_text()) == {"mode": "crossover", "weights": [0.0] * 3 + [1.0] * 5}


def test_truncation_goes_to_seeds(network: Path, generator: Generator, tmp_path: Path) -> None:
    words = ["mix", "--network", str(network), "--rows", "0", "--cols", "1", "--layers", "all", "--truncation", "0.5"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    w = torch.lerp(generator.mapping.w_avg, style_of(generator, 1), 0.5)
    expected = (generator.synthesis(w[None], "const")[0].permute(1, 2, 0).numpy() * 127.5 + 127.5).clip(0, 255)
    assert np.abs(np.asarray(Image.open(tmp_path / "row-seed0000_col-seed0001.png")) - expected).max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mix --rows 0 --cols 1 --out OUT --layers 4-9", "asks for 4-9, but this network has layers 0 to 7"),
        ("mix --rows 0 --cols 1 --out OUT --layers 32-64px", "of sizes 4px to 32px"),
        ("mix --rows 0 --cols 1 --out OUT --layers 4 --weight 0.5", "crossover takes weights 0 and 1"),
        ("mix --rows 0 --cols 1 --out OUT --weights 1:1 --layers 2", "drop --layers and --weight"),
        ("mix --rows 0 --cols 1 --out OUT --recipe r.json --mode crossover --layers 2", "drop --layers and --mode"),
        ("mix --rows 0 --cols 1 --out OUT --recipe nowhere.json", "nowhere.json is no recipe"),
        ("mix --rows 0 --cols 1 --out OUT --recipe default", "--recipe is default, but NET/recipe.json does not exist"),
        ("mix --rows 0 --cols 1 1 --out OUT", "style seed0001 is named 2 times"),
        ("mix --rows 0 --cols 1 --batch -1 --out OUT", "--batch is -1: expected 0 or more"),
        ("mix --rows 0 --cols WIDE --out OUT", "w has shape [1, 10, 32]"),
        ("mix --rows 0 --cols nobody --out OUT", "style 'nobody' is unknown"),
        ("mix-search --rows 0 --cols 1 --out OUT --batch 0", "--batch is 0"),
        ("mix-search --rows 0 --cols 1 --out OUT", "needs critics, and NET is no run of `facegan train`: name one with --critics RUN"),
        ("walk --rows 0 --out OUT/a.gif", "expected at least 2 --rows and 1 of --frames, not 1 and 30"),
        ("walk --rows 0-1 --out OUT/a.gif --frames 0", "expected at least 2 --rows and 1 of --frames, not 2 and 0"),
        ("walk --rows 0-1 --out OUT/a.avi", "a.avi': expected a file that ends in .gif or .mp4"),
        ("walk --rows 0-1 --out OUT/a.gif --fps 0", "--fps is 0: expected above 0, up to 100 frames a second"),
        ("walk --rows 0-1 --out OUT/a.gif --fps 101", "--fps is 101: expected above 0, up to 100 frames a second"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(words: str, said: str, refusal: Callable, network: Path, tmp_path: Path) -> None:
    write_style(tmp_path / "wide.npz", torch.zeros(10, WIDTH))
    given = words.replace("OUT", str(tmp_path / "out")).replace("WIDE", str(tmp_path / "wide.npz"))
    assert said.replace("NET", str(network)) in refusal(*given.split())
    assert not [path for path in tmp_path.glob("out/*") if path.suffix in (".png", ".gif", ".avi")]


@pytest.mark.parametrize("command", ["mix --rows 0 --cols 1", "mix --rows 0 --out OUT", "mix-search --rows 0 --out OUT", "walk --rows 0-1"])
def test_what_cannot_be_done_without_is_asked_for(command: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        main(command.replace("OUT", str(tmp_path / "out")).split())
    missing = "--cols" if "OUT" in command else "--out"
    assert left.value.code == 2 and capsys.readouterr().err.endswith(f"the following arguments are required: {missing}\n")


def test_python_names_what_is_missing(network: Path) -> None:
    net = facegan.load(network, device="cpu")
    for given, missing in ((dict(cols="1"), "rows"), (dict(rows="0"), "cols")):
        with pytest.raises(FaceganError, match=f"`{missing}` is missing: name the styles to mix, e.g. `{missing}=4-7`"):
            net.mix(**given)
