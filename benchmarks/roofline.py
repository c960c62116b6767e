"""The roofline plot (Williams et al. 2009): operations a second over operations per byte, under what copy and matmul reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks.record import Row

PANEL, LEFT, TOP, RIGHT, BOTTOM = (900, 640), 90, 60, 240, 70
COLOURS = {
    "bias_act": "#1b6ca8", "upsample2d": "#e07a1f", "downsample2d": "#a8431b", "filter2d": "#c9a227", "adain": "#2a8f4f",
    "adain_affine": "#7fc97f", "modulated_conv2d": "#8a3ab9", "modulated_conv2d_up": "#d16ba5", "to_rgb": "#555555",
    "conv2d": "#111111",
}  # fmt: skip
FOREGROUND, GRID = "#222222", "#dddddd"


@dataclass(frozen=True)
class Axes:
    """Logarithmic axes of one panel: decades of FLOP per byte and of FLOP per second."""

    x: tuple[int, int]
    y: tuple[int, int]
    top: int

    def at(self, intensity: float, speed: float) -> tuple[float, float]:
        across = (math.log10(intensity) - self.x[0]) / (self.x[1] - self.x[0])
        up = (math.log10(speed) - self.y[0]) / (self.y[1] - self.y[0])
        width, height = PANEL[0] - LEFT - RIGHT, PANEL[1] - TOP - BOTTOM
        return LEFT + across * width, self.top + TOP + (1 - up) * height


def plot(results: Sequence[dict[str, Any]]) -> Image.Image:
    """One panel per machine; a sheet that says so when none is measured."""
    picture = Image.new("RGB", (PANEL[0], PANEL[1] * max(len(results), 1)), "white")
    draw = ImageDraw.Draw(picture)
    if not results:
        draw.text((LEFT, TOP), "not measured", fill=FOREGROUND, font=font(20))
    for index, result in enumerate(results):
        panel(draw, result, index * PANEL[1])
    return picture


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def panel(draw: ImageDraw.ImageDraw, result: dict[str, Any], top: int) -> None:
    metadata, ceilings = result["machine"], result["ceilings"]
    dtype = "bfloat16" if metadata["kind"] == "cuda" else "float32"
    bandwidth, peak = 1e9 * ceilings["copy_gb_s"], 1e12 * ceilings[f"matmul_tflop_s_{dtype}"]
    rows = list(shown(result["rows"], dtype))
    points = [(row["flops"] / row["bytes"], row["flops"] / row["seconds"]) for row in rows]
    ridge = peak / bandwidth  # FLOP per byte from which a copy of the operands is no longer what takes the time
    places, speeds = zip(*points, (ridge, peak), strict=True)
    axes = Axes((decade(min(places)), decade(max(places)) + 1), (decade(min(speeds)), decade(max(speeds)) + 1), top)
    threads = f", {metadata['threads']} threads" if metadata["threads"] else ""
    draw.text((LEFT, top + 20), f"{metadata['device']}{threads}: {dtype}, channels last, fwd+bwd", fill=FOREGROUND, font=font(18))
    frame(draw, axes)
    roof(draw, axes, bandwidth, peak)
    backends = sorted({row["backend"] for row in rows} - {"reference"}, reverse=True)
    for row, point in zip(rows, points, strict=True):
        x, y = axes.at(*point)
        colour, hollow = COLOURS[row["op"]], row["backend"] in backends[1:]
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill="white" if hollow else colour, outline=colour if hollow else "white", width=2)
    words = {name: f"{name}: {'ring' if name in backends[1:] else 'disc'}" for name in backends} if len(backends) > 1 else {}
    legend(draw, [op for op in COLOURS if any(row["op"] == op for row in rows)], list(words.values()), top)


def shown(rows: Sequence[Row], dtype: str) -> Iterator[Row]:
    """What a panel shows."""
    for row in rows:
        chosen = row["order"] == "fwd+bwd" and row["dtype"] == dtype and row["layout"] == "nhwc" and row["op"] in COLOURS
        if chosen and row["flops"] and row["bytes"]:
            yield row


def roof(draw: ImageDraw.ImageDraw, axes: Axes, bandwidth: float, peak: float) -> None:
    start = max(10.0 ** axes.x[0], 10.0 ** axes.y[0] / bandwidth)  # the slope enters from the left or from below
    end, ridge = 10.0 ** axes.x[1], peak / bandwidth
    draw.line([axes.at(start, bandwidth * start), axes.at(ridge, peak), axes.at(end, peak)], fill=FOREGROUND, width=3, joint="curve")
    x, y = axes.at(end, peak)
    draw.text((x - 8, y - 8), f"matmul {peak / 1e12:,.3g} TFLOP/s", fill=FOREGROUND, font=font(14), anchor="rb")
    middle = math.sqrt(start * ridge)
    x, y = axes.at(middle, bandwidth * middle)
    draw.text((x + 12, y + 6), f"copy {bandwidth / 1e9:,.0f} GB/s", fill=FOREGROUND, font=font(14), anchor="lt")


def decade(value: float) -> int:
    return math.floor(math.log10(value))


def frame(draw: ImageDraw.ImageDraw, axes: Axes) -> None:
    low, high = (10.0 ** axes.x[0], 10.0 ** axes.x[1]), (10.0 ** axes.y[0], 10.0 ** axes.y[1])
    for power in range(axes.x[0], axes.x[1] + 1):
        x, y = axes.at(10.0**power, high[0])
        draw.line([(x, y), axes.at(10.0**power, high[1])], fill=GRID)
        draw.text((x, y + 8), f"{10.0**power:,g}" if power < 0 else f"{10**power:,}", fill=FOREGROUND, font=font(14), anchor="ma")
    for power in range(axes.y[0], axes.y[1] + 1):
        x, y = axes.at(low[0], 10.0**power)
        draw.line([(x, y), axes.at(low[1], 10.0**power)], fill=GRID)
        draw.text(
            (x - 8, y), f"{10.0 ** (power - 9):g}" if power < 9 else f"{10 ** (power - 9):,}", fill=FOREGROUND, font=font(14), anchor="rm"
        )
    draw.text(((LEFT + PANEL[0] - RIGHT) / 2, axes.top + PANEL[1] - 28), "FLOP per byte", fill=FOREGROUND, font=font(15), anchor="mm")
    draw.text((10, axes.top + TOP - 18), "GFLOP/s", fill=FOREGROUND, font=font(15), anchor="lm")


def legend(draw: ImageDraw.ImageDraw, ops: Sequence[str], words: Sequence[str], top: int) -> None:
    x, y = PANEL[0] - RIGHT + 20, top + TOP
    for op in ops:
        draw.ellipse((x, y, x + 12, y + 12), fill=COLOURS[op])
        draw.text((x + 20, y + 6), op, fill=FOREGROUND, font=font(15), anchor="lm")
        y += 24
    for word in words:
        draw.text((x, y + 12), word, fill=FOREGROUND, font=font(15), anchor="lm")
        y += 24
