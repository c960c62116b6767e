"""GPEN's `.pth`: a network written in its names opens as the function that its own conventions describe.

Its convolutions carry a run-time scale; its up layers are transposed convolutions with a filter behind them, its down layers have the
filter in front; an encoder's layer is nested once or twice, and its filters lie among the weights.
"""

from __future__ import annotations

import collections
import io
import math
import time
import zipfile

import pytest
import torch
import torch.nn.functional as F

from facegan.checkpoints.restorers import open_restorer
from facegan.errors import FaceganError

STYLE = 10
KERNEL = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
NETWORKS = {"64 px": (64, 1 / 64, 2), "64 px narrow": (64, 1 / 128, 2), "64 px, multiplier 1": (64, 1 / 64, 1),
            "16 px": (16, 1 / 64, 2), "128 px": (128, 1 / 128, 1)}  # fmt: skip


def widths(size: int, narrow: float, multiplier: int) -> dict[int, int]:
    """Channels of each size: 512 up to 32 px, then halved by halves, of twice that where the multiplier is 2."""
    full = {side: 512 if side <= 32 else 16384 // side * multiplier for side in (4 << i for i in range(int(math.log2(size)) - 1))}
    return {side: int(count * narrow) for side, count in full.items()}


def written(size: int, narrow: float, multiplier: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(size)
    channels, state = widths(size, narrow, multiplier), {}

    def styled(name: str, i: int, o: int) -> None:
        state[f"{name}.conv.weight"] = torch.randn(1, o, i, 3, 3)
        state[f"{name}.conv.modulation.weight"], state[f"{name}.conv.modulation.bias"] = torch.randn(i, STYLE), torch.randn(i)
        state[f"{name}.noise.weight"], state[f"{name}.activate.bias"] = torch.randn(1), torch.randn(2 * o)

    def coloured(name: str, i: int) -> None:
        state[f"{name}.bias"], state[f"{name}.conv.weight"] = torch.randn(1, 3, 1, 1), torch.randn(1, 3, i, 1, 1)
        state[f"{name}.conv.modulation.weight"], state[f"{name}.conv.modulation.bias"] = torch.randn(i, STYLE), torch.randn(i)

    for layer in range(1, 9):
        state[f"style.{layer}.weight"], state[f"style.{layer}.bias"] = 100 * torch.randn(STYLE, STYLE), torch.randn(STYLE)
    state["input.input"] = torch.randn(1, channels[4], 4, 4)
    styled("conv1", channels[4], channels[4])
    coloured("to_rgb1", 2 * channels[4])
    for block, side in enumerate(list(channels)[1:]):
        styled(f"convs.{2 * block}", 2 * channels[side // 2], channels[side])
        state[f"convs.{2 * block}.conv.blur.kernel"] = 4 * KERNEL
        styled(f"convs.{2 * block + 1}", 2 * channels[side], channels[side])
        coloured(f"to_rgbs.{block}", 2 * channels[side])
        state[f"to_rgbs.{block}.upsample.kernel"] = 4 * KERNEL
    state = {f"generator.{name}": value for name, value in state.items()}
    state["ecd0.0.0.weight"], state["ecd0.0.1.bias"] = torch.randn(channels[size], 3, 1, 1), torch.randn(channels[size])
    for index, side in enumerate(list(channels)[-2::-1], start=1):
        state[f"ecd{index}.0.0.kernel"] = KERNEL
        state[f"ecd{index}.0.1.weight"] = torch.randn(channels[side], channels[2 * side], 3, 3)
        state[f"ecd{index}.0.2.bias"] = torch.randn(channels[side])
    state["final_linear.0.weight"], state["final_linear.0.bias"] = torch.randn(STYLE, 16 * channels[4]), torch.randn(STYLE)
    return state


# --- its function, by its names


def lrelu(x):
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def filtered(x, kernel, pad):
    return F.conv2d(F.pad(x, (*pad, *pad)), kernel.flip(0, 1).expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def styled(state, name, x, w, up=False, demodulate=True):
    """One face; `up`: a transposed convolution, and the filter."""
    weight = state[f"{name}.weight"][0]
    modulation = state[f"{name}.modulation.weight"] / math.sqrt(STYLE)
    weight = weight / math.sqrt(weight[0].numel()) * (modulation @ w + state[f"{name}.modulation.bias"])[:, None, None]
    if demodulate:
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
    if up:
        return filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), state[f"{name}.blur.kernel"], (1, 1))
    return F.conv2d(x, weight, padding=weight.shape[2] // 2)


def restored(state, size, face):
    """[1, 3, size, size] -> the same."""
    maps = []
    for index in range(int(math.log2(size)) - 1):
        weight, bias = state[f"ecd{index}.0.{int(index > 0)}.weight"], state[f"ecd{index}.0.{1 + int(index > 0)}.bias"]
        face = face if index == 0 else filtered(face, state[f"ecd{index}.0.0.kernel"], (2, 2))
        face = lrelu(F.conv2d(face, weight / math.sqrt(weight[0].numel()), bias, stride=1 if index == 0 else 2))
        maps.append(face)
    weight = state["final_linear.0.weight"]
    w = lrelu(weight @ face.flatten() / math.sqrt(weight.shape[1]) + state["final_linear.0.bias"])
    w = w / (w.square().mean() + 1e-8).sqrt()
    for layer in range(1, 9):
        weight, bias = state[f"generator.style.{layer}.weight"], state[f"generator.style.{layer}.bias"]
        w = lrelu(0.01 * (weight @ w / math.sqrt(STYLE) + bias))

    def layer(name, x, beside, up=False):
        x = styled(state, f"{name}.conv", x, w, up)
        x = torch.cat([x, state[f"{name}.noise.weight"] * beside], dim=1)
        return lrelu(x + state[f"{name}.activate.bias"][:, None, None])

    def colours(name, x):
        return styled(state, f"{name}.conv", x, w, demodulate=False) + state[f"{name}.bias"]

    maps = maps[::-1]
    x = layer("generator.conv1", state["generator.input.input"], maps[0])
    image = colours("generator.to_rgb1", x)
    for block, beside in enumerate(maps[1:]):
        x = layer(f"generator.convs.{2 * block}", x, beside, up=True)
        x = layer(f"generator.convs.{2 * block + 1}", x, beside)
        spread = image.new_zeros(1, 3, 2 * image.shape[2], 2 * image.shape[3])
        spread[:, :, ::2, ::2] = image
        image = filtered(spread, state[f"generator.to_rgbs.{block}.upsample.kernel"], (2, 1)) + colours(f"generator.to_rgbs.{block}", x)
    return image


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("under", ["", "g_ema"])
def test_opens_as_the_function_that_it_is(kind, under, tmp_path):
    size, narrow, multiplier = NETWORKS[kind]
    state = written(size, narrow, multiplier)
    torch.save({"g_ema": state, "g": {}} if under else collections.OrderedDict(state), tmp_path / "GPEN.pth")
    weights = open_restorer(tmp_path / "GPEN.pth")
    config = weights.config
    assert {side: config.channels(side) for side in config.sizes} == widths(size, narrow, multiplier)
    assert (config.resolution, config.z_dim, config.w_dim, config.mapping_layers) == (size, STYLE, STYLE, 8)
    assert weights.may_have_seen_joint_faces  # nobody knows what it learned from
    faces = torch.rand(2, 3, size, size) * 2 - 1
    exact = {name: value.double() for name, value in state.items()}
    expected = torch.cat([restored(exact, size, face[None].double()) for face in faces])
    found = weights.restorer()(faces)
    assert (found - expected).abs().max() < 2e-4 * expected.abs().max()


def test_half_precision_and_flatter_names_are_read_too(tmp_path):
    state = written(16, 1 / 64, 2)
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pth")
    assert all(value.dtype == torch.float32 for value in open_restorer(tmp_path / "half.pth").state.values())
    flat = {name.replace("ecd0.0.", "ecd0.").replace("final_linear.0.", "final_linear."): value for name, value in state.items()}
    torch.save(flat, tmp_path / "flat.pth")
    first, second = (open_restorer(tmp_path / name).restorer() for name in ("half.pth", "flat.pth"))
    image = torch.rand(1, 3, 16, 16)
    assert (first(image) - second(image)).abs().mean() < 0.05 * second(image).abs().mean()


# --- refusals


def attempt(content: object, words: str, tmp_path) -> None:
    torch.save(content, tmp_path / "GPEN.pth")
    start = time.process_time()
    with pytest.raises(FaceganError, match=words) as refused:
        open_restorer(tmp_path / "GPEN.pth")
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("generator.convs.1.activate.bias", "lacks convs.1.activate.bias"),
        ("generator.to_rgbs.0.conv.modulation.weight", "lacks to_rgbs.0.conv.modulation.weight"),
        ("generator.conv1.conv.weight", "holds no restorer: it lacks parts of a GPEN decoder"),
        ("generator.style.1.weight", "holds no restorer: it lacks parts of a GPEN decoder"),
        ("ecd1.0.1.weight", r"expected one weight and one bias under ecd1\.\*, got 0 weights and 1 biases"),
        ("ecd0.0.1.bias", r"under ecd0\.\*, got 1 weights and 0 biases"),
        ("final_linear.0.weight", r"under final_linear\.\*, got 0 weights"),
    ],
)
def test_a_missing_tensor_is_named(name, words, tmp_path):
    state = written(16, 1 / 64, 2)
    attempt({key: value for key, value in state.items() if key != name}, words, tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("ecd1.0.1.weight", (8, 7, 3, 3), r"encoder.b8.weight is \[8, 7, 3, 3\] in the file, and \[8, 8, 3, 3\] in a network of its kind"),
        ("ecd0.0.1.bias", (3,), r"encoder.b16.bias is \[3\] in the file, and \[8\]"),
        ("final_linear.0.weight", (STYLE, 64), r"bottleneck.weight is \[10, 64\] in the file, and \[10, 128\]"),
        ("generator.convs.1.activate.bias", (8,), r"generator.synthesis.b8.conv1.bias is \[8\] in the file, and \[16\]"),  # noise is added
        ("generator.convs.0.conv.weight", (1, 8, 8, 3, 3), r"generator.synthesis.b8.conv0.weight is \[8, 8, 3, 3\] in the file"),
        ("generator.conv1.noise.weight", (2,), "holds no restorer: it lacks parts of a GPEN decoder, or their shapes"),
        ("generator.style.3.weight", (STYLE, 3), r"generator.mapping.fc2.weight is \[10, 3\] in the file, and \[10, 10\]"),
        ("generator.input.input", (0,), "shapes"),
        ("generator.to_rgb1.bias", (1, 4, 1, 1), r"torgb.bias is \[4\] in the file, and \[3\]"),
    ],
)
def test_a_tensor_of_another_shape_is_named(name, shape, words, tmp_path):
    attempt({**written(16, 1 / 64, 2), name: torch.zeros(shape)}, words, tmp_path)


def test_other_files_are_refused(tmp_path):
    generator = {name.removeprefix("generator."): value for name, value in written(16, 1 / 64, 2).items() if name.startswith("generator.")}
    attempt({"g_ema": generator}, "holds no restorer", tmp_path)  # a StyleGAN2 network
    attempt({"g_ema": {}}, "holds no restorer", tmp_path)
    attempt({"a": torch.zeros(3), 7: torch.zeros(2)}, "holds no restorer", tmp_path)
    attempt([torch.zeros(3)], "holds no weights by name", tmp_path)
    attempt({**written(16, 1 / 64, 2), "generator.conv1.conv.weight": "a text"}, "holds no restorer", tmp_path)
    (tmp_path / "GPEN.pth").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(FaceganError, match="cannot be read as weights alone"):
        open_restorer(tmp_path / "GPEN.pth")
    (tmp_path / "GPEN.pth").write_bytes(b"")
    with pytest.raises(FaceganError, match="cannot be read as weights alone"):
        open_restorer(tmp_path / "GPEN.pth")
    (tmp_path / "GPEN.onnx").touch()
    with pytest.raises(FaceganError, match="of no known kind; expected a run of `train --method restore`, .* or GPEN's .pth"):
        open_restorer(tmp_path / "GPEN.onnx")
    with pytest.raises(FaceganError, match="does not exist; expected"):
        open_restorer(tmp_path / "absent.pth")
    with open(tmp_path / "GPEN.pth", "wb") as file:
        file.truncate((4 << 30) + 1)  # a hole: it takes no room
    with pytest.raises(FaceganError, match="has 4,096 MiB, more than the 4,096 MiB of any restorer"):
        open_restorer(tmp_path / "GPEN.pth")


class Touch:
    """What a pickle that runs code would do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def test_no_code_of_a_file_is_run(tmp_path):
    for content in ({**written(16, 1 / 64, 2), "extra": Touch(str(tmp_path / "ran"))}, Touch(str(tmp_path / "ran"))):
        attempt(content, "cannot be read as weights alone", tmp_path)
        torch.save(content, tmp_path / "GPEN.pth", _use_new_zipfile_serialization=False)
        with pytest.raises(FaceganError, match="cannot be read as weights alone"):
            open_restorer(tmp_path / "GPEN.pth")
    assert not (tmp_path / "ran").exists()


def test_small_files_do_not_fill_memory(tmp_path):
    state = written(16, 1 / 64, 2)
    endless = torch.zeros(1).expand(1, 1 << 20, 1 << 20, 3, 3)
    for content in ({**state, "generator.convs.1.conv.weight": endless}, {"g_ema": {**state, "ecd1.0.1.weight": endless[0]}}):
        attempt(content, "beyond its 1 stored numbers", tmp_path)
    many = {f"generator.to_rgbs.{i}.conv.weight": torch.zeros(1) for i in range(14)}
    attempt({**state, **many}, "holds no restorer|resolution is 65536|lacks", tmp_path)
    deep = {f"generator.style.{i}.weight": torch.zeros(STYLE, STYLE) for i in range(1, 100)}
    torch.save({**state, **deep}, tmp_path / "GPEN.pth")
    with pytest.raises(FaceganError, match="mapping_layers is 99"):
        open_restorer(tmp_path / "GPEN.pth")
    stored, buffer = io.BytesIO(), {"ecd0.0.0.weight": torch.zeros(1 << 20)}
    torch.save(buffer, stored)
    with zipfile.ZipFile(stored) as plain, zipfile.ZipFile(tmp_path / "GPEN.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    with pytest.raises(FaceganError, match="bytes would unpack to"):
        open_restorer(tmp_path / "GPEN.pth")
