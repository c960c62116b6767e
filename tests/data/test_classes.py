"""Class folders: what their names say, word by word, so that no face with all attributes is trained on; and splits looked through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.data.attributes import group, partition, resolve
from facegan.data.classes import told
from facegan.data.loaders import open_catalog
from facegan.errors import FaceganError

U = np.nan  # unknown: it may be


def _faces(root: Path, folders: list[str], count: int = 1) -> Path:
    """Images of so many colours in each folder, no two alike."""
    for i, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for j in range(count):
            Image.new("RGB", (4, 4), (i, j, 7)).save(root / folder / f"{j}.png")
    return root


@pytest.mark.parametrize(
    ("folder", "bald", "beard"),
    [
        ("bald and beard", 1, 1), ("bald_beard", 1, 1), ("beard, bald", 1, 1), ("Bald+Beard", 1, 1), ("BaldBeard", 1, 1),
        ("baldbeard", 1, 1), ("bald-and-beard-2", 1, 1), ("baldandbeard", 1, 1), ("bald/beard", 1, 1),
        ("bald/with beard", 1, 1), ("only bald", 1, 0),
        ("bald+bearded", U, U), ("balding, bearded", U, U), ("bald/bearded", 1, U), ("both", U, U), ("bald with stubble", U, 0),
        ("bald without beard", 1, 0), ("bald no-beard", 1, 0), ("bald beardless", 1, 0), ("neither bald nor beard", 0, 0),
        ("neither", 0, 0), ("not bald", 0, 0), ("bearded", 0, 0), ("bald/0001", 1, 0), ("baldric", 0, 0), ("hat", 0, 0),
        ("bald or beard", U, U), ("3. both", U, U), ("all", U, U), ("joint_2", U, U), ("both/0001", U, U), ("men with beard", 0, U),
    ],
)  # fmt: skip
def test_what_a_folders_name_says(folder: str, bald: float, beard: float) -> None:
    columns = sorted({"bald", "beard", folder.split("/")[0]})
    said, notes = told(sorted({"bald", "beard", folder}), columns)
    values = dict(zip(columns, said[folder], strict=True))
    np.testing.assert_array_equal([values["bald"], values["beard"]], [bald, beard])
    assert values[folder.split("/")[0]] == 1
    told_of = [each for each, value in values.items() if value != 0 and each != folder.split("/")[0]]
    assert any(folder in note for note in notes) == bool(told_of)
    plain = [columns.index(each) for each in ("bald", "beard")]
    assert [said[each][plain].tolist() for each in ("bald", "beard")] == [[1, 0], [0, 1]]


@pytest.mark.parametrize("names", [("bald", "beard"), ("only bald", "only beard"), ("Bald people", "Bearded people")])
@pytest.mark.parametrize("joint", ["{} and {}", "{}_{}", "{1}, {0}", "{0}/{1}", "old men, {} + {}"])
def test_no_face_of_a_folder_with_both_names_is_trained_on(names: tuple[str, str], joint: str, tmp_path: Path) -> None:
    both = joint.format(*names)
    catalog = open_catalog(_faces(tmp_path, [*names, both, "neither"], 8))
    groups = group(catalog.table, resolve(f'"{names[0]}","{names[1]}"', catalog.table))

    def folders(index: np.ndarray) -> set[str]:
        return {catalog.table.ids[i].rpartition("/")[0] for i in index}

    assert folders(groups.joint) == folders(groups.excluded) == {both} and folders(groups.usable) == {*names, "neither"}
    assert [folders(index) for index in groups.only] == [{name} for name in names]
    assert any(both in note and "carrying further classes" in note for note in catalog.notes)


def test_what_may_have_both_is_no_reference_either(tmp_path: Path) -> None:
    catalog = open_catalog(_faces(tmp_path, ["bald", "beard", "bald and bearded", "both"]))
    groups = partition(catalog.table, resolve("bald,beard", catalog.table))
    assert groups.joint.size == 0
    assert [catalog.table.ids[i] for i in groups.excluded] == ["bald and bearded/0.png", "both/0.png"]
    assert any("bald and bearded (bald, beard)" in note and "unknown" in note for note in catalog.notes)


@pytest.mark.parametrize("names", [
    ("01_bald", "02_beard", "03_bald_beard"), ("bald_men", "bearded_men", "bald_and_bearded"),
    ("bald guys", "bearded guys", "bald bearded"),
    ("bald (120)", "beard (300)", "bald and beard (12)"), ("bald_v2", "beard_v2", "bald+beard"), ("1. bald", "2. beard", "3. both"),
    ("bald man", "bearded man", "bald with beard"), ("bald head", "beard", "bald and beard"), ("bald heads", "beards", "bald beard"),
    ("A_bald", "B_beard", "C_bald_beard"), ("smiling", "wearing glasses", "smiling and glasses"),
    ("bald_men", "men_with_beard", "bald_with_beard"), ("bald2", "beard2", "bald_beard2"), ("bald scalp", "beard", "bald and beard"),
    ("bald scalp", "long beard", "bald beard"), ("black hair", "grey hair", "black and grey"), ("man", "bald", "bald man"),
    ("bald dudes", "bearded dudes", "bald and bearded", "old dudes"), ("bald men", "beard", "bald beard 1", "bald beard 2"),
    ("bald men", "beard", "bald and beard", "bald women"), ("bald scalp", "beard", "both of them", "hat"),
])  # fmt: skip
def test_a_joint_folder_is_never_neither(names: tuple[str, ...]) -> None:
    """The third says the first two: neither may be told absent there; and these two stay what they are, apart."""
    said, notes = told(names, names)
    assert (said[names[2]][:2] != 0).all() and any(names[2] in note for note in notes)
    assert said[names[0]][:2].tolist() == [1, 0] and said[names[1]][:2].tolist() == [0, 1]


@pytest.mark.parametrize("columns", [
    ["clean shaven", "shaved bald"], ["black hair", "brown hair", "grey hair", "bald"], ["person 1", "person 2", "person 3"],
    ["young man", "old man", "young woman", "old woman"], ["young female", "young male", "old female", "old male", "smiling"],
    ["black hair", "grey hair", "hat", "big nose", "pointy nose"], ["1", "2", "3"], ["v1", "v2"], ["1_a", "2_b", "3_c"],
    ["old fat clown", "old fat king", "old thin clown", "old thin king",
     "new fat clown", "new fat king", "new thin clown", "new thin king"],
])  # fmt: skip
def test_classes_that_share_words_stay_apart(columns: list[str]) -> None:
    said, notes = told(columns, columns)
    np.testing.assert_array_equal(np.stack([said[column] for column in columns]), np.eye(len(columns)))
    assert not notes


def test_classes_that_only_share_letters_stay_apart() -> None:
    columns = sorted(["female", "male", "man", "woman", "grey", "green", "black hair", "brown hair", "hat", "chat", "a", "b", "no", "yes"])
    said, notes = told(columns, columns)
    np.testing.assert_array_equal(np.stack([said[column] for column in columns]), np.eye(len(columns)))
    assert not notes


def test_the_same_picture_elsewhere_counts_with_what_its_folder_may_say(tmp_path: Path) -> None:
    """Known and unknown together: carried if one place says so, else unknown if one does."""
    root = _faces(tmp_path, ["bald", "beard", "bald and bearded"])
    (root / "hat").mkdir()
    (root / "hat/x.png").write_bytes((root / "bald and bearded/0.png").read_bytes())
    (root / "beard/x.png").write_bytes((root / "bald and bearded/0.png").read_bytes())
    table = open_catalog(root).table
    row = table.ids.index("bald and bearded/0.png")
    found = {column: float(table.values[row, j]) for j, column in enumerate(table.columns)}
    assert np.isnan(found.pop("bald")) and found == {"bald and bearded": 1, "beard": 1, "hat": 1}


@pytest.mark.parametrize("splits", [("train", "val"), ("Training", "test_set", "valid"), ("train2", "dev")])
@pytest.mark.parametrize("below", ["", "images/"])
def test_splits_are_looked_through(splits: tuple[str, ...], below: str, tmp_path: Path) -> None:
    classes = ["bald", "beard", "bald and beard"]
    catalog = open_catalog(_faces(tmp_path, [f"{split}/{below}{each}" for split in splits for each in classes]))
    assert catalog.table.columns == ("bald", "bald and beard", "beard")
    assert len(catalog.table) == len(splits) * len(classes)
    for id, row in zip(catalog.table.ids, catalog.table.values, strict=True):
        split, each = id.split("/")[0], id.split("/")[-2]
        assert split in splits
        assert row.tolist() == {"bald": [1, 0, 0], "beard": [0, 0, 1], "bald and beard": [1, 1, 1]}[each]
    assert any(all(split in note for split in splits) and "parts of one data set" in note for note in catalog.notes)


def test_a_class_may_be_missing_in_a_split_but_no_image_its_class(tmp_path: Path) -> None:
    root = _faces(tmp_path, ["train/bald", "train/beard", "test/bald"])
    assert open_catalog(root).table.columns == ("bald", "beard")
    Image.new("RGB", (4, 4)).save(root / "test/stray.png")
    with pytest.raises(FaceganError, match="1 images such as test/stray.png"):
        open_catalog(root)


def test_an_odd_folder_beside_splits_is_named(tmp_path: Path) -> None:
    folders = [f"{split}/{each}" for split in ("train", "valid") for each in ("bald", "beard")]
    catalog = open_catalog(_faces(tmp_path, [*folders, "unlabeled"]))
    assert catalog.table.columns == ("train", "unlabeled", "valid")
    assert catalog.notes == (
        "train, unlabeled, valid are read as classes, not as parts of one data set with bald, beard: "
        "move unlabeled out of the data for that",
    )
    assert open_catalog(_faces(tmp_path / "other", ["train/a", "train/b", "car/c", "dev/d"])).notes == ()


def test_folders_of_persons_are_no_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facegan.data.lists.MOST_COLUMNS", 3)
    with pytest.raises(FaceganError, match="as class folders: 4 rows of 4 columns; expected at most"):
        open_catalog(_faces(tmp_path, ["ann", "bob", "cyd", "dan"]))
