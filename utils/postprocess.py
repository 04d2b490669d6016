"""From decoded predictions to detections: thresholds, suppression, and the way back to the original image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor

from utils.boxes import clip_boxes, xywh_to_xyxy
from utils.structures import Detections, ImageGeometry

MAX_CANDIDATES = 30_000  # rows of one image, best first, that enter the suppression
FIRST_TRY = 1_000  # rows to suppress before looking at more


@torch.no_grad()
def non_max_suppression(
    predictions: Tensor,
    *,
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    max_det: int = 300,
) -> list[Detections]:
    """Keep the best of overlapping boxes, image by image, class by class.

    The score of a box is objectness times class probability. The result depends on the predictions alone: equal scores
    keep the order of the anchors, an image never influences another, and no time limit cuts the work short.

    Args:
        predictions: (B, N, 5 + C) decoded: x, y, w, h pixels, objectness and class probabilities in [0, 1].
        conf_thres: objectness and score must both be above it.
        iou_thres: of two boxes that overlap more than this the lower score goes.
        classes: keep detections of these class indices alone, after each box got its class; None keeps all.
        agnostic: suppress across classes.
        multi_label: one row for every class above ``conf_thres`` instead of the best class only.
        max_det: detections kept per image, best first.

    Returns:
        B :class:`Detections` in pixels of the network input, float32, best first.

    Raises:
        ValueError: ``predictions`` is not of the shape above, or ``classes`` is empty.
    """
    if predictions.ndim != 3 or predictions.shape[2] < 6:
        raise ValueError(f"expected predictions of shape (B, N, 5 + C) but got {tuple(predictions.shape)}")
    if classes is not None and not len(classes):
        raise ValueError("expected classes to hold at least one class index, or to be None, but got none")
    if predictions.device.type == "mps":  # has no float64
        predictions = predictions.cpu()
    found = []
    for image in predictions:
        boxes, scores, labels = _candidates(image[image[:, 4] > conf_thres].float(), conf_thres, classes, multi_label)
        keep = _survivors(boxes, scores, torch.zeros_like(labels) if agnostic else labels, iou_thres, max_det)
        found.append(Detections(boxes[keep], scores[keep], labels[keep]))
    return found


def _candidates(
    rows: Tensor, conf_thres: float, classes: Sequence[int] | None, multi_label: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (n, 4) ``xyxy``, scores (n,) and classes (n,) above the threshold, best score first."""
    class_scores = rows[:, 5:] * rows[:, 4:5]
    if multi_label:
        row, labels = (class_scores > conf_thres).nonzero(as_tuple=True)
        scores = class_scores[row, labels]
    else:
        scores, labels = class_scores.max(dim=1)
        row = (scores > conf_thres).nonzero(as_tuple=True)[0]
        scores, labels = scores[row], labels[row]
    if classes is not None:
        wanted = _is_wanted(labels, classes)
        row, scores, labels = row[wanted], scores[wanted], labels[wanted]
    boxes = xywh_to_xyxy(rows[row, :4])
    order = scores.sort(descending=True, stable=True).indices
    order = order[boxes[order].isfinite().all(dim=1)][:MAX_CANDIDATES]
    return boxes[order], scores[order], labels[order]


def _is_wanted(labels: Tensor, classes: Sequence[int]) -> Tensor:
    return torch.isin(labels, torch.tensor(list(classes), dtype=labels.dtype, device=labels.device))


def _survivors(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thres: float, max_det: int) -> Tensor:
    """The first ``max_det`` rows that survive, in ascending order.

    Whether a row survives depends on the rows above it alone. So the best rows are tried first, and the rest only where
    too few of those survive: the same rows as from all at once, at a fraction of the time for an untrained network.
    """
    count = max(FIRST_TRY, 4 * max_det)
    while True:
        keep = _suppress(boxes[:count], scores[:count], groups[:count], iou_thres)
        if len(keep) >= max_det or count >= len(boxes):
            return keep[:max_det]
        count *= 4


def _suppress(boxes: Tensor, scores: Tensor, groups: Tensor, iou_thres: float) -> Tensor:
    """Rows that survive, in ascending order; only boxes of one group suppress each other. Rows come best first.

    In float64, because the library may move each group to a place of its own, which costs float32 sub-pixel digits; and
    sorted, because of equal scores it returns any order.
    """
    return torchvision.ops.batched_nms(boxes.double(), scores.double(), groups, iou_thres).sort().values


def best_score(predictions: Tensor, classes: Sequence[int] | None = None, multi_label: bool = False) -> float:
    """The highest score that a detection could have, whatever the thresholds; 0 where there can be none.

    Args:
        predictions, classes, multi_label: as in :func:`non_max_suppression`.
    """
    scores = predictions[..., 4:5] * predictions[..., 5:]
    if multi_label:
        scores = scores if classes is None else scores[..., list(classes)]
    elif classes is not None:
        scores, labels = scores.max(dim=-1)
        scores = scores[_is_wanted(labels, classes)]
    return float(scores.max()) if scores.numel() else 0.0


def scale_boxes(boxes: Tensor, geometry: ImageGeometry) -> Tensor:
    """Map boxes from the network input back to the original image.

    Args:
        boxes: (n, 4) ``xyxy`` pixels of the network input.
        geometry: how the input was made.

    Returns:
        (n, 4) ``xyxy`` pixels of the original image, clipped to it.
    """
    (scale_y, scale_x), (top, left) = geometry.scale, geometry.pad
    pad = boxes.new_tensor([left, top, left, top])
    scale = boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
    return clip_boxes((boxes - pad) / scale, *geometry.original_hw)
