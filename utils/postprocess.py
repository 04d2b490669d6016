"""Decoded predictions to detections: thresholds, non-maximum suppression, scaling to the original image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor

from utils.boxes import clip_boxes, xywh_to_xyxy
from utils.structures import Detections, ImageGeometry, Predictions

MAX_CANDIDATES = 30_000  # rows of one image (or of a class of it), best first, that enter the suppression
FIRST_TRY = 1_000  # rows to suppress before looking at more


@torch.no_grad()
def non_max_suppression(
    predictions: Tensor,
    *,
    conf_thres: float | Sequence[float] = 0.25,
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
        conf_thres: objectness and score must both be above it; or C thresholds, one for each class.
        iou_thres: of two boxes that overlap more than this the lower score goes.
        classes: keep only these class indices, chosen after each box has its class; None keeps all.
        agnostic: suppress across classes.
        multi_label: one row for every class above ``conf_thres`` instead of the best of these classes only.
        max_det: detections kept per image, best first.

    Returns:
        B :class:`Detections` in pixels of the network input, float32 or wider, best first.

    Raises:
        ValueError: ``predictions`` is not of the shape above, thresholds are not C, or ``classes`` is empty.
    """
    checked = _checked(predictions)
    if classes is not None and not len(classes):
        raise ValueError("expected classes to hold at least one class index, or to be None, but got none")
    thresholds = _thresholds(conf_thres, checked)
    found = []
    for number in range(len(checked)):
        image = checked[number]
        likely = image[image.objectness > thresholds.min()]
        boxes, scores, labels = _candidates(likely, thresholds, classes, multi_label)
        keep = _survivors(boxes, scores, torch.zeros_like(labels) if agnostic else labels, iou_thres, max_det)
        found.append(Detections(boxes[keep], scores[keep], labels[keep]))
    return found


@torch.no_grad()
def best_per_class(
    predictions: Tensor,
    *,
    conf_thres: float | Sequence[float] | Tensor = 0.0,
    iou_thres: float = 0.6,
    max_det: int = 100,
) -> list[Detections]:
    """Detections for evaluation: the best of each class in each image, whatever the scale of the scores.

    Each class is suppressed on its own and keeps its ``max_det`` best survivors. Neither a threshold nor a cap that
    classes share decides, so a network whose scores are all tiny, or all near one, is judged by their order alone.

    Args:
        predictions: (B, N, 5 + C) decoded, see :func:`non_max_suppression`.
        conf_thres: scores must be above it; one number, or C.
        iou_thres: of two boxes of a class that overlap more than this the lower score goes.
        max_det: detections kept per image and class.

    Returns:
        B :class:`Detections` in pixels of the network input, float32 or wider, best first; at equal scores in the order
        of classes, then of anchors.

    Raises:
        ValueError: ``predictions`` is not of the shape above, or thresholds are not C.
    """
    checked = _checked(predictions)
    thresholds = _thresholds(conf_thres, checked)[:, None]
    found = []
    for number in range(len(checked)):
        image = checked[number]
        boxes = xywh_to_xyxy(image.boxes)
        usable = boxes.isfinite().all(dim=1)
        scores = (image.classes * image.objectness[:, None]).T
        scores = scores.where((scores > thresholds) & usable, -1.0)  # NaN is never above
        found.append(_best_of_image(boxes, scores.contiguous(), iou_thres, max_det))
    return found


