"""Side and corner aligned loss: overlap of the sides, distance of the corners."""

from __future__ import annotations

from torch import Tensor

from utils.losses.box.base import register_formula
from utils.losses.box.geometry import box_sides


@register_formula(
    "sca",
    formula="2 - (w / cw + h / ch) + (d_tl + d_br) / c",
    range=(0.0, 6.0),
    paper="Zheng et al., SCALoss, AAAI 2022, arXiv:2104.00462",
    additive=False,
)
def sca_similarity(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """SCA = w / cw + h / ch - 1 - (d_tl + d_br) / c, (N,) in (-5, 1], of (N, 4) ``xyxy`` boxes.

    w and h are the signed sides of the overlap (negative where the boxes are apart, so those still attract), cw and
    ch the sides of the smallest enclosing box and c its diagonal, d the distances of the top-left and of the
    bottom-right corners: Zheng et al., "SCALoss: Side and Corner Aligned Loss for Bounding Box Regression", AAAI 2022,
    arXiv:2104.00462, side overlap minus corner distance with alpha = 1; 1 - SCA = (2 - SO) + CD.
    """
    sides = box_sides(pred, target)
    overlap_x = sides.overlap_w / sides.enclosing_w.clamp(min=eps)
    overlap_y = sides.overlap_h / sides.enclosing_h.clamp(min=eps)
    squares = (pred - target + eps).square()
    # sqrt has no derivative at 0; the floor is far below the value that eps leaves for equal corners
    top_left = (squares[:, 0] + squares[:, 1]).clamp(min=1e-30).sqrt()
    bottom_right = (squares[:, 2] + squares[:, 3]).clamp(min=1e-30).sqrt()
    diagonal = ((sides.enclosing_w + eps).square() + (sides.enclosing_h + eps).square()).sqrt() + eps
    return overlap_x + overlap_y - 1 - (top_left + bottom_right) / diagonal
