"""What stands in for `torch_utils.ops`: one file for each of its modules, run under the project's own module name.

Signatures and behaviour are those that a caller sees. Pairs are (x, y) there and (vertical, horizontal) in `facegan.ops`, paddings
(x0, x1, y0, y1) there and (top, bottom, left, right) here; `arguments.py` turns them.
"""
