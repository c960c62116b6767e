"""Functions of tensors as CUDA graphs: launched once by Python, from then on by one call.

A small network's kernels are done before Python has asked for the next one. `Graphed` calls a function as it is a few times, records
what it launches, and from then on replays that. What is recorded is what Python did *once*; so a function has to obey three rules,
which `tests/training` checks on the CPU, where a recording of operators stands in for one of kernels:

- All that differs from call to call comes in as an argument. Arrays and tensors are copied to where the graph reads them; any
  other value (a flag, a size, None) decides *which* graph: each combination has one of its own. A number that changes with every
  call is an array of no dimensions, not a float.
- Nothing is read back (`.item()`, a mask as an index, a branch on a tensor), sent over (`torch.tensor`) or drawn inside.
- State is changed in place: a new tensor in a Python variable is not where the next replay looks.

The traps of CUDA graphs, and where they are minded here:

- Lazy things (a kernel compiled, an algorithm measured, a workspace, Adam's averages, a cached constant) must exist before: the first
  calls are real ones, on the stream that is recorded, where autograd's nodes then also belong.
- Gradients live in the graph's memory: a step begins with `zero_grad(set_to_none=True)`, and the graph that fills them uses them.
- Graphs of one function share memory, so an output holds until the next call: it is copied, unless `keep=False`.
- Adam has to count its steps on the device (`training.optimizer`); autocast must not cache casts (`Stage.arithmetic`).
- A buffer of the host that a copy still reads must not be written: every call takes a fresh one from PyTorch's pool of pinned
  memory, which knows when a copy has ended.
"""

from __future__ import annotations

import functools
import gc
import itertools
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from facegan.backend import requested_backend
from facegan.errors import FaceganError

MODES = ("auto", "on", "off")
WARMUP = 3  # calls of each kind that run as they are; the third is then recorded, the fourth compared
MOST = 8  # graphs of one function that are kept
# Allowed between a replay and the function itself: a share of the largest result; of how far each tensor of the state moves, as Adam
# turns the sign of a vanishing gradient into a whole step, beside ten times what two runs of the function differ by.
OF_RESULT, OF_MOVE, OF_SIZE = 0.02, 0.1, 1e-6

log = logging.getLogger("facegan.graphs")


class Recording(Protocol):
    """What a function launched, to be launched again; `outputs` are overwritten by each replay."""

    outputs: Any

    def replay(self) -> None: ...


