"""Detections as files: YOLO label rows, and the JSON that COCO tools read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from utils.boxes import xyxy_to_xywh
from utils.structures import Detections

# COCO numbers its 80 classes from 1 to 90 and leaves these out.
COCO_UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_CATEGORY_IDS = tuple(index for index in range(1, 91) if index not in COCO_UNUSED_IDS)


def label_rows(detections: Detections, original_hw: tuple[int, int], with_conf: bool = False) -> list[str]:
    """Rows ``class x y w h [confidence]``, boxes ``xywhn``, of detections in pixels of the original image."""
    height, width = original_hw
    boxes = xyxy_to_xywh(detections.boxes.double()) / torch.tensor([width, height, width, height], dtype=torch.float64)
    columns = [boxes, detections.scores.double()[:, None]] if with_conf else [boxes]
    rows = torch.cat(columns, dim=1).tolist()
    classes = detections.classes.tolist()
    return [
        " ".join((str(index), *(f"{value:.6g}" for value in row))) for index, row in zip(classes, rows, strict=True)
    ]


def write_labels(path: Path, detections: Detections, original_hw: tuple[int, int], with_conf: bool = False) -> None:
    """Write :func:`label_rows` to a file; nothing is written where nothing was detected."""
    rows = label_rows(detections, original_hw, with_conf)
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def category_ids(num_classes: int, split_paths: Sequence[Path]) -> tuple[int, ...]:
    """Category numbers for the JSON: COCO's own for COCO's images (a split from its ``*2017.txt``), else the index."""
    is_coco = num_classes == 80 and any(path.parent.name == "coco" and "2017" in path.stem for path in split_paths)
    return COCO_CATEGORY_IDS if is_coco else tuple(range(num_classes))


def json_rows(detections: Detections, image: str | Path, categories: Sequence[int]) -> list[dict[str, Any]]:
    """COCO result rows with every digit of box and score: rounded scores tie, and ties change the AP.

    Args:
        detections: pixels of the original image.
        image: its file; the stem is the image id, as a number where it is one.
        categories: category number of each class.

    Returns:
        Mappings ``image_id``, ``category_id``, ``bbox`` (left, top, width, height in pixels), ``score``.
    """
    stem = Path(image).stem
    image_id = int(stem) if stem.isdecimal() else stem
    boxes = detections.boxes.double().cpu()
    boxes = torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), dim=1).tolist()
    columns = boxes, detections.scores.tolist(), detections.classes.tolist()
    return [
        {"image_id": image_id, "category_id": categories[index], "bbox": box, "score": score}
        for box, score, index in zip(*columns, strict=True)
    ]
