"""Sheets in sections: pictures in their rows, sections without any, words of any length."""

from __future__ import annotations

import numpy as np
from PIL import Image

from facegan.plotting.sections import COLUMNS, MARGIN, SIDE, Section, sections


def _flat(colour: tuple[int, int, int], side: int, height: int = 0) -> Image.Image:
    return Image.new("RGB", (side, height or side), colour)


def test_every_picture_stands_in_its_section() -> None:
    reds = [("", _flat((200, 0, i), 96)) for i in range(COLUMNS + 3)]
    greens = [("", _flat((0, 200, i), side)) for i, side in enumerate((8, 300, 96))]
    sheet = np.asarray(sections([Section("first", reds), Section("none"), Section("last", greens)], "data")).astype(int)
    red, green = (sheet[..., channel] - sheet[..., 1 - channel] == 200 for channel in (0, 1))
    assert red.sum() == len(reds) * SIDE**2 and green.sum() == 3 * SIDE**2
    for mask, abreast in ((red, COLUMNS), (green, 3)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert len(columns) == abreast * SIDE and sorted(set(sheet[rows[0], columns, 2])) == list(range(abreast))
    assert np.flatnonzero(red.any(1))[-1] < np.flatnonzero(green.any(1))[0]
    assert (sheet[:, -MARGIN:] == 255).all() and (sheet[-MARGIN:] == 255).all()


def test_pictures_that_are_not_square_keep_their_shape() -> None:
    sheet = np.asarray(sections([Section("", [("wide", _flat((200, 0, 0), 300, 100))])])).astype(int)
    red = sheet[..., 0] - sheet[..., 1] == 200
    assert len(np.flatnonzero(red.any(0))) == SIDE and abs(len(np.flatnonzero(red.any(1))) - SIDE / 3) <= 1


def test_words_of_any_length_stay_within_the_sheet() -> None:
    shown = Section("", [("caption " * 30, _flat((0, 0, 0), 4))], lines=["line " * 99])
    sheet = np.asarray(sections([Section("a name without end " * 40, more=123_456_789), shown], "/a/path" * 90))
    assert (sheet[:, -MARGIN:] == 255).all() and sheet.shape[1] == np.asarray(sections([])).shape[1]
