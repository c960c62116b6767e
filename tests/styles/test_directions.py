"""`facegan styles average | direction | list` and `facegan edit`, against sums done by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.checkpoints.run import RunFolder, is_run
from facegan.cli import main
from facegan.errors import FaceganError
from facegan.styles import edit
from facegan.styles.perceptual import DiscriminatorFeatures
from facegan.styles.projection import MOST_DISTANT
from facegan.styles.store import read_styles, write_style, write_styles

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def library(tmp_path):
    """Four styles of the projectable network's shape."""
    torch.manual_seed(1)
    for name in ("a", "b", "c", "d"):
        write_style(tmp_path / "lib" / f"{name}.npz", torch.randn(6, 32))
    return tmp_path / "lib"


def point(path, key="w"):
    with np.load(path) as file:
        assert file.files == [key] and file[key].shape == (1, 6, 32)
        return file[key][0]


def test_average(library, tmp_path, capsys):
    a, b, c = (point(library / f"{name}.npz") for name in "abc")
    assert main(["styles", "average", *(str(library / f"{name}.npz") for name in "abc"), "--out", str(tmp_path / "bald.npz")]) == 0
    np.testing.assert_allclose(point(tmp_path / "bald.npz"), (a + b + c) / 3, atol=1e-6)
    assert "the mean of 3 styles" in capsys.readouterr().out
    write_style(library / "way.npz", torch.randn(6, 32), key="direction")  # a folder's directions are no styles
    assert main(["styles", "average", str(library), "--out", str(tmp_path / "all.npz")]) == 0
    np.testing.assert_allclose(point(tmp_path / "all.npz"), (a + b + c + point(library / "d.npz")) / 4, atol=1e-6)


def test_collected_styles_are_one_file_and_all_of_them(library, tmp_path, capsys):
    assert main(["styles", "collect", str(library), "--out", str(tmp_path / "all.npz")]) == 0
    assert "4 styles" in capsys.readouterr().out
    found = read_styles(tmp_path / "all.npz")
    assert [style.name for style in found] == [f"all-{index}" for index in range(4)]
    for style, name in zip(found, "abcd", strict=True):
        np.testing.assert_array_equal(style.w.numpy(), point(library / f"{name}.npz"))
    write_style(tmp_path / "w" / "e.npz", torch.randn(1, 32).expand(6, 32))  # a point of W is one row in the file
    assert main(["styles", "collect", str(tmp_path / "w"), "--out", str(tmp_path / "plain.npz")]) == 0
    assert np.load(tmp_path / "plain.npz")["w"].shape == (1, 1, 32)


