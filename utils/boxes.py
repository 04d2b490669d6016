"""Box conversions, overlaps, anchors and decoding.

Formats are those of ``utils/structures.py``: ``xyxy`` corners, ``xywh`` centre and size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from utils.structures import AnchorTable, Predictions, RawPredictions


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size (..., 4) to corners (..., 4), any unit."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Corners (..., 4) to centre and size (..., 4), any unit."""
    low, high = boxes[..., :2], boxes[..., 2:4]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Area (...,) of ``xyxy`` boxes (..., 4); negative if a side is."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def elementwise_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """Intersection over union of box i with box i, differentiable.

    Args:
        boxes1, boxes2: (N, 4) ``xyxy``, one unit for both.
        eps: added to the union, in squared box units, so that two empty boxes give 0 and not NaN.

    Returns:
        (N,) in [0, 1].
    """
    low = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    high = torch.minimum(boxes1[..., 2:4], boxes2[..., 2:4])
    sides = (high - low).clamp(min=0)
    intersection = sides[..., 0] * sides[..., 1]
    return intersection / (box_area(boxes1) + box_area(boxes2) - intersection + eps)


def clip_boxes(boxes: Tensor, height: float, width: float) -> Tensor:
    """``xyxy`` boxes (..., 4) clipped to an image of the given size, in pixels."""
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def build_anchor_table(anchors_px: Tensor, strides: Sequence[float], grids: Sequence[tuple[int, int]]) -> AnchorTable:
    """Build the table of all anchors: level by level, then anchor, row, column.

    Args:
        anchors_px: (L, A, 2) widths and heights in pixels; sets device and floating-point type.
        strides: L values, pixels per cell.
        grids: L pairs (rows, columns).
    """
    device, per_level = anchors_px.device, anchors_px.shape[1]
    columns: dict[str, list[Tensor]] = {"level": [], "shape": [], "cell": []}
    for level, (rows, cols) in enumerate(grids):
        axes = [torch.arange(length, device=device) for length in (per_level, rows, cols)]
        shape, row, col = (axis.reshape(-1) for axis in torch.meshgrid(*axes, indexing="ij"))
        columns["level"].append(torch.full_like(shape, level))
        columns["shape"].append(shape)
        columns["cell"].append(torch.stack((col, row), dim=1).to(anchors_px.dtype))
    tables = {name: torch.cat(parts) for name, parts in columns.items()}
    level_stride = anchors_px.new_tensor(strides)
    counts = [0, *(per_level * rows * cols for rows, cols in grids[:-1])]
    return AnchorTable(
        grids=tuple((rows, cols) for rows, cols in grids),
        **tables,
        stride=level_stride[tables["level"], None],
        size=anchors_px[tables["level"], tables["shape"]],
        level_grid=anchors_px.new_tensor([(cols, rows) for rows, cols in grids]),
        level_stride=level_stride,
        level_size=anchors_px,
        level_offset=torch.tensor(counts, device=device).cumsum(0),
    )


class AnchorTables:
    """The anchor table of the current input size: built once, kept until the size, type or device changes.

    It is the only cache of anchors. A table is built outside inference mode, because one that validation leaves here
    also serves the next training step.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._table: AnchorTable | None = None

    def get(
        self, raw: Sequence[Tensor], dtype: torch.dtype, strides: Sequence[float], anchors_px: Callable[[], Tensor]
    ) -> AnchorTable:
        """The table of these raw maps.

        Args:
            raw: L tensors (B, A, H, W, 5 + C), of which only grids and device matter.
            dtype: floating-point type of the table.
            strides: L values, pixels per cell.
            anchors_px: gives (L, A, 2) widths and heights in pixels; called only when a table is built.
        """
        grids = tuple((level.shape[2], level.shape[3]) for level in raw)
        key = (grids, dtype, raw[0].device)
        if self._table is None or key != self._key:
            with torch.inference_mode(False):
                anchors = anchors_px().to(dtype).to(raw[0].device)  # in this order: not every device has float64
                self._table, self._key = build_anchor_table(anchors, strides, grids), key
        return self._table

    def clear(self) -> None:
        """Forget the table; call it when the anchors change."""
        self._table = None


def flatten_levels(raw: Sequence[Tensor]) -> Tensor:
    """Raw maps, L tensors (B, A, H, W, 5 + C), to one tensor (B, N, 5 + C) in the order of the anchor table."""
    return torch.cat([level.flatten(1, 3) for level in raw], dim=1)


def decode_cell_boxes(raw_boxes: Tensor, anchor_cells: Tensor) -> Tensor:
    """Decode boxes relative to their own cell: x, y = 2 sigmoid(t) - 0.5 and w, h = (2 sigmoid(t))^2 anchor.

    Args:
        raw_boxes: (..., 4) network outputs.
        anchor_cells: (..., 2) anchor width and height in cells (pixels divided by the stride).

    Returns:
        (..., 4) ``xywh`` in cells; the centre lies in (-0.5, 1.5) of its cell, a side is at most 4 anchors.
    """
    scaled = raw_boxes.sigmoid() * 2
    return torch.cat((scaled[..., :2] - 0.5, scaled[..., 2:4].square() * anchor_cells), dim=-1)


def decode_boxes(raw_boxes: Tensor, table: AnchorTable) -> Tensor:
    """Box outputs of the network, (B, N, 4), to ``xywh`` boxes (B, N, 4) in pixels of the network input."""
    return torch.cat(_decoded_centre_and_size(raw_boxes, table), dim=-1)


def decode_predictions(raw: RawPredictions, table: AnchorTable) -> Predictions:
    """Network outputs to boxes and probabilities.

    Args:
        raw: (B, N, 5 + C) outputs in the order of :func:`flatten_levels`.
        table: the N anchors.
    """
    columns = (*_decoded_centre_and_size(raw.boxes, table), raw.scores.sigmoid())
    return Predictions(torch.cat(columns, dim=-1), raw.num_classes)


def _decoded_centre_and_size(raw_boxes: Tensor, table: AnchorTable) -> tuple[Tensor, Tensor]:
    boxes = decode_cell_boxes(raw_boxes, table.size / table.stride)
    return (boxes[..., :2] + table.cell) * table.stride, boxes[..., 2:] * table.stride
