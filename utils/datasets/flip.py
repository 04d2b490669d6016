"""Mirror images."""

from __future__ import annotations

import cv2
import numpy as np

from utils.config.hyperparameters import Hyperparameters
from utils.datasets.objects import Objects


def random_flip(
    image: np.ndarray, objects: Objects, hyp: Hyperparameters, rng: np.random.Generator
) -> tuple[np.ndarray, Objects]:
    """Turn an image and its objects upside down with probability ``flipud``, left to right with ``fliplr``."""
    upside_down, left_right = rng.random(2) < (hyp.flipud, hyp.fliplr)
    if upside_down:
        image, objects = cv2.flip(image, 0), objects.mirror(1, image.shape[0])
    if left_right:
        image, objects = cv2.flip(image, 1), objects.mirror(0, image.shape[1])
    return image, objects
