"""Minimum-point-distance IoU loss: IoU and the corner distances, in units of the image's diagonal."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from utils.errors import UserError
from utils.losses.box.base import BoxContext, SimilarityLoss, register_builder
from utils.losses.box.geometry import iou_of
from utils.parameters import Checked, check_number

RANGE = (0.0, math.inf)


class MinimumPointDistanceIoU(SimilarityLoss):
    """MPDIoU loss. The image size of the call is used; without one, the parameter ``image_size``."""

    def __init__(self, image_size: tuple[float, float]) -> None:
        super().__init__("mpdiou", RANGE, pixels=True, additive=True, settings={"image_size": image_size})
        self.image_size = image_size

    def compute(self, pred: Tensor, target: Tensor, eps: float, context: BoxContext) -> Tensor:
        """1 - IoU + (d_tl^2 + d_br^2) / (W^2 + H^2), (N,)."""
        width, height = self.image_size if context.image_wh is None else context.image_wh
        squared_distances = (pred - target).square().sum(dim=1)  # of the top-left and the bottom-right corners
        return 1 - iou_of(pred, target, eps) + squared_distances / (width**2 + height**2)


def _width_and_height(image_size: Any) -> tuple[float, float]:
    pair = image_size if isinstance(image_size, list | tuple) else (image_size, image_size)
    if len(pair) != 2:
        raise UserError(f"expected a side or [width, height] but got {image_size!r}")
    width, height = (check_number(side, 0, above=True) for side in pair)
    return width, height


@register_builder(
    "mpdiou",
    formula="1 - IoU + (d_tl^2 + d_br^2) / (W^2 + H^2)",
    range=RANGE,
    paper="Ma and Xu, MPDIoU, arXiv:2307.07662",
    parameters={"image_size": Checked((640.0, 640.0), _width_and_height)},
)
def mpdiou(image_size: tuple[float, float]) -> MinimumPointDistanceIoU:
    """MPDIoU loss, range [0, 3) for boxes inside the image: Ma and Xu, arXiv:2307.07662.

    d are the distances of the top-left and of the bottom-right corners, W and H the sides of the input image. Boxes and
    image need the same unit, so boxes are converted to pixels. In training the criterion passes the size of the batch.

    Args:
        image_size: width and height of the image in pixels, or one side in settings; used if the call gives none.
    """
    return MinimumPointDistanceIoU(image_size)