class CudaGraph:
    """`function()` captured; nothing runs yet."""

    def __init__(self, function: Callable[[], Any], stream: torch.cuda.Stream | None, alike: CudaGraph | None) -> None:
        """`alike`: a graph that is never replayed at the same time, to share memory with."""
        self.graph = torch.cuda.CUDAGraph()
        self.pool: Any = torch.cuda.graph_pool_handle() if alike is None else alike.pool
        here = torch.cuda.current_stream()
        try:
            with _no_collection(), torch.cuda.graph(self.graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"):
                self.outputs = function()
        finally:
            torch.cuda.set_stream(here)  # a capture that fails leaves its own as the current one

    def replay(self) -> None:
        self.graph.replay()


@contextmanager
def _no_collection() -> Iterator[None]:
    """A CUDA object that the garbage collector frees meanwhile would end the capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_recording = False


def recording() -> bool:
    """Whether what runs now is recorded, so that a shortcut by a value that could be read here (on a CPU) must not be taken."""
    return _recording


@contextmanager
def _while_recording() -> Iterator[None]:
    global _recording
    _recording = True
    try:
        yield
    finally:
        _recording = False


Recorder = Callable[[Callable[[], Any], Any, Any], Recording]
RECORDERS: dict[str, Recorder] = {"cuda": CudaGraph}  # by type of device; tests add one for the CPU


def wanted(mode: str, device: torch.device, processes: int = 1) -> bool:
    """Whether `--cuda-graphs` `mode` means to record here; FaceganError where it is "on" and that cannot be."""
    if mode not in MODES:
        raise FaceganError(f"`cuda_graphs` is {mode!r}: expected one of {', '.join(MODES)}")
    possible = device.type in RECORDERS and processes == 1
    if mode == "on" and not possible:
        where = f"{processes} processes" if processes > 1 else f"device {device.type}"
        raise FaceganError(f"`cuda_graphs` is on, but needs one process on a CUDA device, and this run has {where}: omit it")
    return possible and mode != "off"


class Graphed:
    """A function of arrays, tensors and plain values in nested tuples, lists and dicts, which returns tensors in such a nest.

        faces = Graphed(lambda z, c: generator(z, c), device)
        images = faces(z, None)          # arrays and CPU tensors are sent to the device, all in one transfer

    Where nothing is recorded (`mode`, the device, several processes) it calls the function with the same arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        device: torch.device | str,
        mode: str = "auto",
        *,
        state: Callable[[], Sequence[Tensor]] = tuple,
        processes: int = 1,
        name: str = "a step",
        keep: bool = True,
        warmup: int | None = None,
    ) -> None:
        """
        Args:
            function: obeys the three rules above; its results are detached.
            state: all tensors that it changes in place, as they are now; the check of a new graph needs to step back.
            name: what the log calls it.
            keep: results are copies, not overwritten by the next call.
            warmup: calls of each kind before it is recorded, `WARMUP` if None.
        """
        self.function, self.device, self.state, self.name, self.keep = function, torch.device(device), state, name, keep
        self.warmup = WARMUP if warmup is None else warmup
        self.record = RECORDERS[self.device.type] if wanted(mode, self.device, processes) else None
        self.stream = torch.cuda.Stream(self.device) if self.record and self.device.type == "cuda" else None
        self.entries: OrderedDict[Hashable, _Entry] = OrderedDict()  # oldest use first

    def __call__(self, *inputs: Any) -> Any:
        leaves: list[np.ndarray | Tensor] = []
        structure = _taken_apart(inputs, leaves, self.device)
        if self.record is None:
            return self.function(*_put_together(structure, iter(sent(leaves, self.device))))
        entry = self._entry(structure)
        entry.calls += 1
        if entry.recording is None:
            return self._run_and_record(entry, structure, leaves)
        assert entry.buffers is not None
        entry.buffers.fill(leaves)
        if entry.calls == self.warmup + 1:
            return self._compared(entry)
        entry.recording.replay()
        return _mapped(entry.recording.outputs, torch.clone) if self.keep else entry.recording.outputs

    def reset(self) -> None:
        """Forget the graphs, as when tensors that they hold have been replaced."""
        self.entries.clear()

    def _entry(self, structure: Hashable) -> _Entry:
        # A graph keeps what it was recorded with: gradients or none, and kernels of this backend.
        key = structure, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), requested_backend()
        entry = self.entries.get(key) or _Entry()
        self.entries[key] = entry
        self.entries.move_to_end(key)
        if len(self.entries) > MOST:
            self.entries.popitem(last=False)
        return entry

    def _run_and_record(self, entry: _Entry, structure: Any, leaves: list[np.ndarray | Tensor]) -> Any:
        if entry.calls < self.warmup:
            return self._warmed_up(_put_together(structure, iter(sent(leaves, self.device))))
        buffers = entry.buffers = Buffers(leaves, self.device)
        buffers.fill(leaves)
        entry.inputs = _put_together(structure, iter(buffers.tensors))
        results = self._warmed_up(entry.inputs)
        try:
            if self.record is not None:
                self._record(entry)
        except RuntimeError as error:
            first = error.__context__ or error  # what ended the capture, behind the complaint that it has ended
            self._give_up(f"could not be recorded ({str(first).strip().splitlines()[0]})")
        return results

    def _record(self, entry: _Entry) -> None:
        assert self.record is not None
        alike = next((known.recording for known in self.entries.values() if known.recording), None)
        state = [*self.state()]
        before = _copies(state)
        try:
            with _while_recording():
                entry.recording = self.record(lambda: _mapped(self.function(*entry.inputs), torch.detach), self.stream, alike)
        finally:
            _restore(state, before)  # a capture computes nothing, but one that failed may have got somewhere

    def _warmed_up(self, inputs: tuple[Any, ...]) -> Any:
        if any(known.recording for known in self.entries.values()):
            return self._within_memory(inputs, lambda *_: self._run(inputs))
        return self._run(inputs)

    def _within_memory(self, inputs: tuple[Any, ...], run: Callable[[list[Tensor], list[Tensor]], Any]) -> Any:
        """`run(state, copies of it)`; where graphs, whose memory is theirs alone, leave too little for that, the step without them."""
        state, before = [*self.state()], list[Tensor]()
        try:
            before = _copies(state)
            return run(state, before)
        except torch.OutOfMemoryError:
            _restore(state[: len(before)], before)
        self._give_up("leaves too little memory as a graph")
        return self._run(inputs)

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        """The function as it is, on the stream that is recorded."""
        with _on(self.stream):
            return _mapped(self.function(*inputs), torch.detach)

    def _compared(self, entry: _Entry) -> Any:
        """The first replay, held against the function run twice from the same state: what these two differ by is rounding."""

        def compared(state: list[Tensor], before: list[Tensor]) -> Any:
            results = _mapped(self._run(entry.inputs), torch.clone)
            fault = self._difference(entry, state, before, results)
            if fault is not None:
                self._give_up(fault)
            return results

        results = self._within_memory(entry.inputs, compared)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the step as it is needs memory of its own, and may never run again
        return results

    def _difference(self, entry: _Entry, state: list[Tensor], before: list[Tensor], results: Any) -> str | None:
        """What is wrong with the graph; the state is `results`' afterwards, or the replay's, which is as good."""
        after, expected = _copies(state), _tensors(results)
        apart: list[list[float]] = []
        for run in (lambda: self._run(entry.inputs), lambda: self._replayed(entry.recording)):
            _restore(state, before)
            found = _tensors(run())
            apart.append(_distances(state, after) + _distances(found, expected))
        moved = [OF_MOVE * way + OF_SIZE * size for way, size in zip(_distances(after, before), _sizes(after), strict=True)]
        noise = [10 * again + least for again, least in zip(apart[0], moved, strict=False)]
        allowed = noise + [OF_RESULT * max(_sizes(expected), default=0.0)] * len(expected)
        for difference, most in zip(apart[1], allowed, strict=True):
            if math.isfinite(most) and not difference <= most:
                _restore(state, after)
                return f"computed something else as a graph (off by {difference:.3g}, where {most:.3g} could be rounding)"
        return None

    @staticmethod
    def _replayed(recording: Recording | None) -> Any:
        assert recording is not None
        recording.replay()
        return recording.outputs

    def _give_up(self, why: str) -> None:
        log.warning("CUDA graphs: %s %s; it does without them, as with `cuda_graphs=off`", self.name, why)
        self.record = None
        self.entries.clear()


