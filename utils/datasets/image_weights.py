"""How often each image is drawn with ``--image-weights``: more often with objects of rare and badly found classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def image_weights(labels: Sequence[np.ndarray], class_ap: Sequence[float]) -> np.ndarray:
    """Weights of images as in YOLOv5: the sum of ``w_c (1 - AP_c)^2 / C`` over an image's objects.

    ``w_c`` is the inverse number of objects of class c, scaled so that all C of them sum to C.

    Args:
        labels: n arrays (objects, 5) of class and box.
        class_ap: C values in [0, 1], the AP of each class at the last validation, 0 before it.

    Returns:
        (n,) float64, not negative; 0 for an image without objects. All 1 where all would be 0.
    """
    counts = [len(rows) for rows in labels]
    classes = np.concatenate([rows[:, 0] for rows in labels]).astype(np.int64)
    num_classes = len(class_ap)
    rarity = 1 / np.maximum(np.bincount(classes, minlength=num_classes), 1)
    rarity *= num_classes / rarity.sum()
    class_weights = rarity * (1 - np.asarray(class_ap, np.float64)) ** 2 / num_classes
    image = np.repeat(np.arange(len(labels)), counts)
    weights = np.bincount(image, weights=class_weights[classes], minlength=len(labels))
    return weights if weights.any() else np.ones(len(labels))
