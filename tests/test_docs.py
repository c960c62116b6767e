"""The documentation names files that are there; `make docs` checks the links between its own pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
FOLDERS = "facegan|kernels|csrc|tests|benchmarks|docs|examples"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert links and not [link for link in links if link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    """In backticks: `facegan/nn.py`, `csrc/cpu`, `tests/kernels/test_*.py`; a name in angle brackets is a placeholder."""
    named = re.findall(rf"`((?:{FOLDERS})/[\w./*-]*)`", page.read_text())
    assert not [name for name in named if not [*ROOT.glob(name.rstrip("/"))]]
