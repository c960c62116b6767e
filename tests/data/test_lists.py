"""Lists as people have them: written by pandas, on Windows, with words for numbers; each is read, or what is not is said."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.data.lists import number, numbers
from facegan.data.loaders import Catalog, open_catalog
from facegan.errors import FaceganError

COLUMNS = ["5_o_Clock_Shadow", "Bald"]
SIGNS = [[1, -1], [-1, 1], [1, 1]]
TRUTH = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
U = np.nan


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Catalog]:
    """read(files, images) -> the catalog of such texts beside images of these names, all different."""

    def catalog(files: dict[str, str], images: list[str]) -> Catalog:
        for i, name in enumerate(images):
            (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "data" / name)
        for name, text in files.items():
            (tmp_path / "data" / name).write_text(text)
        return open_catalog(tmp_path / "data")

    return catalog


NAMES = [f"{i:06d}.jpg" for i in range(1, 4)]
IMAGES = [f"img_align_celeba/{name}" for name in NAMES]


def _written(header: list[str], rows: list[list[object]], mark: str) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=mark, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


@pytest.mark.parametrize("file", ["list_attr_celeba.txt", "list_attr_celeba.csv"])
@pytest.mark.parametrize("mark", [",", ";", " ", "\t"])
@pytest.mark.parametrize("announced", ["", "3\n"])
@pytest.mark.parametrize(
    ("before", "counted"),
    [
        (["image_id"], False),  # a header cell
        ([""], False),  # frame.to_csv() with the names as index
        (["", "image_id"], True),  # frame.to_csv() with the numbers of rows as index
        (["Unnamed: 0", "image_id"], True),  # the same, read and written once more
        ([], False),  # as CelebA has it
    ],
)
def test_celebas_list_as_pandas_writes_it(
    file: str, mark: str, announced: str, before: list[str], counted: bool, read: Callable[..., Catalog]
) -> None:
    before = [each if mark in ",;" else each.replace("Unnamed: 0", "index") for each in before]
    rows = [[*([i] if counted else []), name, *row] for i, (name, row) in enumerate(zip(NAMES, SIGNS, strict=True))]
    catalog = read({file: announced + _written([*before, *COLUMNS], rows, mark)}, IMAGES)
    assert catalog.table.columns == tuple(COLUMNS) and catalog.table.ids == tuple(NAMES) and catalog.notes == ()
    np.testing.assert_array_equal(catalog.table.values, TRUTH)


def test_a_list_of_names_alone_is_refused(read: Callable[..., Catalog]) -> None:
    with pytest.raises(FaceganError, match='its file and values, such as 000001.jpg -1 1; got "000001.jpg"'):
        read({"list_attr_celeba.txt": "image_id\n" + "\n".join(NAMES)}, IMAGES)


def test_no_attribute_is_taken_for_a_header_cell(read: Callable[..., Catalog]) -> None:
    """Rows that are cut off, every one, must not shift the values below the names."""
    with pytest.raises(FaceganError, match="line 3: expected an image name and 2 values, got 1 values; the file is cut off"):
        read({"list_attr_celeba.txt": "3\n5_o_Clock_Shadow Bald\n" + "".join(f"{name} 1\n" for name in NAMES)}, IMAGES)


@pytest.mark.parametrize("first", ["3", "1" * 5000, "0", "٣"])
def test_a_first_line_of_digits_is_a_number_of_rows(first: str, read: Callable[..., Catalog]) -> None:
    catalog = read({"list_attr_celeba.txt": f"{first}\nA B\n" + "".join(f"{name} 1 -1\n" for name in NAMES)}, IMAGES)
    assert len(catalog.table) == 3
    if first == "3":
        assert not catalog.notes
    else:
        assert "rows, but there are 3" in catalog.notes[0] and len(catalog.notes[0]) < 250


def test_unknown_values_of_celebas_list(read: Callable[..., Catalog]) -> None:
    text = "image_id,A,B\n" + "".join(f"{name},{cells}\n" for name, cells in zip(NAMES, ["1,NA", ",-1", "nan,1"], strict=True))
    np.testing.assert_array_equal(read({"list_attr_celeba.csv": text}, IMAGES).table.values, np.array([[1, U], [U, 0], [U, 1]], np.float32))


@pytest.mark.parametrize("names", [["images/0.jpg", "masks_too/0.jpg"], ["a/0.png", "b/0.tif"]])
def test_one_name_in_two_places_is_an_error_that_names_both(names: list[str], read: Callable[..., Catalog]) -> None:
    with pytest.raises(FaceganError, match=f'"0.jpg" may be {names[0]} or {names[1]}; expected it in one place'):
        read({"list_attr_celeba.txt": "1\nA B\n0.jpg 1 -1\n"}, names)


def test_prepared_masks_do_not_win_over_the_images(read: Callable[..., Catalog]) -> None:
    catalog = read({"list_attr_celeba.txt": "1\nA B\n0.jpg 1 -1\n"}, ["images/0.jpg", "masks/0.png", "masks/1.png"])
    assert catalog.members == ("images/0.jpg",)
    assert catalog.notes[0] == "1 masks are left out, such as masks/0.png, which belongs to images/0.jpg"
    assert "1 of 2 images have no row and are left out, such as masks/1.png" in catalog.notes


def test_a_lists_own_folders_tell_the_places_apart(read: Callable[..., Catalog]) -> None:
    catalog = read({"list_attr_celeba.txt": "2\nA B\na/0.jpg 1 -1\nb\\0.jpg -1 1\n"}, ["a/0.jpg", "b/0.jpg"])
    assert catalog.members == ("a/0.jpg", "b/0.jpg")


# --- metadata.csv


def test_one_odd_cell_drops_no_column(read: Callable[..., Catalog]) -> None:
    text = "file_name,bald,beard,hat,note\n0.png,1,yes,True,1\n1.png,NA,no,false,fine\n2.png,0,N/A,,good\n3.png,maybe,Yes,True,2\n"
    catalog = read({"metadata.csv": text}, [f"{i}.png" for i in range(4)])
    assert catalog.table.columns == ("bald", "beard", "hat")
    np.testing.assert_array_equal(catalog.table.values, np.array([[1, 1, 1], [U, 0, 0], [0, U, U], [U, 1, 1]], np.float32))
    assert catalog.notes == (
        "columns that are not numbers within [0, 1] are ignored: note",
        "words such as NA are read as 1, 0 or unknown in columns bald, beard",
        "column bald: 1 cells such as maybe are no numbers, and read as unknown",
    )


@pytest.mark.parametrize("text", [
    "file_name;bald;beard\n0.png;1;0\n1.png;NA;1\n", "file_name, bald , beard\n0.png, 1, 0\n1.png, NA, 1\n",
])  # fmt: skip
def test_semicolons_and_blanks_part_cells_too(text: str, read: Callable[..., Catalog]) -> None:
    catalog = read({"metadata.csv": text}, ["0.png", "1.png"])
    assert catalog.table.columns == ("bald", "beard") and catalog.members == ("0.png", "1.png")
    np.testing.assert_array_equal(catalog.table.values, np.array([[1, 0], [U, 1]], np.float32))


def test_absolute_paths_are_found_by_their_ends(read: Callable[..., Catalog]) -> None:
    text = "file_name,bald\n/home/me/data/x/0.png,1\nC:\\faces\\1.png,0\n/elsewhere/2.png,1\n"
    catalog = read({"metadata.csv": text}, ["x/0.png", "y/1.png", "x/3.png"])
    assert catalog.members == ("x/0.png", "y/1.png")
    assert any("1 of 3 rows have no image file and are left out, such as" in note and "2.png" in note for note in catalog.notes)
    with pytest.raises(FaceganError, match='"/a/0.png" may be x/0.png or z/0.png; expected it in one place'):
        read({"metadata.csv": "file_name,bald\n/a/0.png,1\n"}, ["z/0.png"])


def test_rows_that_tell_no_image_are_sentences(read: Callable[..., Catalog]) -> None:
    with pytest.raises(FaceganError, match="none of its 2 rows has an image file, such as 7.png; the layouts"):
        read({"metadata.csv": "file_name,a\n7.png,1\n8.png,0\n"}, ["0.png"])
    with pytest.raises(FaceganError, match="metadata.csv: every row needs a file_name, got columns file_name, a"):
        read({"metadata.csv": "file_name,a\n0.png,1\n,0\n"}, ["0.png"])


@pytest.mark.parametrize("file", ["metadata.csv", "list_attr_celeba.csv", "metadata.jsonl"])
def test_utf_16_is_said(file: str, read: Callable[..., Catalog]) -> None:
    path = read({"metadata.csv": "file_name,a\n0.png,1\n"}, ["0.png"]).source.path
    (path / "metadata.csv").unlink()
    (path / file).write_bytes("file_name,a\n0.png,1\n".encode("utf-16"))
    with pytest.raises(FaceganError, match=f"{file} is UTF-16, as some programs write it; save it as UTF-8"):
        read({}, [])


def test_an_index_column_is_no_attribute(read: Callable[..., Catalog]) -> None:
    catalog = read({"metadata.csv": ",Unnamed: 0,file_name,a\n0,0,0.png,1\n1,1,1.png,0\n"}, ["0.png", "1.png"])
    assert catalog.table.columns == ("a",) and catalog.notes == ()


def test_a_repeated_column_counts_once_or_is_refused(read: Callable[..., Catalog]) -> None:
    assert read({"metadata.csv": "file_name,a,a\n0.png,1,1\n1.png,0,0\n"}, ["0.png", "1.png"]).table.columns == ("a",)
    with pytest.raises(FaceganError, match="metadata.csv: column a is there twice, with different values; leave one"):
        read({"metadata.csv": "file_name,a,a\n0.png,1,1\n1.png,0,1\n"}, ["0.png", "1.png"])
    (Path(str(read({"metadata.csv": "file_name,a\n0.png,1\n"}, ["0.png"]).source.path)) / "metadata.csv").unlink()
    with pytest.raises(FaceganError, match="list_attr_celeba.csv: column a is there twice"):
        read({"list_attr_celeba.csv": "image_id,a,a\n0.png,1,1\n"}, ["0.png"])


def test_windows_paths(read: Callable[..., Catalog]) -> None:
    catalog = read({"metadata.csv": "file_name,a\nx\\0.png,1\n.\\x\\1.png,0\n"}, ["x/0.png", "x/1.png"])
    assert catalog.table.ids == ("x/0.png", "x/1.png") and catalog.notes == ()
    catalog.source.path.joinpath("metadata.csv").unlink()
    catalog = read({"dataset.json": '{"labels": [["x\\\\0.png", 1], ["x/1.png", 0]]}'}, [])
    assert catalog.members == ("x/0.png", "x/1.png")


@pytest.mark.parametrize("file", ["metadata.csv", "dataset.json", "list_attr_celeba.csv"])
def test_images_without_a_row_are_counted(file: str, read: Callable[..., Catalog]) -> None:
    text = '{"labels": [["0.png", [1, 0]]]}' if file.endswith("json") else "file_name,a,b\n0.png,1,0\n"
    catalog = read({file: text}, ["0.png", "1.png", "2.png"])
    assert catalog.notes == ("2 of 3 images have no row and are left out, such as 1.png",)


@pytest.mark.parametrize("text", ["", "\n\n", "file_name,a\n"])
def test_a_list_without_rows_is_a_sentence(text: str, read: Callable[..., Catalog]) -> None:
    for file in ("metadata.csv", "list_attr_celeba.csv"):
        with pytest.raises(FaceganError, match=r"expected a header line|needs a file_name|line 1 must be"):
            read({file: text}, ["0.png"])


def test_cells() -> None:
    known = {"1": 1, " 0.5 ": 0.5, "TRUE": 1, "no": 0, "Yes": 1, "n": 0, True: 1, 2: 2}
    assert {cell: number(cell) for cell in known} == known
    assert all(np.isnan(number(cell)) for cell in ("", "NA", "n/a", "NaN", "null", None))
    assert [number(cell) for cell in ("maybe", [1], {"a": 1}, "1,5")] == [None] * 4
    assert numbers(["hello", "2"]) is None and numbers(["", None]) is None
    column = numbers([1, "yes", "x" * 1000, None])
    assert column is not None and column.words == {"yes"} and column.odds == 1 and len(column.odd[0]) <= 100
    np.testing.assert_array_equal(column.values, [1, 1, U, U])
