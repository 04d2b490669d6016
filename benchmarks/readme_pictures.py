"""Draw the two pictures of the README: detections of a checkpoint, and the losses measured on BCCD.

python -m benchmarks.readme_pictures                                  # the comparison, from docs/results
python -m benchmarks.readme_pictures --weights runs/train/exp/weights/best.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import detect
from utils.files import ROOT

IMAGES = ROOT / "docs" / "images"
ROWS = [ROOT / "docs" / "results" / name for name in ("bccd-ranking.csv", "bccd-correlation.csv")]
PRESETS = {  # of the rows, to the name in the picture
    "bce-tuned": "BCE, tuned",
    "alrp": "aLRP",
    "ap": "AP",
    "corr-concordance": "BCE + concordance",
    "rs-lr0.04-delta1": "Rank & Sort",
    "pap-published": "Parameterized AP",
}
METRICS = {"map": "mAP50-95", "map75": "AP75", "olrp": "oLRP, lower is better"}
COLOURS = [pyplot.get_cmap("tab10")(number) for number in range(10)]


def draw_detections(weights: str, source: str, path: Path) -> None:
    """The images of a source side by side, with boxes, classes and confidences."""
    detector = detect.load(weights, conf="auto")
    results = list(detector(source))
    widths = [result.original_hw[1] / result.original_hw[0] for result in results]
    figure, panels = pyplot.subplots(1, len(results), figsize=(3 * sum(widths), 3), width_ratios=widths, squeeze=False)
    for panel, result in zip(panels[0], results, strict=True):
        panel.imshow(result.image[..., ::-1], interpolation="bicubic")
        panel.axis("off")
        found = result.detections
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
            draw_box(panel, box, f"{result.names[label]} {score:.2f}", COLOURS[label % len(COLOURS)])
    figure.subplots_adjust(0, 0, 1, 1, wspace=0.02)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def draw_box(panel: Axes, box: list[float], text: str, colour: tuple[float, ...]) -> None:
    """One box (``xyxy`` pixels) with its text above."""
    left, top, right, bottom = box
    panel.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2))
    style = {"facecolor": colour, "edgecolor": "none", "pad": 1.5}
    panel.text(left, max(top, 8), text, color="white", fontsize=8, verticalalignment="bottom", bbox=style)


def draw_comparison(path: Path) -> None:
    """A dot for each seed and a line at the mean, for each loss and metric."""
    rows = pd.concat([pd.read_csv(file) for file in ROWS]).drop_duplicates(["preset", "seed"])
    figure, panels = pyplot.subplots(1, len(METRICS), figsize=(9, 2.5), sharey=True, layout="constrained")
    for panel, (metric, title) in zip(panels, METRICS.items(), strict=True):
        for place, (preset, colour) in enumerate(zip(PRESETS, COLOURS, strict=False)):
            values = rows.loc[rows["preset"] == preset, metric]
            panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.6)
            panel.plot([values.mean()] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2.5)
        panel.axvline(rows.loc[rows["preset"] == "bce-tuned", metric].mean(), color="grey", linewidth=0.8, zorder=0)
        panel.set_title(title, fontsize=10)
        panel.set_yticks(range(len(PRESETS)), list(PRESETS.values()))
        panel.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> None:
    """Write docs/images/readme_comparison.png, and readme_detections.jpg where a checkpoint is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="checkpoint of the detections")
    parser.add_argument("--source", default=str(ROOT / "data" / "images"), help="images of the detections")
    options = parser.parse_args()
    matplotlib.use("Agg")
    draw_comparison(IMAGES / "readme_comparison.png")
    if options.weights:
        draw_detections(options.weights, options.source, IMAGES / "readme_detections.jpg")


if __name__ == "__main__":
    main()
