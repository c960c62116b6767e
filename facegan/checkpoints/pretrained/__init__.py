"""Networks that come with the package, a folder each; docs/results.md says how they were made, and the file beside each does."""

from __future__ import annotations

from pathlib import Path


def located(network: str | Path) -> Path:
    """The path itself, or that of the network of this name that comes with the package."""
    shipped = Path(__file__).parent / network
    return shipped if not Path(network).exists() and (shipped / "config.json").exists() else Path(network)
