"""facegan: faces that carry several chosen attributes at once, learned from faces that carry one each."""

__version__ = "0.1.0"
