"""What is looked at of a data set, and what is found: sizes, sharpness, near-duplicates within and across groups and the split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.data import survey as module
from facegan.data.quality import sharpness
from facegan.data.survey import RUN, SHOWN, SIDE, THUMBNAIL, Opened, open_square, sample, survey


def _picture(seed: int, side: int = 32) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC)


# --- Which are looked at


def test_few_of_a_large_group_and_all_of_a_small_one() -> None:
    sizes = [100, 3, 5000, 0, 40]
    bounds = np.cumsum([0, *sizes])
    groups = [np.arange(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    taken = sample(groups, 200)
    assert [len(rows) for rows in taken] == [78, 3, 79, 0, 40]  # 157 are left for the two large groups
    for rows, own in zip(taken, groups, strict=True):
        assert len(np.unique(rows)) == len(rows) and np.isin(rows, own).all()
    large = taken[2] - groups[2][0]
    assert large[0] == 0 and large[-1] >= 5000 - RUN  # from end to end
    assert (np.diff(large) == 1).sum() >= len(large) * (RUN - 1) // RUN - 1  # in runs of neighbours
    assert np.diff(large).max() < 5000 / (len(large) / RUN) * 1.2


@pytest.mark.parametrize(("sizes", "most"), [([7], 5), ([1, 1, 1], 2), ([10, 10], 20), ([10, 10], 100), ([0, 0], 3), ([9], 1), ([5, 5], 0)])
def test_never_more_than_asked(sizes: list[int], most: int) -> None:
    bounds = np.cumsum([0, *sizes])
    groups = [np.arange(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    taken = sample(groups, most)
    assert min(most, sum(sizes)) - RUN < sum(map(len, taken)) <= most
    if most >= sum(sizes):
        assert all(np.array_equal(rows, own) for rows, own in zip(taken, groups, strict=True))


# --- How they are opened


@pytest.mark.parametrize(("form", "size"), [("JPEG", (700, 1300)), ("PNG", (31, 20)), ("JPEG", (16, 16)), ("WEBP", (600, 520))])
def test_the_central_square_is_looked_at(form: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "x"
    Image.new("RGB", size, "teal").save(path, form)
    image, told = open_square(path.read_bytes())
    assert told == size and image.mode == "RGB" and image.size == (min(*size, SIDE),) * 2
    with pytest.raises(Exception, match="."):
        open_square(path.read_bytes()[:20])


# --- What is found


class _Loads:
    """Pictures of a data set made by hand."""

    def __init__(self, pictures: list[Image.Image | None]) -> None:
        self.pictures = pictures

    def __call__(self, row: int) -> Opened:
        picture = self.pictures[row]
        if picture is None:
            raise OSError("broken data stream")
        return picture, (picture.width, picture.height + row % 2)


def test_near_duplicates_are_counted_by_group_and_by_side_of_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AHEAD", 5)  # several turns of the pool
    pictures: list[Image.Image | None] = [_picture(seed) for seed in range(12)]
    pictures[4] = _picture(1).point(lambda v: min(255, v + 3))  # of the same group as 1, other side
    pictures[9] = _picture(2, 48)  # of another group than 2, same side
    pictures[11] = _picture(2, 40)  # of the group of 9, other side than both
    pictures[6] = None
    groups = [np.array([0, 1, 2, 3, 4]), np.array([], np.int64), np.array([6, 7, 8, 9, 10, 11])]  # 5: in none
    sides = np.array([1, 1, 1, 0, 2, 1, 1, 1, 1, 1, 2, 2], np.int8)
    seen = survey(_Loads(pictures), groups, sides, 30, shown=True, progress=False)
    assert seen.rows.tolist() == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11] and seen.group.tolist() == [0] * 5 + [2] * 5
    assert seen.unreadable == ((6, "OSError: broken data stream"),)
    assert seen.alike.groups.tolist() == [[1, 0, 2], [0, 0, 0], [0, 0, 1]]
    assert seen.alike.repeats.tolist() == [1, 0, 1]
    assert seen.alike.across_sides == 3
    pairs = [[(pair.first, pair.second) for pair in kind] for kind in (seen.alike.within, seen.alike.across, seen.alike.on_both_sides)]
    assert pairs == [[(1, 4), (9, 11)], [(2, 9), (2, 11)], [(1, 4), (2, 11), (9, 11)]]
    assert all(pair.bits <= 30 for pair in seen.alike.within)
    assert seen.sizes.tolist() == [[p.width, p.height + row % 2] for row, p in enumerate(pictures) if p is not None and row != 5]
    np.testing.assert_array_equal(seen.sharpness, [np.float32(sharpness(pictures[row])) for row in seen.rows])
    assert [len(faces) for faces in seen.faces] == [5, 0, 5]
    again = survey(_Loads(pictures), groups, sides, 30, shown=False, progress=False)
    assert again.faces == ((), (), ()) and again.alike.within == seen.alike.within


def test_a_data_set_of_one_picture_over_and_over() -> None:
    count = 300
    pictures: list[Image.Image | None] = [Image.new("RGB", (16, 16), "teal")] * count
    seen = survey(_Loads(pictures), [np.arange(0, 100), np.arange(100, count)], np.ones(count, np.int8), 0, shown=True, progress=False)
    assert seen.alike.groups.tolist() == [[100 * 99 // 2, 100 * 200], [0, 200 * 199 // 2]]
    assert seen.alike.repeats.tolist() == [99, 199] and seen.alike.across_sides == 0
    assert len(seen.alike.within) == len(seen.alike.across) == 5 and not seen.alike.on_both_sides
    assert [len(faces) for faces in seen.faces] == [SHOWN, SHOWN]


def test_what_is_kept_to_be_shown_is_small_and_from_all_over_the_group() -> None:
    colours = [Image.new("RGB", (200, 200), (i, 0, 0)) for i in range(100)]
    seen = survey(_Loads([*colours]), [np.arange(100)], np.zeros(100, np.int8), 0, shown=True, progress=False)
    assert all(face.size == (THUMBNAIL, THUMBNAIL) for face in seen.faces[0])
    reds = [face.getpixel((0, 0))[0] for face in seen.faces[0]]  # type: ignore[index]
    assert reds == [round(i * 99 / 11) for i in range(12)]


def test_nothing_to_look_at() -> None:
    seen = survey(_Loads([None]), [np.array([0]), np.array([], np.int64)], np.zeros(1, np.int8), 3, shown=True, progress=False)
    assert not len(seen.rows) and seen.sizes.shape == (0, 2) and len(seen.unreadable) == 1
    none = survey(_Loads([]), [], np.zeros(0, np.int8), 3, shown=True, progress=False)
    assert not len(none.rows) and none.faces == ()