class _Entry:
    """One graph, or what it is to become."""

    def __init__(self) -> None:
        self.calls = 0
        self.buffers: Buffers | None = None
        self.inputs: tuple[Any, ...] = ()
        self.recording: Recording | None = None


def _on(stream: torch.cuda.Stream | None) -> AbstractContextManager[Any]:
    return nullcontext() if stream is None else _in_turn(stream)


@contextmanager
def _in_turn(stream: torch.cuda.Stream) -> Iterator[None]:
    """On another stream, after all that this one has been given and before all that it will be."""
    here = torch.cuda.current_stream(stream.device)
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        yield
    here.wait_stream(stream)


# --- tensors on the way to the device


class Buffers:
    """Where a graph reads its inputs: one block for all that the host sends, and a tensor for each that is on the device."""

    def __init__(self, leaves: Sequence[np.ndarray | Tensor], device: torch.device) -> None:
        self.device, self.places = device, _places([leaf for leaf in leaves if isinstance(leaf, np.ndarray)])
        self.block = torch.empty(self.places.size, dtype=torch.uint8, device=device)
        views = iter(self.places.views(self.block))
        self.tensors = [next(views) if isinstance(leaf, np.ndarray) else torch.empty_like(leaf) for leaf in leaves]

    @torch.no_grad()
    def fill(self, leaves: Sequence[np.ndarray | Tensor]) -> None:
        arrays = [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]
        if arrays:
            self.block.copy_(self.places.packed(arrays, self.device), non_blocking=True)
        for buffer, leaf in zip(self.tensors, leaves, strict=True):
            if isinstance(leaf, Tensor):
                buffer.copy_(leaf)


