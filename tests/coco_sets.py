"""Random sets in COCO's format, and pycocotools as the oracle for them."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def pycocotools_evaluation(gt: dict, detections: list[dict]) -> COCOeval:
    """Evaluated, accumulated and summarised; the arguments stay as they are."""
    gt, detections = copy.deepcopy(gt), copy.deepcopy(detections)
    with contextlib.redirect_stdout(io.StringIO()):
        coco, results = COCO(), COCO()
        coco.dataset = {"info": {}} | gt
        coco.createIndex()
        if detections:
            results = coco.loadRes(detections)
        else:  # which loadRes cannot do
            results.dataset = gt | {"annotations": []}
            results.createIndex()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_arrays(evaluation: COCOeval) -> tuple[np.ndarray, np.ndarray]:
    """Precision (A, C, T, R) with 100 detections and recall (A, C, T, M); NaN where pycocotools has -1."""
    precision = evaluation.eval["precision"][..., 2].transpose(3, 2, 0, 1)
    recall = evaluation.eval["recall"].transpose(2, 1, 0, 3)
    return np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall)


def random_coco(seed: int) -> tuple[dict, list[dict]]:
    """A small set with everything that makes evaluation hard.

    Objects: crowds; areas that differ from the box, lie on the borders of the ranges (1024, 9216) or beyond all of them
    (2e10, which makes pycocotools ignore the object); identical boxes; whole and broken coordinates; classes and images
    without any. Detections: exact copies, near misses, false alarms, ties in the scores, boxes of no size, images
    without any, more than 100 of one class. Numbers of images and categories in no order.
    """
    rng = np.random.default_rng(seed)
    images = rng.permutation(60)[: rng.integers(1, 8)].tolist()
    categories = (rng.permutation(90)[: rng.integers(1, 5)] + 1).tolist()
    with_objects = categories[: max(1, len(categories) - 1)]
    scale = rng.choice([1.0, 4.0])
    annotations, detections = [], []
    for image in images:
        objects = []
        for box in _boxes(rng, scale):
            area = box[2] * box[3] * rng.choice([1, 0.6]) if rng.random() < 0.9 else rng.choice([1024, 9216, 2e10])
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": int(rng.choice(with_objects))}
            objects.append(row | {"bbox": box, "area": float(area), "iscrowd": int(rng.random() < 0.12)})
            annotations.append(objects[-1])
        one_class = rng.random() < 0.2
        for _ in range(rng.choice([0, 4, 20, 40, 150], p=[0.12, 0.25, 0.28, 0.25, 0.1])):
            near = objects[rng.integers(len(objects))] if objects and rng.random() < 0.7 else None
            category = int(categories[0] if one_class else rng.choice(categories))
            if near is not None and rng.random() < 0.8:
                category = near["category_id"]
            row = {"image_id": image, "category_id": category, "bbox": _found_box(rng, near, scale)}
            detections.append(row | {"score": round(float(rng.random()), int(rng.choice([1, 2, 8])))})
    order = rng.permutation(len(detections))
    gt = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": category, "name": f"class {category}"} for category in categories],
        "annotations": annotations,
    }
    return gt, [detections[index] for index in order]


def _boxes(rng: np.random.Generator, scale: float) -> list[list[float]]:
    boxes: list[list[float]] = []
    for _ in range(0 if rng.random() < 0.15 else rng.integers(0, 11)):
        box = np.concatenate((rng.integers(0, 80, 2), rng.integers(3, 50, 2))) * scale
        if rng.random() < 0.5:
            box = box + 2 * rng.random(4)
        boxes.append(list(boxes[-1]) if boxes and rng.random() < 0.15 else box.tolist())
    return boxes


def _found_box(rng: np.random.Generator, near: dict | None, scale: float) -> list[float]:
    """An object's box, exactly or about, or any box."""
    if near is None:
        return [float(value) for value in (*rng.integers(0, 100, 2), *rng.integers(0, 60, 2))]
    box = np.array(near["bbox"])
    if rng.random() < 0.7:
        box += rng.normal(0, 2 * scale, 4).round(int(rng.integers(0, 3)))
    return [*box[:2].tolist(), *np.maximum(box[2:], 1).tolist()]
