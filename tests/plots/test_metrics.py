"""Curves, confusion matrix and reliability diagram: that they show what they are given."""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from utils.metrics import DetectionEvaluator
from utils.plots.boxes import class_colour
from utils.plots.metrics import plot_metrics
from utils.structures import Detections

FILES = {
    *(f"{name}_curve.png" for name in ("PR", "P", "R", "F1")),
    *("confusion_matrix.png", "reliability_diagram.png"),
}


def evaluator_of(num_classes: int, scale: float = 1.0, num_images: int = 40) -> DetectionEvaluator:
    """Right and wrong boxes of all classes, the right ones of higher scores on the whole; scores below ``scale``."""
    rng = np.random.default_rng(0)
    evaluator = DetectionEvaluator(num_classes)
    for _ in range(num_images):
        corners = np.arange(num_classes * 2, dtype=float)[:, None] * 20 + np.array([0, 0, 10, 10])
        classes = np.arange(num_classes * 2) // 2
        right = rng.random(len(corners)) < 0.6
        scores = scale * (0.1 + 0.5 * rng.random(len(corners)) + 0.3 * right)
        found = corners + np.where(right, 0, 1000)[:, None]
        columns = (torch.from_numpy(column) for column in (found, scores, classes))
        evaluator.update(Detections(*columns), corners, classes)
    return evaluator


def draw(evaluator: DetectionEvaluator, folder: Path) -> dict[str, np.ndarray]:
    plot_metrics(evaluator, evaluator.compute(), folder)
    return {file.name: cv2.imread(str(file)) for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("num_classes", "num_images"), [(1, 5), (3, 40), (40, 2), (2, 0)], ids=["one", "three", "many", "no objects"]
)
def test_every_picture_is_drawn(tmp_path: Path, num_classes: int, num_images: int) -> None:
    pictures = draw(evaluator_of(num_classes, num_images=num_images), tmp_path)
    assert set(pictures) == FILES
    named = range(num_classes) if num_images and num_classes <= 20 else ()
    for name in ("PR", "P", "R", "F1"):
        picture = pictures[f"{name}_curve.png"].astype(int)
        curves = [index for index in range(3) if (np.abs(picture - class_colour(index)) < 10).all(axis=2).sum() > 50]
        assert curves == list(named), f"{name}: a curve in the colour of each class that has objects, if they are few"


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_curves_are_readable_whatever_the_scale_of_the_scores(tmp_path: Path, scale: float) -> None:
    """The line of a class goes across the picture; scores below 1e-6 would be one stroke at its left border."""
    picture = draw(evaluator_of(1, scale), tmp_path)["F1_curve.png"]
    upper_half = picture[: picture.shape[0] // 2]
    line = (np.abs(upper_half.astype(int) - class_colour(0)) < 10).all(axis=2)
    assert line.any(axis=0).sum() > 150


def test_the_confusion_matrix_is_dark_where_the_objects_were_found(tmp_path: Path) -> None:
    """Two classes, always told apart: the upper left and the middle cell are dark, the one between them is white."""
    evaluator = DetectionEvaluator(2)
    boxes = torch.tensor([[0.0, 0, 10, 10], [30, 30, 40, 40]])
    evaluator.update(Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1])), boxes, torch.tensor([0, 1]))
    picture = draw(evaluator, tmp_path)["confusion_matrix.png"]
    dark = (picture < (120, 70, 30)).all(axis=2) & (picture[..., 0] > 80)  # the end of matplotlib's Blues, BGR
    rows, columns = np.nonzero(dark[:, : picture.shape[1] * 3 // 4])
    cell = (rows.max() - rows.min() + 1) / 2
    assert (columns.max() - columns.min() + 1) / 2 == pytest.approx(cell, abs=2)
    assert not dark[int(rows.min() + 0.5 * cell), int(columns.min() + 1.5 * cell)]


def test_nothing_global_in_matplotlib_is_touched(tmp_path: Path) -> None:
    backend, open_figures, style = matplotlib.get_backend(), plt.get_fignums(), dict(matplotlib.rcParams)
    draw(evaluator_of(2, 1e-6, num_images=3), tmp_path)
    assert (matplotlib.get_backend(), plt.get_fignums(), dict(matplotlib.rcParams)) == (backend, open_figures, style)
