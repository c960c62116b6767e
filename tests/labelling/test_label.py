"""`facegan data label` on drawn faces whose truth is known: what it writes, keeps, learns from and refuses."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facegan
from facegan import cli
from facegan.data.attributes import partition, resolve
from facegan.data.faces import open_faces
from facegan.data.inspect import inspect
from facegan.data.loaders import open_catalog
from facegan.data.synthetic import write_celeba_layout
from facegan.errors import FaceganError
from facegan.labelling import label as module

FAST = dict(resolution=32, folds=3, device="cpu")
Rows = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    write_celeba_layout(folder, 240, 32, 1, image_format="png")
    return folder


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, bool]]]:
    """130 other faces in two folders, and the truth."""
    made = tmp_path_factory.mktemp("made")
    write_celeba_layout(made, 130, 32, 2, image_format="png")
    table = open_catalog(made).table
    beard, bald = table.column("No_Beard") == 0, table.column("Bald") == 1
    folder, truth = tmp_path_factory.mktemp("faces"), {}
    for i, path in enumerate(sorted((made / "img_align_celeba").iterdir())):
        name = f"{'one' if i % 2 else 'two'}/{path.name}"
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, folder / name)
        truth[name] = {"bald": bool(bald[i]), "beard": bool(beard[i])}
    return folder, truth


@pytest.fixture
def faces(unlabelled: tuple[Path, dict], tmp_path: Path) -> Path:
    return Path(shutil.copytree(unlabelled[0], tmp_path / "faces"))


def rows_of(path: Path) -> Rows:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return {row["file_name"]: row for row in csv.DictReader(file)}


def rewrite(path: Path, rows: Rows, delimiter: str = ",") -> None:
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(next(iter(rows.values()))), delimiter=delimiter)
        table.writeheader()
        table.writerows(rows.values())


def label(faces: Path, labelled: Path, **options: object) -> facegan.api.Labels:
    return facegan.label(faces, **{**FAST, "from_": labelled, **options})


def command(*words: object) -> list[str]:
    return ["data", "label", *map(str, words), "--resolution=32", "--folds=3", "--device=cpu"]


def test_values_scores_and_order(faces: Path, labelled: Path, unlabelled: tuple[Path, dict]) -> None:
    truth = unlabelled[1]
    labels = label(faces, labelled)
    sheet = labels.save()
    assert sheet == faces / "labels.png" and Image.open(sheet).width > 1000
    rows = rows_of(faces / "metadata.csv")
    assert list(next(iter(rows.values()))) == [
        "file_name", "bald", "beard", "checked", "bald:score", "bald:said", "beard:score", "beard:said",
    ]  # fmt: skip
    assert rows.keys() == truth.keys() and list(rows) == list(labels.names)
    for name in ("bald", "beard"):
        for row in rows.values():
            score = float(row[f"{name}:score"])
            assert row[name] == row[f"{name}:said"] and row["checked"] == ""
            assert row[name] == ("1" if score >= 0.9 else "0" if score <= 0.1 else "") or min(abs(score - 0.9), abs(score - 0.1)) < 1e-4
        sure = {each: float(row[name]) for each, row in rows.items() if row[name]}
        wrong = np.mean([value != truth[each][name] for each, value in sure.items()])
        assert len(sure) > 60 and wrong < 0.1
    doubts = [min(abs(float(row[f"{name}:score"]) - 0.5) for name in ("bald", "beard")) for row in rows.values()]
    assert all(later >= earlier - 1.1e-4 for earlier, later in zip(doubts, doubts[1:], strict=False))
    for figures in labels.figures:
        assert figures.auc > 0.85 and figures.balanced_accuracy > 0.75 and 0 <= figures.unknown < 0.7


def test_the_result_is_a_data_set(faces: Path, labelled: Path) -> None:
    label(faces, labelled).save()
    catalog = open_catalog(faces)
    assert len(catalog.members) == 130  # the sheet is no face
    assert catalog.layout == "imagefolder" and catalog.table.columns == ("bald", "beard") and len(catalog.table) == 130
    assert catalog.unchecked is not None and catalog.unchecked.all()
    report = inspect(faces, "bald,beard", progress=False).text
    assert "columns         2: bald, beard" in report and "values are of `facegan data label`, and nobody has checked them" in report
    data = open_faces(faces, 16, progress=False)
    groups = partition(data.table, resolve("bald,beard", data.table))  # as a training asks for them
    assert [attribute.positive for attribute in groups.attributes] == ["bald", "beard"] and len(groups.usable) > 60


def test_the_same_seed_gives_the_same_file(faces: Path, labelled: Path) -> None:
    label(faces, labelled, out=faces.parent / "a.csv").save()
    label(faces, labelled, out=faces.parent / "b.csv").save()
    label(faces, labelled, out=faces.parent / "c.csv", seed=1).save()
    a, b, c = ((faces.parent / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b != c


def test_what_people_checked_or_changed_stays_and_is_learned_from(
    faces: Path, labelled: Path, unlabelled: tuple[Path, dict], capsys: pytest.CaptureFixture
) -> None:
    truth, path = unlabelled[1], faces / "metadata.csv"
    label(faces, labelled).save()
    rows = rows_of(path)
    first = list(rows)[:40]
    for name in first:  # looked at, from the top
        rows[name] |= {"checked": "x", **{each: str(int(truth[name][each])) for each in ("bald", "beard")}}
    changed = next(name for name in list(rows)[60:] if rows[name]["bald"] == "0")
    rows[changed]["bald"] = "1"  # not marked, but changed
    emptied = next(name for name in list(rows)[60:] if rows[name]["beard"] == "1")
    rows[emptied]["beard"] = ""
    for name, row in rows.items():
        row["note"] = f"of {name}"
    rewrite(path, rows, ";")
    catalog = open_catalog(faces)
    assert catalog.unchecked is not None
    known = dict(zip(catalog.members, ~catalog.unchecked, strict=True))
    assert all(known[name].all() for name in first)
    assert known[changed].tolist() == [True, False] and known[emptied].tolist() == [False, True]
    assert sum(each.any() for each in known.values()) == 42
    assert cli.main(command(faces, "--from", labelled)) == 0
    assert "40 faces were checked by a person" in capsys.readouterr().out
    again = rows_of(path)
    assert set(list(again)[-40:]) == set(first)
    for name in first:
        assert again[name]["checked"] == "1" and again[name]["bald"] == str(int(truth[name]["bald"]))
    assert again[changed]["bald"] == "1" and again[changed]["checked"] == "" and again[emptied]["beard"] == ""
    assert all(row["note"] == f"of {name}" for name, row in again.items())
    counts = [sum(rows[name][each] == "1" for name in first) for each in ("bald", "beard")]
    before = label(faces, labelled, overwrite=True).figures
    after = label(faces, labelled).figures
    assert [f.positives - g.positives for f, g in zip(after, before, strict=True)] == [counts[0] + 1, counts[1]]
    alone = label(faces.parent / "faces", faces, out=faces.parent / "alone.csv", attributes="beard")  # the corrected file alone
    assert alone.figures[0].positives + alone.figures[0].negatives == 40


def test_further_attributes_join_the_file(faces: Path, labelled: Path) -> None:
    label(faces, labelled, attributes="bald").save()
    label(faces, labelled, attributes="glasses=Eyeglasses/!Eyeglasses").save()
    row = next(iter(rows_of(faces / "metadata.csv").values()))
    assert {"bald", "bald:score", "bald:said", "glasses", "glasses:score", "glasses:said"} < row.keys() and row["bald:score"]
    assert open_catalog(faces).table.columns == ("glasses", "bald")


def test_a_labelled_face_among_the_others_has_the_score_that_it_got_held_out(labelled: Path, tmp_path: Path) -> None:
    """Labels drawn at random: a rater that had seen the faces would rate them as labelled."""
    random, folder = np.random.default_rng(0), tmp_path / "labelled"
    shutil.copytree(labelled / "img_align_celeba", folder)
    names = sorted(path.name for path in folder.iterdir())
    value = random.permutation(np.repeat([1, 0], [120, 120]))
    (folder / "metadata.csv").write_text("file_name,lucky\n" + "".join(f"{n},{v}\n" for n, v in zip(names, value, strict=True)))
    shutil.copytree(labelled / "img_align_celeba", tmp_path / "faces")
    labels = label(tmp_path / "faces", folder, attributes="lucky")
    truth = dict(zip(names, value, strict=True))
    y = np.array([truth[name] for name in labels.names])
    assert abs(labels.scores[y == 1].mean() - labels.scores[y == 0].mean()) < 0.05
    assert np.isnan(labels.values).mean() > 0.9


def test_an_archive_and_a_bad_picture(faces: Path, labelled: Path, caplog: pytest.LogCaptureFixture) -> None:
    (faces / "one/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.new("RGB", (50, 20), "red").save(faces / "wide.png")
    archive = faces.parent / "faces.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(faces.rglob("*.png")):
            file.write(path, path.relative_to(faces).as_posix())
    labels = label(archive, labelled, out=faces.parent / "new/list.csv")
    assert labels.save() == faces.parent / "new/labels.png"
    assert [name for name, _ in labels.unreadable] == ["one/broken.png"] and "one/broken.png" in labels.describe()
    rows = rows_of(faces.parent / "new/list.csv")
    assert len(rows) == 131 and "wide.png" in rows and "one/broken.png" not in rows
    with pytest.raises(FaceganError, match="are an archive, in which nothing is written: name a file with `out`"):
        label(archive, labelled)


def few(folder: Path, labelled: Path, yes: int, no: int, person: bool = False) -> Path:
    """A folder of so many faces with and without `x`; `person`: those with it show one."""
    folder.mkdir()
    lines = ["file_name,x,identity"]
    for i, path in enumerate(sorted((labelled / "img_align_celeba").iterdir())[: yes + no]):
        shutil.copy(path, folder)
        lines.append(f"{path.name},{int(i < yes)},{'one' if person and i < yes else i}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def test_too_few_labels_are_refused_and_few_warned_of(
    faces: Path, labelled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FaceganError, match=r"7 labelled faces with x; expected at least 8, and 30 or more"):
        label(faces, few(tmp_path / "a", labelled, 7, 40), attributes="x")
    with pytest.raises(FaceganError, match=r"0 labelled faces without x; expected at least 8"):
        label(faces, few(tmp_path / "b", labelled, 40, 0), attributes="x")
    with pytest.raises(FaceganError, match="all 10 labelled faces with x show one person"):
        label(faces, few(tmp_path / "c", labelled, 10, 40, person=True), attributes="x")
    with caplog.at_level(logging.WARNING, "facegan"):
        labels = label(faces, few(tmp_path / "d", labelled, 8, 31), attributes="x")
    assert "8 labelled faces with x are few" in caplog.text and "without x" not in caplog.text
    assert np.isfinite(labels.scores).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(yes=0.1, no=0.1), "`no` is 0.1 and `yes` is 0.1: expected `no` below `yes`"),
        (dict(yes=1.2), "`yes` is 1.2: expected 0 to 1"),
        (dict(folds=1), "`folds` is 1: expected 2 to 20"), (dict(resolution=48), "`resolution` is 48"), (dict(seed=-1), "`seed` is -1"),
        (dict(from_=()), "`from_` is missing"), (dict(attributes="baldd"), "did you mean"),
        (dict(attributes="bald,skinhead"), "expected each of them once"), (dict(from_="nowhere"), "data nowhere: no such folder"),
        (dict(device="gpu"), "`device` is 'gpu'"), (dict(out="."), "a folder: expected a file"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict, words: str, faces: Path, labelled: Path) -> None:
    with pytest.raises(FaceganError, match=words):
        label(faces, labelled, **options)
    assert not (faces / "metadata.csv").exists()


def test_no_faces_are_refused(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for place, words in ((tmp_path / "empty", "contains no image"), (tmp_path / "none", "there is none of that name")):
        with pytest.raises(FaceganError, match=words):
            label(place, labelled)


def test_other_lists_are_not_written_over(faces: Path, labelled: Path, tmp_path: Path) -> None:
    path = faces / "metadata.csv"
    path.write_text("file_name,bald\none/000002.png,1\n")
    with pytest.raises(FaceganError, match="is there already, and is not of `facegan data label`"):
        label(faces, labelled)
    assert path.read_text() == "file_name,bald\none/000002.png,1\n"
    label(faces, labelled, overwrite=True).save()
    assert len(rows_of(path)) == 130
    for marker in ("list_attr_celeba.txt", "metadata.jsonl", "one/metadata.csv"):
        (faces / marker).write_text("{}")
        with pytest.raises(FaceganError, match=f"have labels already, {marker}, beside which metadata.csv would not count"):
            label(faces, labelled)
        (faces / marker).unlink()


def test_a_file_that_changed_meanwhile_is_not_written_over(faces: Path, labelled: Path) -> None:
    labels = label(faces, labelled)
    labels.save()
    labels.save()  # once more is nothing new
    path = faces / "metadata.csv"
    text = path.read_text()
    path.write_text(text + "\n")
    with pytest.raises(FaceganError, match="has changed since the faces were rated"):
        labels.save()
    (faces.parent / "other.csv").write_text("mine")
    with pytest.raises(FaceganError, match="is there already: name another file"):
        labels.save(faces.parent / "other.csv")


@pytest.mark.parametrize("cell", ["0.4", "2", "maybe", "0,9"])
def test_a_value_that_is_no_label_is_refused(faces: Path, labelled: Path, cell: str) -> None:
    path = label(faces, labelled, attributes="bald").save().parent / "metadata.csv"
    rows = rows_of(path)
    name = list(rows)[3]
    rows[name]["bald"] = cell
    rewrite(path, rows)
    before = path.read_bytes()
    with pytest.raises(FaceganError, match=f"has '{cell}' for {name}, written by hand: expected 1, 0 or nothing"):
        label(faces, labelled, attributes="bald")
    assert path.read_bytes() == before


def test_without_what_was_said_corrections_are_not_lost(faces: Path, labelled: Path) -> None:
    path = label(faces, labelled, attributes="bald,beard").save().parent / "metadata.csv"
    rewrite(path, {name: {title: cell for title, cell in row.items() if title != "bald:said"} for name, row in rows_of(path).items()})
    with pytest.raises(FaceganError, match="bald without bald:said, by which values are told that people changed"):
        label(faces, labelled, attributes="bald")
    label(faces, labelled, attributes="beard").save()
    assert "bald" in next(iter(rows_of(path).values()))


def test_corrections_of_files_named_otherwise_or_gone(faces: Path, labelled: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = label(faces, labelled, attributes="bald").save().parent / "metadata.csv"
    rows = rows_of(path)
    first, second, third = [name for name, row in rows.items() if row["bald"] != "1"][:3]
    for name, other in ((first, f"./{first}"), (second, second.replace("/", "\\")), (third, third)):
        rows[name].update(file_name=other, bald="1")
    rewrite(path, rows)
    (faces / third).unlink()
    with caplog.at_level(logging.WARNING):
        label(faces, labelled, attributes="bald").save()
    assert rows_of(path)[first]["bald"] == rows_of(path)[second]["bald"] == "1"
    assert f"1 rows that a person has checked or changed are of files that are no longer there, such as {third}" in caplog.text


def test_what_is_stopped_leaves_the_old_file(
    faces: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    label(faces, labelled).save()
    before = (faces / "metadata.csv").read_bytes()
    calls: list[int] = []

    def stopped(*args: object) -> None:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "features", stopped)
    assert cli.main(command(faces, "--from", labelled)) == 130 and calls
    assert (faces / "metadata.csv").read_bytes() == before and not list(faces.glob(".*"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions bind ordinary users of POSIX systems alone")
def test_a_folder_that_cannot_be_written_is_refused_first(faces: Path, labelled: Path) -> None:
    faces.chmod(0o500)
    try:
        with pytest.raises(FaceganError, match="cannot be written to: name a file elsewhere with `out`"):
            label(faces, labelled)
        label(faces, labelled, out=faces.parent / "here.csv").save()
    finally:
        faces.chmod(0o700)


def test_a_full_disk_is_a_sentence(faces: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    labels = label(faces, labelled)
    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(FaceganError, match=r"metadata.csv cannot be written \(No space left on device\); make room"):
        labels.save()


def test_errors_of_the_command_name_its_flags(faces: Path, labelled: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(command(faces)) == 2
    assert "facegan: --from is missing" in capsys.readouterr().err
    assert cli.main(command(faces, "--from", labelled, "--yes", "0.05")) == 2
    assert "--no is 0.1 and --yes is 0.05" in capsys.readouterr().err


def test_two_labelled_sets_join_and_disagree(faces: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One set knows x, the other y; of a face in both with unlike values of x nothing is known."""
    a, b = few(tmp_path / "a", labelled, 40, 40), few(tmp_path / "b", labelled, 40, 40)
    text = (b / "metadata.csv").read_text().splitlines()
    lines = [line.split(",") for line in text[1:]]
    first = [lines[0][0], "0", "1"]
    (b / "metadata.csv").write_text("\n".join(["file_name,x,y", ",".join(first), *(f"{n},,{x}" for n, x, _ in lines[1:])]))
    labels = label(faces, a, from_=[a, b], attributes="x,y")
    assert [(f.positives, f.negatives) for f in labels.figures] == [(39, 40), (40, 40)]


def test_many_labelled_faces_are_drawn_from(faces: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facegan.labelling import examples

    monkeypatch.setattr(examples, "MOST", 150)
    found = label(faces, labelled).figures[0]
    assert found.positives + found.negatives <= 150
