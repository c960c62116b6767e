"""The sheet of a data set's groups: faces in their rows, groups without faces, names of any length."""

from __future__ import annotations

import numpy as np
from PIL import Image

from facegan.plotting.groups import ABREAST, FACE, group_sheet


def _flat(colour: tuple[int, int, int], side: int) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def test_every_face_stands_in_the_row_of_its_group() -> None:
    reds = [_flat((200, 0, i), 96) for i in range(15)]  # more than a row holds
    greens = [_flat((0, 200, i), side) for i, side in enumerate((8, 300, 96))]
    sheet = np.asarray(group_sheet([("first", reds), ("none", []), ("last", greens)], "data")).astype(int)
    red, green = (sheet[..., channel] - sheet[..., 1 - channel] == 200 for channel in (0, 1))
    assert red.sum() == ABREAST * FACE**2 and green.sum() == 3 * FACE**2
    for mask, shown in ((red, ABREAST), (green, 3)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert len(rows) == FACE == rows[-1] - rows[0] + 1 and len(columns) == shown * FACE
        assert sorted(set(sheet[rows[0], columns, 2])) == list(range(shown))
    assert np.flatnonzero(red.any(1))[-1] < np.flatnonzero(green.any(1))[0]
    assert (sheet[:, -15:] == 255).all() and (sheet[-15:] == 255).all()


def test_names_of_any_length_stay_within_the_sheet() -> None:
    sheet = np.asarray(group_sheet([("a name without end " * 40, []), ("", [_flat((0, 0, 0), 4)])], "/a/path" * 90))
    assert (sheet[:, -15:] == 255).all() and sheet.shape[1] == np.asarray(group_sheet([], "")).shape[1]
