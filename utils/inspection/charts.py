"""Charts of the page as inline SVG: no script, nothing to fetch."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np

from utils.inspection.limits import SMALLEST_SIDE
from utils.inspection.objects import ObjectTable

COLOURS = {"train": "#3366b0", "val": "#d9822b", "test": "#4a9a5b"}
HEAT_CELLS = (8, 48)  # a side, for few and for many objects
OBJECTS_PER_CELL = 4
MOST_POINTS = 2000
MOST_CLASSES = 100
TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000)


def class_bars(names: Sequence[str], histograms: Mapping[str, np.ndarray]) -> str:
    """A bar for each class and split; its length is the share of the most frequent class of that split."""
    rows = []
    for index, name in enumerate(names[:MOST_CLASSES]):
        bars = []
        for split, counts in histograms.items():
            share = 100 * counts[index] / max(int(counts.max()), 1)
            colour = COLOURS.get(split, "#777")
            bars.append(
                f'<div class="bar"><i style="width:{max(share, 0.2 * (share > 0)):.4g}%;background:{colour}"></i>'
                f"<span>{int(counts[index]):,}</span></div>"
            )
        rows.append(f'<div class="class"><b>{escape(name)}</b><div>{"".join(bars)}</div></div>')
    left = len(names) - MOST_CLASSES
    more = f"<p>... and {left:,} more classes</p>" if left > 0 else ""
    return f"{legend(histograms)}{''.join(rows)}{more}"


def legend(splits: Mapping[str, object]) -> str:
    """Which colour is which split."""
    keys = "".join(
        f'<span><i style="background:{COLOURS.get(split, "#777")}"></i>{escape(split)}</span>' for split in splits
    )
    return f'<p class="legend">{keys}</p>'


def heat_map(table: ObjectTable) -> str:
    """Where in their images the centres of the objects lie, as a picture: bright is many."""
    cells = int(np.clip((len(table.classes) / OBJECTS_PER_CELL) ** 0.5, *HEAT_CELLS))
    size = np.maximum(table.image_hw[:, ::-1], 1)
    centres = ((table.boxes[:, :2] + table.boxes[:, 2:]) / 2 / size).clip(0, 1 - 1e-9)
    column, row = (centres * cells).astype(int).T
    counts = np.zeros((cells, cells))
    np.add.at(counts, (row, column), 1)
    grey = (255 * np.sqrt(counts / max(counts.max(), 1))).astype(np.uint8)
    encoded = cv2.imencode(".png", cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS))[1].tobytes()
    return f'<img class="heat" alt="heat map of object centres" src="data:image/png;base64,{_base64(encoded)}">'


def size_chart(
    tables: Mapping[str, ObjectTable], image_size: int, anchors_px: Sequence[tuple[float, float]] = ()
) -> str:
    """Width and height of the objects at the network's input, both logarithmic, with the anchors as squares."""
    side, margin = 400, 40
    largest = max(image_size, 10)

    def place(pixels: np.ndarray | float) -> np.ndarray:
        share = np.log(np.clip(pixels, 1, largest)) / math.log(largest)
        return margin + share * (side - margin - 10)

    parts = [f'<svg class="sizes" viewBox="0 0 {side} {side}" role="img" aria-label="sizes of the objects">']
    edge, low = side - 10, margin
    small = float(place(SMALLEST_SIDE))
    parts.append(
        f'<path d="M{low} {side - low}H{edge}V{side - small:.1f}H{small:.1f}V10H{low}Z" fill="#f6dcd8"/>'
        f'<path d="M{low} 10V{side - low}H{edge}" fill="none" stroke="#888"/>'
        f'<path d="M{low} {side - low}L{edge} 10" stroke="#ccc" stroke-dasharray="4 4"/>'
    )
    for tick in (tick for tick in TICKS if tick <= largest):
        at = float(place(tick))
        parts.append(
            f'<text x="{at:.0f}" y="{side - low + 16}" text-anchor="middle">{tick}</text>'
            f'<text x="{low - 6}" y="{side - at + 4:.0f}" text-anchor="end">{tick}</text>'
        )
    parts.append(
        f'<text x="{(low + edge) / 2:.0f}" y="{side - 6}" text-anchor="middle">width, pixels</text>'
        f'<text x="12" y="{side / 2:.0f}" text-anchor="middle" transform="rotate(-90 12 {side / 2:.0f})">'
        "height, pixels</text>"
    )
    for split, table in tables.items():
        sizes = table.network_sizes(image_size)
        sizes = sizes[:: math.ceil(len(sizes) / MOST_POINTS)] if len(sizes) else sizes
        dots = "".join(f"M{x:.0f} {side - y:.0f}h2v2h-2" for x, y in place(sizes))
        parts.append(f'<path d="{dots}" fill="{COLOURS.get(split, "#777")}" fill-opacity=".6"/>')
    for width, height in anchors_px:
        x, y = float(place(width)), side - float(place(height))
        parts.append(f'<rect x="{x - 4:.0f}" y="{y - 4:.0f}" width="9" height="9" fill="none" stroke="#111"/>')
    return "".join([*parts, "</svg>"])


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
