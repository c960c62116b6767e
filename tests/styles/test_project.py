"""`facegan project` as a user calls it: files, resuming, what is left out."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.checkpoints import checkpoint
from facegan.checkpoints.critics import Critics
from facegan.checkpoints.run import RunFolder
from facegan.cli import main
from facegan.data import group, open_faces, resolve, split
from facegan.data.images import decode
from facegan.errors import FaceganError
from facegan.options import ProjectOptions
from facegan.styles import project
from facegan.styles.projection import Projection

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def call(projectable, tmp_path, capsys, caplog):
    """call(*targets, **flags) -> exit status and what was said to the user: log lines, then stderr; --out is tmp_path/styles."""
    caplog.set_level("INFO", logger="facegan")

    def call(*targets, **flags):
        flags = {"network": projectable.folder, "steps": 12, "out": tmp_path / "styles", **flags}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        status = main(["project", *(["--target", *map(str, targets)] if targets else []), *words])
        said = caplog.text + capsys.readouterr().err
        caplog.clear()
        return status, said

    return call


@pytest.fixture
def photos(projectable, tmp_path):
    for seed in range(5):
        projectable.photo(tmp_path / "photos" / f"face{seed}.png", seed)
    return tmp_path / "photos"


def contents(folder):
    files = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            files[path.stem] = {name: file[name] for name in file.files}
    return files


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].keys() == theirs[name].keys()
        assert all(np.array_equal(ours[name][key], theirs[name][key]) for key in ours[name]), name


def test_photos_become_styles_and_a_picture(call, photos, projectable, tmp_path):
    status, said = call(photos / "face1.png", photos / "face3.png")
    assert status == 0 and "features of the network's discriminator" in said
    out = tmp_path / "styles"
    assert sorted(path.name for path in out.iterdir()) == [
        "face1.npz", "face1.png", "face3.npz", "face3.png", "projection.json", "projection.png",
    ]  # fmt: skip
    style = contents(out)["face3"]
    assert style["w"].shape == (1, 6, 32) and style["w"].dtype == np.float32
    image = projectable.generator.synthesis(torch.from_numpy(style["w"]), noise=torch.from_numpy(style["noise"]))[0]
    expected = (image.permute(1, 2, 0).numpy() * 127.5 + 127.5).clip(0, 255)
    assert np.abs(np.asarray(Image.open(out / "face3.png")) - expected).max() <= 0.51
    rows = json.loads((out / "projection.json").read_text())["targets"]
    assert [row["name"] for row in rows] == ["face1", "face3"] and all(row["distance"] < row["start"] for row in rows)
    assert Image.open(out / "projection.png").width > 3 * 128


def test_the_picture_shows_photo_result_and_difference(call, photos, tmp_path):
    call(photos / "face1.png")
    picture = np.asarray(Image.open(tmp_path / "styles" / "projection.png")).astype(float)[-100:-60]
    photo, projected, difference = (picture[:, start + 40 : start + 80] for start in (128, 260, 392))
    assert np.abs(photo - projected).mean() > 1  # twelve steps do not suffice
    assert np.abs(np.abs(photo - projected) - difference).mean() < 3  # resampling rings a little


def test_the_same_command_again_does_nothing_twice(call, photos, tmp_path, monkeypatch):
    assert call(photos)[0] == 0
    first = contents(tmp_path / "styles")
    assert len(first) == 5
    monkeypatch.setattr(Projection, "advance", lambda self: pytest.fail("projected again"))
    status, said = call(photos)
    assert status == 0 and "5 of 5 are done already" in said
    same(contents(tmp_path / "styles"), first)


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_a_stopped_run_ends_like_an_undisturbed_one(call, photos, tmp_path, monkeypatch, how):
    assert call(photos, batch=2, out=tmp_path / "straight")[0] == 0
    monkeypatch.setattr(project, "SAVE_EVERY", 5)
    advance, calls = Projection.advance, []

    def disturbed(self):
        calls.append(self.step)
        if len(calls) == 20:  # in the second batch, at step 7
            if how == "killed":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self)

    monkeypatch.setattr(Projection, "advance", disturbed)
    status, said = call(photos, batch=2)
    assert status == (130 if how == "killed" else 128 + signal.SIGTERM)
    assert how == "killed" or "run the same command again" in said
    done = sorted(path.stem for path in (tmp_path / "styles").glob("*.npz"))
    assert done == ["face0", "face1"] and (tmp_path / "styles" / "unfinished").is_dir()
    calls.clear()
    (tmp_path / "styles" / ".unfinished.0123.tmp").mkdir()  # of a save that was cut short
    assert call(photos, batch=3)[0] == 0  # the half-done batch first, as it was begun
    assert calls[0] == (5 if how == "killed" else 8)
    same(contents(tmp_path / "styles"), contents(tmp_path / "straight"))
    assert not [path for path in (tmp_path / "styles").iterdir() if "unfinished" in path.name]


def test_what_was_begun_for_other_photos_is_left(call, photos, tmp_path):
    checkpoint.save(tmp_path / "styles" / "unfinished", {}, {"step": 5, "conditions": {}, "photos": ["x"]})
    status, said = call(photos / "face0.png")
    assert status == 0 and "of other photos or settings" in said and "face0" in contents(tmp_path / "styles")


def test_bad_photos_are_left_out_and_the_others_done(call, photos, tmp_path):
    (photos / "notes.jpg").write_text("no image")
    (photos / "cut.png").write_bytes((photos / "face0.png").read_bytes()[:200])
    Image.new("RGB", (7, 40)).save(photos / "tiny.png")
    Image.effect_noise((40, 30), 60).save(photos / "wide.jpg")
    status, said = call(photos)
    assert status == 2
    last = said.splitlines()[-1]
    assert last.startswith("facegan: 3 of 9 photos left out: ")
    assert "tiny.png has 7 x 40 pixels" in last and "notes.jpg is no readable" in last
    assert "resized to the network's 16 px: wide.jpg (40 x 30)" in said
    assert sorted(contents(tmp_path / "styles")) == [*(f"face{i}" for i in range(5)), "wide"]
    assert len(json.loads((tmp_path / "styles" / "projection.json").read_text())["left_out"]) == 3


def test_styles_are_not_overwritten(call, photos, tmp_path):
    assert call(photos / "face0.png")[0] == 0
    before = contents(tmp_path / "styles")
    status, said = call(photos / "face0.png", steps=13)
    assert status == 2 and "made with steps 12, not 13" in said.splitlines()[-1]
    (photos / "other").mkdir()
    (photos / "face1.png").replace(photos / "other" / "face0.png")
    status, said = call(photos / "other" / "face0.png")
    assert status == 2 and "made with photo" in said.splitlines()[-1]
    np.savez(tmp_path / "styles" / "face2.npz", w=np.zeros((1, 6, 32)))
    status, said = call(photos / "face2.png", photos / "face3.png")
    assert status == 2 and "made by another command" in said.splitlines()[-1]
    after = contents(tmp_path / "styles")
    same({"face0": after["face0"]}, before)
    assert not after["face2"]["w"].any() and "face3" in after


def test_photos_of_one_name_get_names_of_their_own(call, photos, tmp_path):
    for folder, seed in (("a", 0), ("b", 1), ("c", 1)):
        (photos / folder).mkdir()
        (photos / folder / "me.png").write_bytes((photos / f"face{seed}.png").read_bytes())
    assert call(photos / "a", photos / "b", photos / "c")[0] == 0
    names = sorted(contents(tmp_path / "styles"))
    assert len(names) == 2 and all(name.startswith("me-") and len(name) == 9 for name in names)  # b and c show the same


def test_a_batch_that_does_not_fit_is_halved(call, photos, tmp_path, monkeypatch):
    assert call(photos, batch=2, out=tmp_path / "straight")[0] == 0
    advance, most = Projection.advance, 2

    def limited(self):
        if len(self.keys) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return advance(self)

    monkeypatch.setattr(Projection, "advance", limited)
    status, said = call(photos, batch=8)
    assert status == 0 and "a batch of 5 does not fit in memory: continuing with 2" in said
    same(contents(tmp_path / "styles"), contents(tmp_path / "straight"))
    most = 0
    status, said = call(photos, out=tmp_path / "none")
    assert status == 2 and "a single projection at 16 px does not fit in memory" in said.splitlines()[-1]


def test_faces_of_one_attribute_are_the_generators_side_alone(call, faces, tmp_path):
    flags = dict(data=faces, attributes="bald,beard", attribute="beard", num=3, steps=1)
    assert call(**flags)[0] == 0
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()
    columns = lines[1].split()
    table = {line.split()[0]: dict(zip(columns, line.split()[1:], strict=True)) for line in lines[2:]}
    names = sorted(contents(tmp_path / "styles"))
    assert len(names) == 3
    for name in names:
        row = table[f"{name}.png"]
        assert row["No_Beard"] == "-1" and row["Bald"] == "-1" and row["Receding_Hairline"] == "-1" and row["Wearing_Hat"] == "-1"
    sources = {row["source"] for row in json.loads((tmp_path / "styles" / "projection.json").read_text())["targets"]}
    assert sources == {f"{faces}: {name}.png" for name in names}
    assert call(**flags, seed=1, out=tmp_path / "others")[0] == 0
    assert names != sorted(contents(tmp_path / "others"))
    image = decode((faces / "img_align_celeba" / f"{names[0]}.png").read_bytes(), 16)
    photo = project.read_metadata(tmp_path / "styles" / f"{names[0]}.npz")["photo"]
    assert photo == project.Target("", "", image).digest


def test_the_faces_of_a_run_are_those_it_learned_from(faces, configure, tmp_path, caplog):
    """All of them: X_k and the generator's side, of the run's own data and attributes."""
    config = configure(out=str(tmp_path / "run"), attributes="beard,glasses")
    RunFolder(config.out).claim(config, "fingerprint")
    targets, problems = project.find_targets(ProjectOptions(attribute="glasses", num=10_000), config.out, 16)
    data = open_faces(faces, 16)
    groups = group(data.table, resolve("beard,glasses", data.table), minimum=4)
    expected = set(groups.only[1]) & set(split(data.identities, groups).train)
    assert 0 < len(expected) < len(groups.only[1])
    assert [target.name for target in targets] == [data.table.ids[i].removesuffix(".png") for i in sorted(expected)]
    assert not problems and f"has {len(expected)} faces of glasses alone: all are taken" in caplog.text


def test_photos_that_are_hardly_faces_are_doubted(call, photos, tmp_path, monkeypatch):
    assert call(photos / "face0.png", photos / "face1.png")[0] == 0
    rows = json.loads((tmp_path / "styles" / "projection.json").read_text())["targets"]
    near, far = sorted(row["latent_distance"] for row in rows)
    monkeypatch.setitem(project.MOST_DISTANT, "w", (near + far) / 2)
    [name] = [row["name"] for row in rows if row["latent_distance"] == far]
    said = call(photos / "face0.png", photos / "face1.png")[1]
    assert said.count("is it one upright, aligned face?") == 1
    assert f"{name} is {far:.1f} times as far from the mean face as this network's own faces" in said


def test_other_attributes_than_the_runs_are_refused_on_its_own_data(faces, configure, tmp_path, monkeypatch):
    """A face of `bald` among bald,glasses may have a beard: joint for a run of bald,beard."""
    config = configure(out=str(tmp_path / "run"), attributes="bald,beard")
    RunFolder(config.out).claim(config, "fingerprint")
    monkeypatch.chdir(faces.parent)
    for data in ("", str(faces), f"./{faces.name}"):
        for attributes in ("bald,glasses", "bald,beard,glasses", "bald=Bald/!Bald,beard"):
            options = ProjectOptions(attribute="bald", attributes=attributes, data=data)
            with pytest.raises(FaceganError, match=f"`attributes` is {attributes}: .* held out the faces that carry all of bald,beard"):
                project.find_targets(options, config.out, 16)
        assert project.find_targets(ProjectOptions(attribute="bald", attributes="beard, bald", data=data), config.out, 16)[0]
    elsewhere = shutil.copytree(faces, tmp_path / "elsewhere")
    others = ProjectOptions(attribute="bald", attributes="bald,glasses", data=str(elsewhere))
    assert project.find_targets(others, config.out, 16)[0]


def test_only_our_own_leftovers_are_swept(call, photos, tmp_path):
    for name in (".theirs.tmp", ".theirs.old", ".unfinished.0123.tmp", ".unfinished.old"):
        (tmp_path / "styles" / name).mkdir(parents=True)
        (tmp_path / "styles" / name / "file").write_text("precious")
    assert call(photos / "face0.png", steps=1)[0] == 0
    left = sorted(path.name for path in (tmp_path / "styles").iterdir() if path.name.startswith("."))
    assert left == [".theirs.old", ".theirs.tmp"] and all((tmp_path / "styles" / name / "file").exists() for name in left)


@pytest.mark.parametrize(
    "targets,flags,words",
    [
        (["nowhere.png"], {}, "nowhere.png does not exist"),
        ([], {}, "expected either --target"),
        (["FACE"], {"attribute": "bald"}, "expected either --target"),
        (["FACE"], {"steps": 0}, "--steps is 0"),
        (["FACE"], {"batch": 0}, "--batch is 0"),
        (["FACE"], {"network": "nowhere"}, "nowhere does not exist"),
        ([], {"attribute": "bald"}, "--attribute goes with --data"),
        ([], {"attribute": "hat", "data": "FACES", "attributes": "bald,beard"}, "expected one of --attributes, bald, beard"),
        ([], {"attribute": "beret", "data": "FACES"}, "attribute 'beret' is neither"),
        (["EMPTY"], {}, "holds no images"),
    ],
)
def test_mistakes_are_one_line_and_status_2(call, photos, faces, tmp_path, targets, flags, words):
    (tmp_path / "empty").mkdir()
    places = {"FACE": photos / "face0.png", "FACES": faces, "EMPTY": tmp_path / "empty"}
    status, said = call(*(places.get(word, word) for word in targets), **{name: places.get(value, value) for name, value in flags.items()})
    assert status == 2 and said.startswith("facegan: ") and said.count("\n") == 1 and words in said
    assert not (tmp_path / "styles").exists()


def test_a_truncated_network_is_refused(call, photos, projectable, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in projectable.folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes()[: 5000 if path.suffix == ".safetensors" else None])
    status, said = call(photos / "face0.png", network=broken)
    assert status == 2 and "has a header of" in said and said.count("\n") == 1


def test_facts_that_are_none_are_told(tmp_path):
    good = dict(source="x.png", photo="0" * 16, network="1" * 16, space="w", steps=3, seed=0, perceptual="D", start=1.0, distance=0.5)
    texts = ["null", "[]", "[" * 100_000, "{", "1" + "0" * 400, " " * 100_000]
    texts += [json.dumps({name: value for name, value in good.items() if name != lost}) for lost in good]
    texts += [json.dumps(good | {name: wrong}) for name in good for wrong in (None, [good], "x" * 50_000 if name == "steps" else {})]
    for text in [json.dumps(good), *texts]:
        facts = np.frombuffer(text.encode(), np.uint8)
        project.write_style(tmp_path / "x.npz", torch.zeros(6, 32), facts=facts)
        if text == json.dumps(good):
            assert project.read_metadata(tmp_path / "x.npz") == good
            continue
        with pytest.raises(FaceganError, match="x.npz: facts") as caught:
            project.read_metadata(tmp_path / "x.npz")
        assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


@pytest.fixture(scope="module")
def critics(train):
    """A run with untrained critics of 16 px, which differ from face to face all the same."""
    return train(critics="all", merge="none", switch_epoch=0)


def test_a_style_keeps_what_it_is_to_keep_and_says_so(call, photos, projectable, critics, tmp_path):
    plain, kept = tmp_path / "plain", tmp_path / "kept"
    known = Critics(critics, device="cpu")
    assert known.attributes == ["bald", "beard"]
    far = {}
    for out, more in ((plain, {}), (kept, {"keep": "beard"})):
        status, said = call(photos / "face1.png", photos / "face2.png", steps=40, out=out, critics=critics, **more)
        assert status == 0 and "beard: critics see it in" in said
        rows = json.loads((out / "projection.json").read_text())["targets"]
        for row in rows:
            photo = torch.from_numpy(np.array(Image.open(photos / f"{row['name']}.png"))).permute(2, 0, 1)[None] / 127.5 - 1
            assert row["critics"]["beard"]["photo"] == pytest.approx(float(known(photo)[1]), abs=0.02)
            assert set(row["critics"]) == ({"beard"} if more else {"bald", "beard"})
        far[out] = sum(abs(row["critics"]["beard"]["photo"] - row["critics"]["beard"]["style"]) for row in rows)
        assert ("for a lost score of beard" in rows[0]["perceptual"]) is bool(more)
    assert far[kept] < far[plain]


def test_who_is_to_keep_without_critics_is_told(call, photos, critics):
    assert "asks critics, and" in call(photos / "face1.png", keep="beard")[1]
    assert "has no critic for hat" in call(photos / "face1.png", keep="hat", critics=critics)[1]
