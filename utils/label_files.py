"""Detections in files: file names, YOLO and Pascal VOC label rows, COCO result rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from utils.boxes import xyxy_to_xywh
from utils.structures import Detections

# COCO numbers its 80 classes from 1 to 90 and leaves these out.
COCO_UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_CATEGORY_IDS = tuple(index for index in range(1, 91) if index not in COCO_UNUSED_IDS)


class FileStems:
    """Assign file names without suffix: one to each source, no name twice.

    Sources of equal name (``a/1.jpg`` and ``b/1.jpg``, ``1.jpg`` and ``1.png``) get ``1`` and ``1-2``. Frames carry
    their number behind the stem of their video, ``clip_7``; no image gets such a name. Upper and lower case count as
    equal, as they do on some file systems.
    """

    def __init__(self) -> None:
        self._stems: dict[str, str] = {}  # by source
        self._taken: set[str] = set()
        self._of_videos: set[str] = set()
        self._before_numbers: set[str] = set()  # "clip" of an image "clip_7"

    def stem(self, wanted: str, source: str, is_video: bool = False) -> str:
        """``wanted``, numbered where another source has it; the same one for the same source each time."""
        if source not in self._stems:
            candidate, number = wanted, 2
            while not self._claim(candidate.casefold(), is_video):
                candidate, number = f"{wanted}-{number}", number + 1
            self._stems[source] = candidate
        return self._stems[source]

    def _claim(self, stem: str, is_video: bool) -> bool:
        numbered = re.fullmatch(r"(.+)_\d+", stem)
        if stem in self._taken:
            return False
        if is_video:
            if stem in self._before_numbers:
                return False
            self._of_videos.add(stem)
        elif numbered:
            if numbered[1] in self._of_videos:
                return False
            self._before_numbers.add(numbered[1])
        self._taken.add(stem)
        return True


def label_rows(
    detections: Detections, original_hw: tuple[int, int], with_conf: bool = False, pixel_corners: bool = False
) -> list[str]:
    """Rows of text for detections in pixels of the original image.

    Args:
        detections: n boxes.
        original_hw: height and width of the image in pixels.
        with_conf: append the confidence.
        pixel_corners: ``class left top right bottom`` in pixels, as Pascal VOC has boxes, instead of YOLO's
            ``class x y w h`` (``xywhn``).
    """
    height, width = original_hw
    boxes = detections.boxes.double()
    if not pixel_corners:
        boxes = xyxy_to_xywh(boxes) / torch.tensor([width, height, width, height], dtype=torch.float64)
    columns = [boxes, detections.scores.double()[:, None]] if with_conf else [boxes]
    rows = torch.cat(columns, dim=1).tolist()
    classes = detections.classes.tolist()
    return [
        " ".join((str(index), *(f"{value:.6g}" for value in row))) for index, row in zip(classes, rows, strict=True)
    ]


def write_labels(path: Path, rows: Sequence[str]) -> None:
    """Write :func:`label_rows` to a file; without rows, no file is written."""
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def category_ids(names: Sequence[str], coco_names: Sequence[str]) -> tuple[int, ...]:
    """Category numbers for the JSON: COCO's own, 1 to 90, for COCO's classes; else the class index.

    Args:
        names: class names in order.
        coco_names: COCO's 80 names in order.
    """
    return COCO_CATEGORY_IDS if list(names) == list(coco_names) else tuple(range(len(names)))


def json_rows(detections: Detections, image_id: int | str, categories: Sequence[int]) -> list[dict[str, Any]]:
    """COCO result rows. Boxes and scores keep all digits: rounding creates ties, and ties change the AP.

    Args:
        detections: pixels of the original image.
        image_id: of the image.
        categories: category number of each class.

    Returns:
        Mappings ``image_id``, ``category_id``, ``bbox`` (left, top, width, height in pixels), ``score``.
    """
    xyxy = detections.boxes.double().cpu()
    ltwh = torch.cat((xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]), dim=1).tolist()
    columns = ltwh, detections.scores.tolist(), detections.classes.tolist()
    return [
        {"image_id": image_id, "category_id": categories[index], "bbox": box, "score": score}
        for box, score, index in zip(*columns, strict=True)
    ]
