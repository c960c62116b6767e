"""Faces with attributes: tables, selectors, groups, splits and decoded images. `facegan.data.synthetic` draws faces."""

from __future__ import annotations

from facegan.data.attributes import BUILTIN, Attribute, Groups, group, resolve
from facegan.data.faces import FaceData, open_faces
from facegan.data.layouts import LAYOUTS
from facegan.data.loaders import Catalog, open_catalog
from facegan.data.selectors import Selector, SelectorError, parse
from facegan.data.splits import Split, holdout, split
from facegan.data.table import AttributeTable, UnknownAttribute

__all__ = [
    "BUILTIN", "LAYOUTS", "Attribute", "AttributeTable", "Catalog", "FaceData", "Groups", "Selector", "SelectorError",
    "Split", "UnknownAttribute", "group", "holdout", "open_catalog", "open_faces", "parse", "resolve", "split",
]  # fmt: skip
