"""Image sizes that a network can take."""

from __future__ import annotations

import logging
import math

DEFAULT_IMAGE_SIZE = 640  # where a checkpoint does not say what it was trained at

log = logging.getLogger(__name__)


def fitting_image_size(size: int, stride: int) -> int:
    """The next multiple of the largest stride, and at least two of them; a change is reported.

    Args:
        size: side asked for, in pixels.
        stride: largest stride of the network, in pixels.
    """
    fitting = max(math.ceil(size / stride), 2) * stride
    if fitting != size:
        log.warning(
            "image size %d is no multiple of the stride %d, or below two of them: using %d", size, stride, fitting
        )
    return fitting
