"""Data sets of painted objects, whose labels can be checked against the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.painted_objects import write_data_set
from utils.config.hyperparameters import Hyperparameters
from utils.datasets import DetectionDataset, read_data_yaml
from utils.structures import Sample


def painted_set(folder: Path, **settings: float) -> DetectionDataset:
    still = {"hsv_h": 0, "hsv_s": 0, "hsv_v": 0}
    hyp = Hyperparameters(**{**still, **settings})
    return DetectionDataset(read_data_yaml(write_data_set(folder)), "train", image_size=128, hyp=hyp, augment=True)


def assert_labels_follow_pixels(sample: Sample) -> None:
    """Inside of each box its class's colour; outside of all boxes hardly any colour (what is left of cut objects)."""
    height, width = sample.image.shape[:2]
    bright = (sample.image > 127) & (np.sort(sample.image, axis=2)[..., 1:2] < 64)  # one channel alone
    uncovered = bright.copy()
    for cls, x, y, w, h in sample.labels:
        x1, x2 = round((x - w / 2) * width), round((x + w / 2) * width)
        y1, y2 = round((y - h / 2) * height), round((y + h / 2) * height)
        inner = bright[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1, int(cls)]
        assert inner.size == 0 or inner.mean() > 0.9
        uncovered[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1, int(cls)] = False
    assert uncovered.any(axis=2).mean() < 0.01
