"""`torch_utils.ops.bias_act`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from facegan import ops
from facegan.compat.arguments import implementation
from facegan.ops.activation import DEFAULT_GAINS, activate


class Entry(dict[str, Any]):
    """A dict whose items are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        """Return an item."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


_NAMES = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")


def _entry(index: int, act: str) -> Entry:
    def func(x: Tensor, alpha: float = 0.2, **_: Any) -> Tensor:
        return activate(x, act, alpha, inplace=False)

    return Entry(
        func=func,
        def_alpha=0.2 if act == "lrelu" else 0,
        def_gain=DEFAULT_GAINS[act],
        cuda_idx=index,
        ref="" if act == "linear" else "x" if act == "swish" else "y",
        has_2nd_grad=act not in ("linear", "relu", "lrelu"),
    )


activation_funcs = {act: _entry(index, act) for index, act in enumerate(_NAMES, 1)}


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "cuda",
) -> Tensor:
    """Compute `facegan.ops.bias_act`; a negative clamp is none."""
    clamp = None if clamp is None or clamp < 0 else float(clamp)
    with implementation("bias_act", impl):
        return ops.bias_act(x, b, dim, act, 0.2 if alpha is None else alpha, None if gain is None else float(gain), clamp)
