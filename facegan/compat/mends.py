"""What stops these projects on today's machines and is no operator.

* `torch.utils.data.Sampler` no longer takes the data set that it is made for, and NVIDIA's `InfiniteSampler` passes it.
* `torchvision.transforms.functional_tensor` is gone, and BasicSR 1.4.2 imports `rgb_to_grayscale` from it.

`torch.load` is left as it is: whether a file may run code is for its reader to decide.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

SAMPLER = "torch.utils.data.sampler"
_SERVED = f"{SAMPLER}.Sampler.__init__"
FUNCTIONAL_TENSOR = "torchvision.transforms.functional_tensor"
_mended: list[type] = []


def mend_loaded(served: dict[str, str]) -> None:
    """Mend what was imported before; the rest is as it comes."""
    if SAMPLER in sys.modules:
        mend_sampler(sys.modules[SAMPLER], served)


def mend_sampler(module: ModuleType, served: dict[str, str]) -> None:
    """Have `Sampler(data_source)` accept its argument, where it takes none."""
    sampler: Any = module.Sampler
    if "__init__" in vars(sampler) and sampler not in _mended:
        return

    def __init__(self: Any, data_source: Any = None) -> None:  # noqa: N807
        """Accept the data set, as older releases of PyTorch do."""
        super(sampler, self).__init__()

    sampler.__init__ = __init__
    _mended.append(sampler)
    served[_SERVED] = "facegan.compat.mends: takes `data_source` again"


def undo(served: dict[str, str]) -> None:
    """Take the mends back; what was imported by an old name stays."""
    for sampler in _mended:
        if "__init__" in vars(sampler):
            del sampler.__init__  # type: ignore[misc]
    _mended.clear()
    served.pop(_SERVED, None)
