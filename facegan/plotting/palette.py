"""Colours and letters that all pictures of figures share."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

BACKGROUND, FOREGROUND, MUTED, LINES = (255, 255, 255), (33, 37, 41), (108, 117, 125), (222, 226, 230)
GREEN, ORANGE, BLUE, PURPLE, RED, GREY = (27, 138, 90), (217, 119, 6), (37, 99, 235), (147, 51, 234), (190, 24, 93), (173, 181, 189)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