class Places(NamedTuple):
    """How arrays lie in one block of bytes."""

    starts: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]
    size: int

    def packed(self, arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
        """A block of the host's memory that holds them, pinned for a GPU."""
        block = torch.empty(self.size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        content = block.numpy()
        for start, array in zip(self.starts, arrays, strict=True):
            content[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return block

    def views(self, block: Tensor) -> list[Tensor]:
        """The arrays as tensors in a block."""
        found = []
        for start, shape, dtype in zip(self.starts, self.shapes, self.dtypes, strict=True):
            part = block[start : start + math.prod(shape) * dtype.itemsize]
            found.append(part.view(torch.from_numpy(np.empty(0, dtype)).dtype).view(shape))
        return found


def _places(arrays: Sequence[np.ndarray]) -> Places:
    ends = list(itertools.accumulate(-(-array.nbytes // 256) * 256 for array in arrays))
    starts = tuple([0, *ends][: len(arrays)])
    return Places(starts, tuple(a.shape for a in arrays), tuple(a.dtype for a in arrays), ends[-1] if ends else 0)


def sent(leaves: Sequence[np.ndarray | Tensor], device: torch.device) -> list[Tensor]:
    """Arrays as tensors on the device, by one transfer that a GPU is not waited for; tensors as they are."""
    arrays = [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]
    if device.type == "cpu" or not arrays:
        views = iter([torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape)) for array in arrays])
    else:
        places = _places(arrays)
        views = iter(places.views(places.packed(arrays, device).to(device, non_blocking=True)))
    return [next(views) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]


@functools.cache
def constant(values: tuple, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers on a device, sent there once; also usable for training when first asked for in inference mode."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


# --- nests of tensors


class _Leaf(NamedTuple):
    """Where a tensor or array was, and what it looked like."""

    shape: tuple[int, ...]
    dtype: Any
    strides: tuple[int, ...] | None  # None: an array


def _taken_apart(tree: Any, leaves: list[np.ndarray | Tensor], device: torch.device) -> Any:
    """The arrays and tensors of a nest, in order into `leaves`, and all else as a key that `_put_together` understands."""
    if isinstance(tree, Tensor) and tree.device != device and tree.device.type == "cpu":
        tree = tree.detach().numpy()
    if isinstance(tree, Tensor):
        leaves.append(tree.detach())
        return _Leaf(tuple(tree.shape), tree.dtype, tree.stride())
    if isinstance(tree, (np.ndarray, np.generic)):
        leaves.append(np.asarray(tree))
        return _Leaf(tree.shape, tree.dtype, None)
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple(_taken_apart(part, leaves, device) for part in tree)
    if isinstance(tree, dict):
        return dict, tuple(tree), tuple(_taken_apart(part, leaves, device) for part in tree.values())
    return None, tree


def _put_together(structure: Any, tensors: Iterator[Tensor]) -> Any:
    if isinstance(structure, _Leaf):
        return next(tensors)
    kind, *rest = structure
    if kind is None:
        return rest[0]
    parts = [_put_together(part, tensors) for part in rest[-1]]
    if kind is dict:
        return dict(zip(rest[0], parts, strict=True))
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


def _mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nest with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {name: _mapped(part, change) for name, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_mapped(part, change) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(tree, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


# --- stepping back, and comparing


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _restore(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _distances(ones: Sequence[Tensor], others: Sequence[Tensor]) -> list[float]:
    """|a - b| of each pair; 0 for whole numbers, which follow from comparisons that rounding may turn."""
    return _norms([one.detach() - other if one.is_floating_point() else None for one, other in zip(ones, others, strict=True)])


def _sizes(tensors: Sequence[Tensor]) -> list[float]:
    return _norms([tensor if tensor.is_floating_point() else None for tensor in tensors])


def _norms(tensors: Sequence[Tensor | None]) -> list[float]:
    if not tensors:
        return []
    device = next((tensor.device for tensor in tensors if tensor is not None), None)
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack([zero if t is None else torch.linalg.vector_norm(t, dtype=torch.float64) for t in tensors]).tolist()
