"""What to do where a step does not fit into memory."""

from __future__ import annotations

from typing import Any


def more_parts(config: Any) -> str:
    """The same step, taken in more parts one after the other."""
    parts = 2 * config.accumulate
    return f"run the same command with `accumulate={parts}`, which takes {config.batch // parts} images at once for the same result"
