"""Colour jitter."""

from __future__ import annotations

import cv2
import numpy as np

from utils.config.hyperparameters import Hyperparameters


def jitter_to_rgb(image_bgr: np.ndarray, hyp: Hyperparameters, rng: np.random.Generator) -> np.ndarray:
    """Vary hue, saturation and value of a BGR image, by factors up to 1 +/- ``hsv_h``, ``hsv_s``, ``hsv_v``, to RGB.

    Args:
        image_bgr: (H, W, 3) uint8; not changed.
        hyp: the three gains.
        rng: source of the three factors, drawn whether or not the gains are 0.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    gains = np.array([hyp.hsv_h, hyp.hsv_s, hyp.hsv_v])
    factors = rng.uniform(-1, 1, 3) * gains + 1
    if not gains.any():
        return cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
    table = np.arange(256)[:, None] * factors
    table[:, 0] %= 180  # OpenCV's hue is in units of two degrees
    table[:, 1:] = np.clip(table[:, 1:], 0, 255)
    hsv = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2HSV)
    hsv = cv2.LUT(hsv, table.astype(np.uint8)[:, None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
