#!/usr/bin/env python
"""`accelerate launch train.py --method a ...`: the same as `facegan train ...`, in the shape that Accelerate launches."""

from __future__ import annotations

import sys

from facegan.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