def _best_of_image(boxes: Tensor, class_scores: Tensor, iou_thres: float, max_det: int) -> Detections:
    """The best ``max_det`` survivors of each class.

    Whether a row survives depends on the surviving rows above it alone. So the best rows of a class are tried first; if
    too few survive, the suppressed ones are struck out and more are tried: the same rows as from all at once.

    Args:
        boxes: (N, 4) ``xyxy``.
        class_scores: (C, N); negative where a box is no candidate. Changed in place.
    """
    num_classes, limit = len(class_scores), min(len(boxes), MAX_CANDIDATES)
    nothing = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    parts = [(nothing, nothing)]
    unfinished = torch.arange(num_classes, device=boxes.device) if limit else nothing
    count = min(3 * max_det, limit)
    while len(unfinished):
        anchor, row, exhausted = _top_candidates(class_scores[unfinished], count)
        label = unfinished[row]
        keep = _suppress(boxes[anchor], class_scores[label, anchor], label, iou_thres)
        survives = torch.zeros_like(label, dtype=torch.bool).index_fill_(0, keep, True)
        class_scores[label[~survives], anchor[~survives]] = -1.0
        anchor, label = anchor[keep], label[keep]
        rank, survivors = _rank_in_class(label, num_classes)
        finished = exhausted | (survivors[unfinished] >= max_det)
        chosen = torch.isin(label, unfinished[finished]) & (rank < max_det)
        parts.append((anchor[chosen], label[chosen]))
        unfinished = unfinished[~finished]
        count = min(count + count // 2, limit)
    anchor, label = (torch.cat(column) for column in zip(*parts, strict=True))
    scores = class_scores[label, anchor]
    order = label.sort(stable=True).indices
    order = order[scores[order].sort(descending=True, stable=True).indices]
    return Detections(boxes[anchor[order]], scores[order], label[order])


def _top_candidates(class_scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` best of each class, class by class, best first; equal scores keep the order of the anchors.

    Args:
        class_scores: (c, N); negative for no candidate.
        count: from 1 to N.

    Returns:
        anchors (k,), rows of ``class_scores`` (k,), and whether these are all candidates of each row, (c,) bool.
    """
    lowest = class_scores.topk(count, dim=1).values[:, -1:].clamp(min=0)
    row, anchor = (class_scores >= lowest).nonzero(as_tuple=True)
    order = class_scores[row, anchor].sort(descending=True, stable=True).indices
    order = order[row[order].sort(stable=True).indices]
    row, anchor = row[order], anchor[order]
    rank, found = _rank_in_class(row, len(class_scores))
    first = rank < count  # all but where scores tie
    return anchor[first], row[first], (class_scores >= 0).sum(dim=1) <= found.clamp(max=count)


def _rank_in_class(label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Position (k,) of each row within its class, and rows of each class (C,); rows of a class are neighbours."""
    counts = torch.bincount(label, minlength=num_classes)
    return torch.arange(len(label), device=label.device) - (counts.cumsum(0) - counts)[label], counts


def _checked(predictions: Tensor) -> Predictions:
    """Predictions of the right shape in float32 or wider, on a device that has float64, with their columns named."""
    if predictions.ndim != 3 or predictions.shape[2] < 6:
        raise ValueError(f"expected predictions of shape (B, N, 5 + C) but got {tuple(predictions.shape)}")
    predictions = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
    predictions = predictions.cpu() if predictions.device.type == "mps" else predictions
    return Predictions.of(predictions)


def _thresholds(conf_thres: float | Sequence[float] | Tensor, predictions: Predictions) -> Tensor:
    """(C,) in the type and on the device of the predictions."""
    num_classes, values = predictions.num_classes, predictions.values
    given = torch.as_tensor(conf_thres, dtype=values.dtype, device=values.device)
    if given.ndim and given.shape != (num_classes,):
        raise ValueError(f"expected one threshold, or {num_classes} for the classes, but got {tuple(given.shape)}")
    return given.expand(num_classes)


def _candidates(
    rows: Predictions, thresholds: Tensor, classes: Sequence[int] | None, multi_label: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (n, 4) ``xyxy``, scores (n,) and classes (n,) above the thresholds, best score first."""
    class_scores = rows.classes * rows.objectness[:, None]
    passes = class_scores > thresholds
    if multi_label:
        row, labels = passes.nonzero(as_tuple=True)
        scores = class_scores[row, labels]
    else:
        scores, labels = class_scores.where(passes, -1.0).max(dim=1)
        row = (scores >= 0).nonzero(as_tuple=True)[0]
        scores, labels = scores[row], labels[row]
    if classes is not None:
        wanted = _is_wanted(labels, classes)
        row, scores, labels = row[wanted], scores[wanted], labels[wanted]
    boxes = xywh_to_xyxy(rows.boxes[row])
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
    """The highest score in the predictions, whatever the thresholds; 0 without predictions.

    Args:
        predictions, classes, multi_label: as in :func:`non_max_suppression`.
    """
    named = Predictions.of(predictions)
    scores = named.objectness[..., None] * named.classes
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
