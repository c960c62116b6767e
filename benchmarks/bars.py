"""What the kernels are meant to reach, and whether a machine's figures say that they do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.races import RACES
from benchmarks.record import Row

NOT_MEASURED = "not measured"
LARGE = 128 << 20  # bytes of a map from which the bandwidth bars hold


@dataclass(frozen=True)
class Bar:
    """`figure` of every row that `applies` should be `target` or better: at least that, or at most when `smaller`."""

    title: str
    device: str
    target: float
    applies: Callable[[Row], bool]
    figure: Callable[[Row], float | None]
    unit: str = "x"
    smaller: bool = False
    limit: str = ""  # what a profile says stands in the way; docs/operators.md has the figures

    def text(self, value: float) -> str:
        if self.unit == "%":
            return f"{100 * value:.0f} %"
        return f"{value:.2f}x" if self.unit == "x" else f"{value:,.4g} {self.unit}"

    def judged(self, rows: Iterable[Row]) -> str:
        """ "met", "missed" or "not measured", with the worst and the best figure."""
        found = sorted(value for row in rows if self.applies(row) and (value := self.figure(row)) is not None)
        if not found:
            return NOT_MEASURED
        reached = [value <= self.target if self.smaller else value >= self.target for value in found]
        spread = " to ".join(dict.fromkeys(self.text(value) for value in (found[0], found[-1])))
        if all(reached):
            return f"met: {spread}"
        why = f"; limited by {self.limit}" if self.limit else ""
        return f"**missed** in {reached.count(False)} of {len(found)}: {spread}{why}"


def rows_of(op: str, *orders: str, **metadata: object) -> Callable[[Row], bool]:
    """Selects rows by a pattern of the operator's name, orders and other columns."""
    return lambda row: bool(
        re.fullmatch(op, row["op"]) and row["order"] in orders and all(row[name] == value for name, value in metadata.items())
    )


def over(rival: str) -> Callable[[Row], float | None]:
    """The speed-up over a rival; over `copy`, the share of the copy's bandwidth."""
    return lambda row: row["speed_up"].get(rival)


def inverse(rival: str) -> Callable[[Row], float | None]:
    """The time over a rival's."""
    return lambda row: 1 / row["speed_up"][rival] if row["speed_up"].get(rival) else None


def memory(row: Row) -> float | None:
    """Peak memory as a share of the eager reference's."""
    peaks = row["peak_bytes"]
    return peaks["op"] / peaks["eager"] if peaks.get("eager") else None


def bandwidth(name: str, op: str, order: str, target: float) -> Bar:
    chosen = rows_of(op, order, dtype="bfloat16", layout="nhwc")
    words = {"fwd": "forward", "bwd": "backward"}[order]
    title = f"`{name}` {words}, maps of 128 MiB and more: share of copy bandwidth"
    return Bar(title, "cuda", target, lambda row: chosen(row) and row["map_bytes"] >= LARGE, over("copy"), unit="%")


def layer(title: str, rival: str, target: float, where: Callable[[Row], bool], order: str = "fwd+bwd") -> Bar:
    chosen = rows_of("modulated_conv2d", order, n=16, dtype="bfloat16", layout="nhwc")
    title = f"synthesis layer fwd+bwd, N = 16, {title}"
    return Bar(title, "cuda", target, lambda row: chosen(row) and where(row), over(rival))


def whole(title: str, target: float, figure: Callable[[Row], float | None], **rest: Any) -> Bar:
    chosen = rows_of("stylegan2_step", "step", size=256, n=32, dtype="bfloat16")
    return Bar(f"{title} (256 px, N = 32)", "cuda", target, chosen, figure, **rest)


