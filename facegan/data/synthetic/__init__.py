"""Synthetic faces with ground-truth attributes: free training data whose labels cannot be wrong.

``sample_parameters`` draws a face, ``render`` paints it at any resolution, ``render_dataset`` makes arrays and
``write_celeba_layout`` a folder that reads like CelebA.  Face ``i`` of seed ``s`` never depends on batch or process.
"""

from __future__ import annotations

from facegan.data.synthetic.dataset import render_dataset, write_celeba_layout
from facegan.data.synthetic.parameters import BEARDS, COLUMNS, HAIRS, FaceParameters, sample_parameters
from facegan.data.synthetic.renderer import render

VERSION = 2  # raise when a face of a seed changes: faces that were kept before are then made again
__all__ = [
    "VERSION",
    "BEARDS",
    "COLUMNS",
    "HAIRS",
    "FaceParameters",
    "render",
    "render_dataset",
    "sample_parameters",
    "write_celeba_layout",
]
