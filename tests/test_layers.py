"""Calls go downwards: what import-linter holds for imports, held for what runs while styles are mixed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import facegan
from facegan import cli
from facegan.backend import use_backend

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(facegan.__file__).parent
HANDED = ("graphs", "schema")  # they call the functions and classes that they are handed
FILES_MOST = 15  # that know of a mix, above the network that makes its faces


def layers() -> dict[str, int]:
    """Top-level module -> its layer, 0 the highest, as pyproject.toml has them."""
    found = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in found if contract["type"] == "layers")
    return {name.strip().removeprefix("facegan."): index for index, row in enumerate(rows) for name in row.split("|")}


def modules_above(frame: FrameType | None) -> Iterator[str]:
    """The modules of this package whose functions wait for a frame, the nearest first, as paths."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE) and frame.f_code.co_name != "<module>":
            yield str(path.relative_to(PACKAGE).with_suffix(""))
        frame = frame.f_back


def test_a_mix_calls_downwards_and_is_known_to_few_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order, passed, upward = layers(), set[str](), set[tuple[str, str]]()

    def noted(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(str(PACKAGE)) or frame.f_code.co_name == "<module>":
            return
        here, *waiting = modules_above(frame)
        passed.add(here)
        above, mine = (order.get(name.split("/")[0]) for name in (waiting[0] if waiting else here, here))
        if above is not None and mine is not None and mine < above and waiting[0] not in HANDED:
            upward.add((waiting[0], here))

    words = ["mix", "--rows", "0", "--cols", "1", "--out", str(tmp_path / "mixes"), "--device", "cpu"]
    with use_backend("reference"):
        assert cli.main(words) == 0  # modules are imported, and not counted
        sys.setprofile(noted)
        try:
            assert cli.main(words) == 0
        finally:
            sys.setprofile(None)
    assert not upward
    own = {name for name in passed if name.split("/")[0] in ("cli", "api", "styles", "plotting", "options", "config")}
    assert {"cli/styles", "api/stylegan", "styles/mix"} <= own and len(own) <= FILES_MOST, sorted(own)
