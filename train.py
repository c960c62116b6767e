#!/usr/bin/env python
"""`torchrun --nproc_per_node 2 -- train.py --method a ...`: the same as `facegan train ...`, in the shape that launchers start."""

from __future__ import annotations

import sys

from facegan.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
