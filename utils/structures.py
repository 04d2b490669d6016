"""Records passed between packages, with their shapes.

Shape legend
    B images in a batch             N anchors of all levels, flattened level by level, anchor, row, column
    A anchors per grid cell         L detection levels
    C classes                       P positives (anchor and object pairs)
    M ground-truth boxes of a batch n boxes of one image
    H, W rows and columns of a grid or an image

Box formats
    ``xyxy``  left, top, right, bottom; pixels unless a name says otherwise
    ``xywh``  centre x, centre y, width, height
    ``xywhn`` the same, divided by image width and height: values in [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from torch import Tensor


class ImageGeometry(NamedTuple):
    """How a network input was made from an image: ``input = original * scale + pad``, per axis.

    Attributes:
        original_hw: height and width of the decoded image in pixels.
        scale: factors ``(y, x)``.
        pad: border added at the top and at the left, ``(top, left)``, in input pixels.
    """

    original_hw: tuple[int, int]
    scale: tuple[float, float]
    pad: tuple[float, float]


class Sample(NamedTuple):
    """One item of a data set, ready to be collated.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (n, 5) float32 rows of class, x, y, w, h (``xywhn`` of ``image``).
        path: file that the (first) image came from.
        geometry: how ``image`` came from that file; None where augmentation mixed several.
        position: in the data set.
        regions: (k, 4) float32 ``xywhn`` of regions to ignore, or None for none.
    """

    image: np.ndarray
    labels: np.ndarray
    path: str
    geometry: ImageGeometry | None
    position: int
    regions: np.ndarray | None = None


class Batch(NamedTuple):
    """Collated samples.

    Attributes:
        images: (B, 3, H, W) uint8, RGB; divide by 255 on the device.
        targets: (M, 6) float32 rows of image (position in the batch), class, x, y, w, h (``xywhn``).
        paths, geometries, indices: B entries each: path, geometry and position of :class:`Sample`.
        regions: (R, 5) float32 rows of image, x, y, w, h (``xywhn``): regions to ignore; None for none.
    """

    images: Tensor
    targets: Tensor
    paths: tuple[str, ...]
    geometries: tuple[ImageGeometry | None, ...]
    indices: tuple[int, ...]
    regions: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _PredictionColumns:
    """Predictions whose columns have names; each column is a view of ``values``.

    Attributes:
        values: (..., 5 + C) x, y, w, h, objectness, and one value for each class.
        num_classes: C.
    """

    values: Tensor
    num_classes: int

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """Name the columns of (..., 5 + C) values that hold nothing beside the classes."""
        return cls(values, values.shape[-1] - 5)

    @property
    def boxes(self) -> Tensor:
        """(..., 4) x, y, w, h."""
        return self.values[..., :4]

    @property
    def objectness(self) -> Tensor:
        """(...,)."""
        return self.values[..., 4]

    @property
    def classes(self) -> Tensor:
        """(..., C)."""
        return self.values[..., 5 : 5 + self.num_classes]

    @property
    def scores(self) -> Tensor:
        """(..., 1 + C) objectness and classes side by side."""
        return self.values[..., 4 : 5 + self.num_classes]

    def __getitem__(self, index: Any) -> Self:
        """The same columns of some rows: ``index`` is one of the dimensions before the last."""
        return type(self)(self.values[index], self.num_classes)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class RawPredictions(_PredictionColumns):
    """Outputs of the network before decoding: box outputs relative to the anchors, and logits.

    Attributes:
        values: (B, N, 5 + C), or some rows of it.
        num_classes: C.
    """


@dataclass(frozen=True, slots=True)
class Predictions(_PredictionColumns):
    """Decoded predictions: boxes ``xywh`` in pixels of the network input, probabilities in [0, 1].

    Attributes:
        values: (B, N, 5 + C), or some rows of it.
        num_classes: C.
    """


class AnchorTable(NamedTuple):
    """The anchors of one input size, on the device; see :class:`utils.boxes.AnchorTables`.

    Attributes:
        grids: L pairs (rows, columns), on the host.
        level: (N,) int64, index of the detection level.
        shape: (N,) int64, index of the anchor shape within its level.
        cell: (N, 2) column and row of the grid cell.
        stride: (N, 1) pixels per cell.
        size: (N, 2) anchor width and height in pixels.
        level_grid: (L, 2) columns and rows of each level.
        level_stride: (L,) pixels per cell.
        level_size: (L, A, 2) anchor widths and heights in pixels.
        level_offset: (L,) int64, first anchor of each level.
    """

    grids: tuple[tuple[int, int], ...]
    level: Tensor
    shape: Tensor
    cell: Tensor
    stride: Tensor
    size: Tensor
    level_grid: Tensor
    level_stride: Tensor
    level_size: Tensor
    level_offset: Tensor


class Assignment(NamedTuple):
    """Which anchors are positive, and for which objects.

    Attributes:
        image: (P,) int64, image in the batch.
        anchor: (P,) int64, anchor in [0, N).
        target: (P,) int64, row of the (M, 6) targets.
        ignore: (B, N) bool, anchors that are neither positive nor negative; None if there are none. An anchor among
            the P is positive, whatever this says.
    """

    image: Tensor
    anchor: Tensor
    target: Tensor
    ignore: Tensor | None = None


class LossOutput(NamedTuple):
    """What the criterion returns.

    Attributes:
        total: scalar, sum of the parts times the batch size; call ``backward`` on it.
        parts: name to weighted scalar, detached; what is logged.
    """

    total: Tensor
    parts: dict[str, Tensor]


class Detections(NamedTuple):
    """Boxes found in one image, best score first.

    Attributes:
        boxes: (n, 4) ``xyxy`` pixels.
        scores: (n,) in [0, 1].
        classes: (n,) int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class GroundTruth(NamedTuple):
    """The objects of one image, as an evaluator wants them.

    Attributes:
        boxes: (n, 4) float64 ``xyxy``, pixels of the image file.
        classes: (n,) int64.
        crowd: (n,) bool, True for a region of many objects: it need not be found, and any number of detections may
            lie in it.
        area: (n,) float64 squared pixels, of the masks where the labels have them.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


class ValidatedBatch(NamedTuple):
    """One batch as handed to ``on_batch``.

    Attributes:
        number: of the batch, from 0.
        batch: as it came from the loader.
        detections: B detections in pixels of the network input.
    """

    number: int
    batch: Batch
    detections: list[Detections]
