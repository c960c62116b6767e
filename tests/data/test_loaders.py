"""Every layout, as folder and as zip, written here by hand and read back; and damaged or unknown data."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facegan.data.loaders import Catalog, open_catalog
from facegan.errors import FaceganError

FORMATS = ("celeba", "kaggle", "celebamask", "nvidia", "csv", "jsonl", "folders")
Files = dict[str, bytes | str]


def _png(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (i % 256, i // 256, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _write(files: Files, path: Path, zipped: bool, top: str = "") -> Path:
    """The files under an optional top folder, as a folder or a zip."""
    contents = {top + name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    if zipped:
        with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path.with_suffix(".zip")
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def _celeba(columns: list[str], values: np.ndarray, identities: list[str] | None = None) -> Files:
    names = [f"{i + 1:06d}.jpg" for i in range(len(values))]
    lines = [str(len(values)), " ".join(columns) + " "]
    lines += [f"{name} " + " ".join(f"{2 * int(v) - 1:2d}" for v in row) for name, row in zip(names, values, strict=True)]
    files: Files = {f"img_align_celeba/{name}": _png(i) for i, name in enumerate(names)}
    files["list_attr_celeba.txt"] = "\n".join(lines) + "\n"
    if identities:
        files["identity_CelebA.txt"] = "".join(f"{n} {p}\n" for n, p in zip(names, identities, strict=True))
    return files


def _csv_text(rows: list[list[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _layout(form: str, columns: list[str], values: np.ndarray) -> tuple[Files, list[str]]:
    """The files of one layout for a table of 0 and 1, and the ids its rows should get."""
    n = len(values)
    names = [f"{i:03d}.png" for i in range(n)]
    images: Files = {name: _png(i) for i, name in enumerate(names)}
    if form == "celeba":
        return _celeba(columns, values), [f"{i + 1:06d}.jpg" for i in range(n)]
    if form == "kaggle":
        rows = [["image_id", *columns], *([name, *(2 * row.astype(int) - 1)] for name, row in zip(names, values, strict=True))]
        inside: Files = {f"img_align_celeba/img_align_celeba/{name}": data for name, data in images.items()}
        return {**inside, "list_attr_celeba.csv": _csv_text(rows)}, names
    if form == "celebamask":
        text = _celeba(columns, values)["list_attr_celeba.txt"]
        assert isinstance(text, str)
        for i in range(n):
            text = text.replace(f"{i + 1:06d}.jpg ", f"{i}.jpg  ")
        inside = {f"CelebA-HQ-img/{i}.jpg": _png(i) for i in range(n)}
        masks: Files = {f"CelebAMask-HQ-mask-anno/0/{i:05d}_hair.png": _png(i + 99) for i in range(n)}
        return {**inside, **masks, "CelebAMask-HQ-attribute-anno.txt": text}, [f"{i}.jpg" for i in range(n)]
    if form == "nvidia":
        labels = [[f"00000/{name}", row.tolist()] for name, row in zip(names, values, strict=True)]
        inside = {f"00000/{name}": data for name, data in images.items()}
        return {**inside, "dataset.json": json.dumps({"labels": labels})}, [f"00000/{name}" for name in names]
    if form == "csv":
        rows = [["file_name", "caption", *columns], *([n, "a, b", *r.astype(int)] for n, r in zip(names, values, strict=True))]
        return {**images, "metadata.csv": _csv_text(rows)}, names
    if form == "jsonl":
        records = [{"file_name": n, **{c: bool(v) for c, v in zip(columns, r, strict=True)}} for n, r in zip(names, values, strict=True)]
        return {**images, "metadata.jsonl": "\n".join(map(json.dumps, records))}, names
    assert form == "folders"
    inside = {f"{c}/{names[i]}": _png(i) for i in range(n) for j, c in enumerate(columns) if values[i, j]}
    return inside, names


tables = st.tuples(st.integers(1, 6), st.integers(2, 4), st.randoms(use_true_random=False)).map(
    lambda shape: np.array([[shape[2].randrange(2) for _ in range(shape[1])] for _ in range(shape[0])], np.float32)
)


@pytest.mark.parametrize("form", FORMATS)
@given(values=tables, zipped=st.booleans(), top=st.sampled_from(["", "deep/er/"]))
@settings(max_examples=25, deadline=None)
def test_a_table_survives_every_layout(form: str, values: np.ndarray, zipped: bool, top: str) -> None:
    if form == "folders":  # an image in no folder is no image, an empty folder no column: one of each keeps them all
        values = np.concatenate([values[values.any(1)], np.eye(values.shape[1], dtype=np.float32)])
    columns = ["Bald", "5_o_Clock_Shadow", "No_Beard", "x-y.z"][: values.shape[1]]
    files, ids = _layout(form, columns, values)
    with tempfile.TemporaryDirectory() as folder:
        catalog = open_catalog(_write(files, Path(folder) / "data", zipped, top))
        contents = [catalog.source.read(member) for member in catalog.members]
    expected_columns = [f"label{j}" for j in range(len(columns))] if form == "nvidia" else columns
    read = {column: catalog.table.column(column) for column in catalog.table.columns}
    assert sorted(read) == sorted(expected_columns)
    rows = [i.split("/")[-1] for i in catalog.table.ids] if form == "folders" else list(catalog.table.ids)
    assert sorted(rows) == sorted(ids)
    for j, column in enumerate(expected_columns):
        assert dict(zip(rows, read[column], strict=True)) == dict(zip(ids, values[:, j], strict=True))
    assert dict(zip(rows, contents, strict=True)) == {name: _png(i) for i, name in enumerate(ids)}
    assert catalog.identities == catalog.table.ids
    assert all("ignored: caption" in note for note in catalog.notes)


def _open(files: Files, path: Path, zipped: bool = False) -> Catalog:
    return open_catalog(_write(files, path / "data", zipped))


VALUES = np.array([[1, 0], [0, 1], [1, 1]], np.float32)


def test_celeba_identities(tmp_path: Path) -> None:
    catalog = _open(_celeba(["a", "b"], VALUES, ["7", "7", "9"]), tmp_path, zipped=True)
    assert catalog.identities == ("7", "7", "9") and catalog.notes == ()


def test_celeba_count_that_disagrees_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = _celeba(["a", "b"], VALUES)
    files["list_attr_celeba.txt"] = str(files["list_attr_celeba.txt"]).replace("3\n", "202599\n", 1)
    catalog = _open(files, tmp_path)
    assert len(catalog.table) == 3
    assert "announces 202599 rows, but there are 3" in catalog.notes[0] and "202599" in caplog.text


@pytest.mark.parametrize("form", ["celeba", "kaggle", "celebamask", "csv"])
def test_a_truncated_list_names_the_line(form: str, tmp_path: Path) -> None:
    files, _ = _layout(form, ["a", "b"], VALUES)
    name = next(name for name in files if name.endswith((".txt", ".csv")))
    text = str(files[name]).rstrip()
    last = text.count("\n") + 1
    files[name] = text[: max(text.rfind(" "), text.rfind(","))].rstrip(" ,")
    with pytest.raises(FaceganError, match=rf"{name}: line {last}: expected .*cut off"):
        _open(files, tmp_path)


def test_a_value_cut_in_two_names_the_line(tmp_path: Path) -> None:
    files = _celeba(["a", "b"], 1 - VALUES)
    files["list_attr_celeba.txt"] = str(files["list_attr_celeba.txt"]).rstrip()[:-1]  # the last -1 is now -
    with pytest.raises(FaceganError, match='line 5: "-" is none of the values -1 and 1'):
        _open(files, tmp_path)


def test_truncated_json(tmp_path: Path) -> None:
    nvidia, _ = _layout("nvidia", ["a", "b"], VALUES)
    nvidia["dataset.json"] = str(nvidia["dataset.json"])[:-9]
    with pytest.raises(FaceganError, match="dataset.json is not valid JSON"):
        _open(nvidia, tmp_path / "1")
    lines, _ = _layout("jsonl", ["a", "b"], VALUES)
    lines["metadata.jsonl"] = str(lines["metadata.jsonl"])[:-9]
    with pytest.raises(FaceganError, match="metadata.jsonl: line 3 is not valid JSON"):
        _open(lines, tmp_path / "2")


def test_rows_without_image_are_left_out_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    files = _celeba(["a", "b"], VALUES)
    del files["img_align_celeba/000002.jpg"]
    catalog = _open(files, tmp_path / "1")
    assert catalog.table.ids == ("000001.jpg", "000003.jpg")
    assert "1 of 3 rows have no image file" in catalog.notes[0] and "000002.jpg" in catalog.notes[0]
    lone = {"list_attr_celeba.txt": files["list_attr_celeba.txt"], "x.png": _png(0)}
    with pytest.raises(FaceganError, match="none of its 3 rows has an image file"):
        _open(lone, tmp_path / "2")


def test_the_aligned_folder_goes_before_other_images_of_the_same_name(tmp_path: Path) -> None:
    files = _celeba(["a", "b"], VALUES)
    files |= {f"img_celeba/{i:06d}.jpg": _png(100 + i) for i in (1, 2, 3)}
    png = {name.replace("celeba/", "celeba_png/").replace(".jpg", ".png"): data for name, data in files.items()
           if name.startswith("img_align")}  # fmt: skip
    png |= {name: data for name, data in files.items() if not name.startswith("img_align")}
    assert all(member.startswith("img_align_celeba/") for member in _open(files, tmp_path / "1").members)
    assert all(member.startswith("img_align_celeba_png/") for member in _open(png, tmp_path / "2").members)


def test_nvidia_class_numbers_become_one_hot(tmp_path: Path) -> None:
    files: Files = {f"{i}.png": _png(i) for i in range(3)}
    files["dataset.json"] = json.dumps({"labels": [["0.png", 2], ["1.png", 0], ["2.png", 2]]})
    table = _open(files, tmp_path).table
    assert table.columns == ("label0", "label1", "label2")
    np.testing.assert_array_equal(table.values, [[0, 0, 1], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "missing or null"),
        ([], "missing or null"),
        ([["0.png"]], "list of"),
        ({"0.png": 1}, "to be a list"),
        ([["0.png", [1, 0]], ["1.png", [1]]], "as many floats"),
        ([["0.png", "bald"]], "class number"),
        ([["0.png", -3]], "class numbers from 0"),
        ([["0.png", 10**400]], "beyond 64 bits"),
        ([["0.png", [0.5, 3.0]]], r"within \[0, 1\]"),
    ],
)
def test_nvidia_labels_that_cannot_be_used(labels: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match=message):
        _open({"0.png": _png(0), "1.png": _png(1), "dataset.json": json.dumps({"labels": labels})}, tmp_path)


def test_imagefolder_columns(tmp_path: Path) -> None:
    """Numbers and booleans within range are attributes, empty is unknown; texts, ages and the person are not."""
    text = "file_name,smile,signed,flag,age,caption,identity,empty\na/0.png,0.25,-1,True,31,hello,ann,\na/1.png,,1,false,64,2,,\n"
    catalog = _open({"a/0.png": _png(0), "a/1.png": _png(1), "metadata.csv": "\ufeff" + text}, tmp_path)
    assert catalog.table.columns == ("smile", "signed", "flag")
    np.testing.assert_array_equal(catalog.table.values, np.array([[0.25, 0, 1], [np.nan, 1, 0]], np.float32))
    assert catalog.identities == ("ann", "a/1.png")
    assert "ignored: age, caption, empty" in catalog.notes[0]


def test_imagefolder_with_a_list_per_folder(tmp_path: Path) -> None:
    catalog = _open(
        {
            "top/train/0.png": _png(0),
            "top/train/metadata.csv": "file_name,a\n0.png,1\n",
            "top/test/0.png": _png(1),
            "top/test/metadata.csv": "file_name,b\n0.png,0\n",
        },
        tmp_path,
    )
    assert catalog.table.ids == ("test/0.png", "train/0.png")
    np.testing.assert_array_equal(catalog.table.select("a"), [False, True])
    assert np.isnan(catalog.table.column("b")).tolist() == [False, True]


def test_imagefolder_without_file_names(tmp_path: Path) -> None:
    with pytest.raises(FaceganError, match="needs a file_name, got columns image, bald"):
        _open({"0.png": _png(0), "metadata.csv": "image,bald\n0.png,1\n"}, tmp_path)


def test_rows_of_the_same_image_that_disagree_are_unknown(tmp_path: Path) -> None:
    catalog = _open({"0.png": _png(0), "metadata.csv": "file_name,a,b\n0.png,1,1\n./0.png,1,0\n"}, tmp_path)
    np.testing.assert_array_equal(catalog.table.values, np.array([[1, np.nan]], np.float32))
    assert "repeat an image" in catalog.notes[0]


@pytest.mark.parametrize("zipped", [False, True])
def test_class_folders_join_the_same_content_whatever_its_name(zipped: bool, tmp_path: Path) -> None:
    catalog = _open(
        {
            "bald/1.png": _png(1),
            "bald/2.png": _png(2),
            "bald/3.png": _png(3),
            "beard/2.png": _png(2),  # same name and content
            "beard/copy of 3.png": _png(3),  # same content
            "beard/4.png": _png(4),
            "hat/1.png": _png(300),  # same name, other content: another image
        },
        tmp_path,
        zipped,
    )
    assert catalog.table.columns == ("bald", "beard", "hat")
    carried = dict(zip(catalog.table.ids, catalog.table.values.tolist(), strict=True))
    assert carried == {
        "bald/1.png": [1, 0, 0],
        "bald/2.png": [1, 1, 0],
        "bald/3.png": [1, 1, 0],
        "beard/4.png": [0, 1, 0],
        "hat/1.png": [0, 0, 1],
    }
    assert catalog.identities == catalog.table.ids and not catalog.notes


def test_hidden_files_and_links_are_no_data(tmp_path: Path) -> None:
    files: Files = {"a/0.png": _png(0), "b/1.png": _png(1), "__MACOSX/a/._0.png": b"x", ".git/2.png": b"x"}
    root = _write(files, tmp_path / "data", False)
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "dangling.png").symlink_to(root / "nowhere.png")
    assert open_catalog(root).table.ids == ("a/0.png", "b/1.png")


def test_missing_empty_and_unknown_data_list_the_layouts(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    flat = _write({"0.png": _png(0), "1.png": _png(1)}, tmp_path / "flat", False)
    text = _write({"notes.txt": "hello"}, tmp_path / "text", True)
    packed = _write({"list_attr_celeba.txt": "1\na\n", "img_align_celeba.zip": b"x"}, tmp_path / "packed", False)
    for path, message in [
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "empty", "contains no image"),
        (flat, "2 images such as 0.png"),
        (text, "contains no image"),
        (packed, "unpack img_align_celeba.zip"),
    ]:
        with pytest.raises(FaceganError, match=message) as caught:
            open_catalog(path)
        assert all(marker in str(caught.value) for marker in ("list_attr_celeba.txt", "metadata.csv", "dataset.json"))


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(FaceganError, match="no readable zip"):
        open_catalog(tmp_path / "data.zip")


@pytest.mark.parametrize("text", ["", "3\n", "a b\n1 1\n", "\xff\xfe"])
def test_a_celeba_list_that_is_none(text: str, tmp_path: Path) -> None:
    files: Files = {"img_align_celeba/0.jpg": _png(0), "list_attr_celeba.txt": text.encode("latin-1")}
    with pytest.raises(FaceganError, match="line 1 must be|cut off|is UTF-16"):
        _open(files, tmp_path)
