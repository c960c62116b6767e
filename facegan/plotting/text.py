"""Rates as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def interval(values: Mapping[str, Any], sign: str = "") -> str:
    """`0.53 [0.50, 0.56]`; the rate alone where no limits are known; `sign`: "+" for differences."""
    if values["rate"] is None:
        return "undefined (the ceiling is not above the floor)"
    rate, low, high = (number(values[key], sign=sign) for key in ("rate", "low", "high"))
    return rate if values["low"] is values["high"] is None else f"{rate} [{low}, {high}]"


def number(value: float | None, digits: int = 3, sign: str = "", absent: str = "?") -> str:
    return absent if value is None else f"{value:{sign}.{digits}f}"
