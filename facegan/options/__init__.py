"""The options of every command but the trainings', which are in `facegan.config` and `facegan/methods/<method>/config.py`.

A command's flags and the keywords of its method in the Python API are fields of one class.
"""

from __future__ import annotations

from facegan.options.common import (
    BLURRED,
    DUPLICATE_BITS,
    LARGEST_SEED,
    MOST_SEEDS,
    RESTORER,
    STYLE_FILES,
    STYLES,
    SYNTHETIC,
    Align,
    Compute,
    FacesOf,
    Graphs,
    Mode,
    Network,
    NoiseMode,
    Projecting,
    Space,
    of,
    parse_seeds,
)
from facegan.options.data import AlignOptions, DataAlign, DataInspect, DataLabel, DataPack, DataSynth
from facegan.options.faces import Convert, Evaluate, EvaluateOptions, Generate, GenerateOptions, Restore
from facegan.options.mixes import Mix, MixOptions, MixSearch, SearchOptions, Walk, WalkOptions
from facegan.options.studies import AblateOptions, App, Demo
from facegan.options.styles import (
    Edit,
    EditOptions,
    Project,
    ProjectOptions,
    StylesAverage,
    StylesChannels,
    StylesCollect,
    StylesDirection,
    StylesList,
    StylesMask,
)

__all__ = [
    "AblateOptions", "Align", "AlignOptions", "App", "BLURRED", "Compute", "Convert", "DUPLICATE_BITS", "DataAlign",
    "DataInspect", "DataLabel", "DataPack", "DataSynth", "Demo", "Edit", "EditOptions", "Evaluate", "EvaluateOptions", "FacesOf",
    "Generate", "GenerateOptions", "Graphs", "LARGEST_SEED", "MOST_SEEDS", "Mix", "MixOptions", "MixSearch", "Mode", "Network",
    "NoiseMode", "Project", "ProjectOptions", "Projecting", "RESTORER", "Restore", "STYLES", "STYLE_FILES", "SYNTHETIC",
    "SearchOptions", "Space", "StylesAverage", "StylesChannels", "StylesCollect", "StylesDirection", "StylesList", "StylesMask",
    "Walk", "WalkOptions", "of", "parse_seeds",
]  # fmt: skip