def column(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(name)


def first_step(caches: str, variant: str, target: float) -> Bar:
    chosen = rows_of("method_[ab]_first_step", "step", variant=variant)
    return Bar(f"a training's first step, {caches} caches", "cuda", target, chosen, column("seconds"), unit="s", smaller=True)


def graphed(title: str, size: int | None, target: float, figure: Callable[[Row], float | None], method: str = "[ab]", **rest: Any) -> Bar:
    """Of whole training steps replayed from CUDA graphs, N = 32, over a cycle of 16; `size` None: at all sizes."""
    chosen = rows_of(f"method_{method}_training", "step", variant="graphed", n=32)
    where = f"{size} px" if size else "all sizes"
    return Bar(f"{title} ({where}, N = 32)", "cuda", target, lambda row: chosen(row) and size in (None, row["size"]), figure, **rest)


def call(device: str) -> Bar:
    """Of small calls, bound by the host (test_overhead.py)."""
    chosen = rows_of("call_.*", "fwd", network="overhead")
    return Bar("a small public call, time over the reference's", device, 1.2, chosen, inverse("eager"), smaller=True)


def on_cpu(title: str, rival: str, target: float, applies: Callable[[Row], bool], limit: str = "") -> Bar:
    return Bar(f"{title}, against {rival}", "cpu", target, applies, over(rival), limit=limit)


def regional(device: str) -> Bar:
    """Of faces with another's styles in a part of them (test_regions.py)."""
    return Bar("a regional mix, time over a plain face's", device, 1.5, rows_of("regional_mix", "fwd"), inverse("plain"), smaller=True)


BARS = (
    bandwidth("bias_act", "bias_act", "fwd", 0.85),
    bandwidth("bias_act", "bias_act", "bwd", 0.80),
    bandwidth("adain", "adain|adain_affine", "fwd", 0.85),
    bandwidth("adain", "adain|adain_affine", "bwd", 0.80),
    bandwidth("upfirdn2d", "upsample2d|downsample2d|filter2d", "fwd", 0.75),
    *(
        layer(f"C = {c}, against eager", "eager", target, lambda row, c=c: row["c"] == c)  # type: ignore[misc]
        for c, target in ((64, 2.2), (128, 1.6), (256, 1.3), (512, 1.1))
    ),
    layer("C <= 128, against compiled", "compiled", 1.2, lambda row: row["c"] <= 128),
    layer("C > 128, against compiled", "compiled", 1.0, lambda row: row["c"] > 128),
    layer("4 to 16 px from a CUDA graph, against eager", "eager", 1.1, lambda row: row["size"] <= 16, "graph"),
    layer("C = 64-128, 128-256 px, against NVIDIA's", "peer", 1.25, lambda row: 64 <= row["c"] <= 128 and 128 <= row["size"] <= 256),
    Bar(
        "peak memory of the synthesis layer fwd+bwd, share of eager's",
        "cuda", 0.6, rows_of("modulated_conv2d", "fwd+bwd", dtype="bfloat16", layout="nhwc"), memory, unit="%", smaller=True,
    ),
    whole("StyleGAN2's training step, against eager", 1.4, over("eager")),
    whole("StyleGAN2's training step, against NVIDIA's", 1.2, over("peer")),
    whole("peak memory of StyleGAN2's training step, share of eager's", 0.7, memory, unit="%", smaller=True),
    first_step("empty", "cold", 15.0),
    first_step("filled", "filled", 4.0),
    graphed("a training's step from CUDA graphs: device idle", None, 0.1, column("idle"), unit="%", smaller=True),
    graphed("a training's step from CUDA graphs, against launched one by one", 64, 5.0, over("ungraphed")),
    graphed("a training's step from CUDA graphs, against launched one by one", 256, 1.5, over("ungraphed")),
    graphed("StyleGAN2's training, R1 and path length included", 256, 3.0, column("seconds_per_kimg"), "b", unit="s/kimg", smaller=True),
    graphed("StyleGAN2's training, R1 and path length included, against NVIDIA's", 256, 2.0, over("peer"), "b"),
    call("cuda"),
    regional("cuda"),
    regional("cpu"),
    call("cpu"),
    on_cpu("`bias_act` fwd+bwd", "eager", 2.0, rows_of("bias_act", "fwd+bwd"), "memory"),
    on_cpu(
        "`upfirdn2d` up 2 and down 2", "eager", 3.0, rows_of("upsample2d|downsample2d", "fwd", "fwd+bwd"),
        "memory: eager is oneDNN's depthwise convolution",
    ),
    on_cpu("`adain`", "eager", 2.0, rows_of("adain", "fwd", "fwd+bwd")),
    on_cpu("StyleGAN2 generator forward at 128 px", "eager", 1.4, rows_of("generator", "fwd", dtype="float32")),
    on_cpu("StyleGAN2 generator forward at 128 px", "compiled", 1.1, rows_of("generator", "fwd", dtype="float32")),
    on_cpu("Method A's whole training step", "eager", 1.3, rows_of("method_a_step", "step"), "its convolutions, the same on both sides"),
    on_cpu("StyleGAN2's training step at 64 px", "eager", 1.15, rows_of("stylegan2_step", "step", size=64)),
    Bar("a small public call, forward: time over the reference's", "cpu", 1.2, rows_of("overhead", "fwd"), inverse("eager"), smaller=True),
    Bar(
        "operators that a StyleGAN2-256 step calls on the main thread", "cpu", 2000, rows_of("operators", "step", size=256),
        column("operators"), unit="operators", smaller=True,
    ),
    *(on_cpu(race.title, "unpatched", race.bar, rows_of("compat", race.kind, network=name)) for name, race in RACES.items()),
)  # fmt: skip