def test_the_styles_that_show_an_attribute_most_are_collected(library, tmp_path, capsys):
    scores = {"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.7}
    report = {"targets": [{"name": name, "critics": {"beard": {"photo": 1, "style": score}}} for name, score in scores.items()]}
    (library / "projection.json").write_text(json.dumps(report))
    words = ["styles", "collect", str(library), "--best", "2"]
    assert main([*words, "--out", str(tmp_path / "beard.npz")]) == 0
    found = read_styles(tmp_path / "beard.npz")
    for style, name in zip(found, "bd", strict=True):
        np.testing.assert_array_equal(style.w.numpy(), point(library / f"{name}.npz"))
    assert main([*words, "--attribute", "beard", "--out", str(tmp_path / "other.npz")]) == 0
    assert torch.equal(read_styles(tmp_path / "other.npz")[1].w, found[1].w)
    for change, told in (
        (["--out", str(tmp_path / "bald.npz")], "beard alone"),
        (["--best", "5", "--out", str(tmp_path / "beard.npz")], "1 to 4"),
        (["--best", "-1", "--out", str(tmp_path / "beard.npz")], "1 to 4"),
    ):
        assert main([*words, *change]) == 2
        assert told in capsys.readouterr().err
    write_style(library / "e.npz", torch.randn(6, 32))
    assert main([*words, "--out", str(tmp_path / "beard.npz")]) == 2
    assert "does not tell of e.npz" in capsys.readouterr().err
    write_styles(library / "d.npz", torch.randn(2, 6, 32))  # not as it was projected
    (library / "e.npz").unlink()
    assert main([*words, "--out", str(tmp_path / "beard.npz")]) == 2
    assert "the files of one `facegan project`" in capsys.readouterr().err
    del report["targets"][0]["critics"], report["targets"][1:]
    (library / "projection.json").write_text(json.dumps(report))
    assert main([*words, "--out", str(tmp_path / "beard.npz")]) == 2
    assert "nothing that critics say" in capsys.readouterr().err


def test_direction_between_two_sets(library, tmp_path):
    a, b, c, d = (point(library / f"{name}.npz") for name in "abcd")
    words = ["--positive", str(library / "a.npz"), str(library / "b.npz"), "--negative", str(library / "c.npz"), str(library / "d.npz")]
    assert main(["styles", "direction", *words, "--out", str(tmp_path / "beard.npz")]) == 0
    np.testing.assert_allclose(point(tmp_path / "beard.npz", "direction"), (a + b) / 2 - (c + d) / 2, atol=1e-6)


def test_direction_from_the_mean_style(library, projectable, tmp_path):
    out = str(tmp_path / "beard.npz")
    assert main(["styles", "direction", "--positive", str(library / "a.npz"), "--network", str(projectable.folder), "--out", out]) == 0
    expected = point(library / "a.npz") - projectable.generator.mapping.w_avg.numpy()
    np.testing.assert_allclose(point(out, "direction"), expected, atol=1e-6)


def test_list(library, projectable, capsys):
    write_style(library / "plain.npz", projectable.generator.mapping.w_avg.expand(6, -1))
    write_style(library / "way.npz", torch.full((6, 32), 0.5), key="direction")
    (library / "broken.npz").write_text("no")
    assert main(["styles", "list", str(library), "--network", str(projectable.folder)]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0] == ["name", "shape", "kind", "distance"] and len(table) == 7
    assert table[5] == ["plain", "[6,", "32]", "w", "0.000"]
    assert table[6] == ["way", "[6,", "32]", "direction", f"{0.5 * 32**0.5:.3f}"]
    distances = (point(library / "a.npz") - projectable.generator.mapping.w_avg.numpy()) ** 2
    assert table[1] == ["a", "[6,", "32]", "w+", f"{distances.sum(1).mean() ** 0.5:.3f}"]


@pytest.mark.parametrize(
    "words,message",
    [
        (["average", "LIB/a.npz", "other.npz", "--out", "x.npz"], "style other has shape [4, 3], style a [6, 32]"),
        (["average", "LIB/a.npz", "--out", "x.png"], "expected the name of a .npz file"),
        (["average", "LIB/none.npz", "--out", "x.npz"], "none.npz does not exist"),
        (["average", "empty", "--out", "x.npz"], "no styles in"),
        (["direction", "--positive", "LIB", "--out", "x.npz"], "give either --negative"),
        (["direction", "--positive", "LIB", "--negative", "other.npz", "--out", "x.npz"], "shape [6, 32], --negative of [4, 3]"),
        (["direction", "--positive", "other.npz", "--network", "NET", "--out", "x.npz"], "shape [1, 4, 3]; this network takes [N, 6, 32]"),
        (["list", "nowhere"], "nowhere does not exist"),
        (["list", "empty"], "holds no .npz files"),
    ],
)
def test_mistakes_are_one_line_and_status_2(library, projectable, tmp_path, monkeypatch, capsys, words, message):
    write_style(tmp_path / "other.npz", torch.randn(4, 3))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    words = [word.replace("LIB", str(library)).replace("NET", str(projectable.folder)) for word in words]
    assert main(["styles", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize("command", ["average", "direction"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit):
        main(["styles", command, "--help"])
    assert f"\n  facegan styles {command} " in capsys.readouterr().out


# --- edit


class Brightness:
    """Critics that can be recomputed: the mean of red, and of green."""

    attributes = ["beard", "glasses"]

    def __init__(self, run, device):
        assert run == "some-run" and device == torch.device("cpu")

    def __call__(self, images):
        return images.mean((2, 3)).T[:2]


def call_edit(projectable, photo, library, out, *words):
    fixed = ["--network", str(projectable.folder), "--styles", str(library), "--steps", "8", "--out", str(out)]
    return main(["edit", str(photo), *fixed, *words])


def test_edit_moves_along_directions_and_tells_the_drift(library, projectable, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(edit, "Critics", Brightness)
    torch.manual_seed(2)
    write_style(library / "beard.npz", torch.randn(6, 32), key="direction")
    photo, out = projectable.photo(tmp_path / "me.png", 3), tmp_path / "edits"
    words = ["--add", "beard", "--remove", "a", "--strength", "0.5", "--layers", "2-3", "--critics", "some-run"]
    assert call_edit(projectable, photo, library, out, *words) == 0
    before, after = read_styles(out / "me.npz")[0].w, read_styles(out / "me-edited.npz")[0].w
    way = torch.from_numpy(point(library / "beard.npz", "direction") - point(library / "a.npz")) + projectable.generator.mapping.w_avg
    way[[0, 1, 4, 5]] = 0
    torch.testing.assert_close(after - before, 0.5 * way, atol=1e-5, rtol=0)

    with np.load(out / "me.npz") as file:
        noise = torch.from_numpy(file["noise"])
    images = [projectable.generator.synthesis(w[None], noise=noise) for w in (before, after)]
    features = [DiscriminatorFeatures(projectable.discriminator).features(image) for image in images]
    record = json.loads((out / "edit.json").read_text())
    assert record["identity_drift"] == pytest.approx((features[0] - features[1]).square().sum().item(), rel=1e-3)
    assert record["critics"]["beard"]["edited"] == pytest.approx(images[1][0, 0].mean().item(), abs=1e-4)
    assert record["critics"]["glasses"]["projection"] == pytest.approx(images[0][0, 1].mean().item(), abs=1e-4)
    said = capsys.readouterr().out
    assert f"identity drift of the edit {record['identity_drift']:.4f}" in said and "beard: " in said
    assert Image.open(out / "edit.png").width > 3 * 128 and (out / "me-edited.png").exists()


@pytest.mark.parametrize("kind", ["run", "run without critics", "no run"])
def test_the_networks_own_run_rates_the_edit(library, projectable, tmp_path, capsys, monkeypatch, caplog, kind):
    class Own(Brightness):
        def __init__(self, run, device):
            assert run == str(projectable.folder) and device == torch.device("cpu")
            if kind == "run without critics":
                raise FaceganError(f"{run} has no critic for beard")

    monkeypatch.setattr(edit, "Critics", Own)
    monkeypatch.setattr(edit, "is_run", lambda path: kind != "no run" and path == str(projectable.folder))
    photo, out = projectable.photo(tmp_path / "me.png", 3), tmp_path / "edits"
    assert call_edit(projectable, photo, library, out, "--add", "a") == 0
    assert ("critics" in json.loads((out / "edit.json").read_text())) == (kind == "run") == ("glasses: " in capsys.readouterr().out)
    reasons = {"run": None, "run without critics": "has no critic for beard", "no run": "is no run of `facegan train`: name one with"}
    assert [record.message for record in caplog.records if "no critics say" in record.message] == [
        f"no critics say what the edit does, as {projectable.folder} {reason}{' `critics=RUN`' * (kind == 'no run')}"
        for reason in [reasons[kind]] if reason
    ]  # fmt: skip


def test_a_run_is_told_from_other_folders(projectable, configure, tmp_path):
    config = configure(out=str(tmp_path / "run"))
    RunFolder(config.out).claim(config, "fingerprint")
    assert is_run(config.out) and not is_run(projectable.folder) and not is_run(tmp_path / "nowhere")


def test_edit_doubts_what_is_hardly_a_face(library, projectable, tmp_path, caplog, monkeypatch):
    photo, out = projectable.photo(tmp_path / "me.png", 3), tmp_path / "edits"
    for most, count in ((0.0, 1), (100.0, 0)):
        monkeypatch.setitem(MOST_DISTANT, "w", most)
        caplog.clear()
        assert call_edit(projectable, photo, library, out, "--add", "a") == 0
        assert caplog.text.count("me is ") == caplog.text.count("is it one upright, aligned face?") == count
    assert 0 < json.loads((out / "edit.json").read_text())["latent_distance"] < 100


def test_a_second_edit_uses_the_projection_again(library, projectable, tmp_path, monkeypatch):
    photo, out = projectable.photo(tmp_path / "me.png", 3), tmp_path / "edits"
    assert call_edit(projectable, photo, library, out, "--add", "a") == 0
    monkeypatch.setattr("facegan.styles.projection.Projection.advance", lambda self: pytest.fail("projected again"))
    assert call_edit(projectable, photo, library, out, "--add", "b", "--strength", "0") == 0
    before, after = read_styles(out / "me.npz")[0].w, read_styles(out / "me-edited.npz")[0].w
    assert torch.equal(before, after) and json.loads((out / "edit.json").read_text())["identity_drift"] == 0


@pytest.mark.parametrize(
    "photo,words,message",
    [
        ("me.png", [], "nothing to do"),
        ("me.png", ["--add", "hat"], "direction 'hat' is unknown; expected one of a, b, c, d"),
        ("me.png", ["--add", "a", "--layers", "4-9"], "this network has layers 0 to 5"),
        ("me.png", ["--add", "wrong.npz"], "shape [1, 4, 3]; this network takes [N, 6, 32]"),
        ("me.png", ["--add", "a", "--critics", "nowhere"], "nowhere is not a run"),
        ("text.png", ["--add", "a"], "is no readable image"),
        ("none.png", ["--add", "a"], "does not exist"),
    ],
)
def test_mistakes_of_edit(library, projectable, tmp_path, monkeypatch, capsys, photo, words, message):
    projectable.photo(tmp_path / "me.png", 3)
    (tmp_path / "text.png").write_text("no image")
    write_style(tmp_path / "wrong.npz", torch.randn(4, 3))
    monkeypatch.chdir(tmp_path)
    assert call_edit(projectable, photo, library, "edits", *words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "edits").exists()
