"""Evaluate detections in COCO's JSON format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.metrics.evaluator import DetectionEvaluator
from utils.metrics.tables import DetectionTable, GroundTruthTable

Source = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]


def evaluate_coco(gt_json: Source, detections_json: Source) -> dict[str, Any]:
    """Evaluate bounding boxes as pycocotools and the official LRP code do.

    As in pycocotools, a key ``ignore`` of an annotation is not looked at, and annotations of images and categories that
    are not listed do not count. Unlike there, an annotation may have the number 0 (pycocotools takes a match with it
    for none), and detections of unknown categories are an error (pycocotools drops them).

    Args:
        gt_json: path of an annotation file (``images``, ``annotations``, ``categories``), or its content.
        detections_json: path of a result file, a list of ``image_id``, ``category_id``, ``bbox`` (left, top, width,
            height) and ``score``, or its content.

    Returns:
        dict: ``coco_stats``, the 12 numbers of ``coco_stat_names``, -1 where undefined; ``ap_per_iou`` by threshold;
        ``oLRP``, ``oLRP_localisation``, ``oLRP_false_positive``, ``oLRP_false_negative`` (tau 0.5), means over
        classes; ``per_class`` with lists ``oLRP``, ``localisation``, ``false_positive``, ``false_negative``,
        ``threshold`` in the order of the category numbers. Undefined values are None.

    Raises:
        UserError: a file that cannot be read, an entry without a key, or a detection of an unknown image or category.
    """
    metrics = read_coco(gt_json, detections_json).compute()
    stats, lrp = metrics.coco_stats, metrics.lrp
    per_iou = [metrics.ap[~np.isnan(metrics.ap[:, column]), column] for column in range(len(metrics.iou_thresholds))]
    return {
        "coco_stats": [-1.0 if np.isnan(value) else value for value in stats.values()],
        "coco_stat_names": list(stats),
        "ap_per_iou": {
            f"{t:.2f}": float(values.mean()) if len(values) else None
            for t, values in zip(metrics.iou_thresholds, per_iou, strict=True)
        },
        "oLRP": _plain(metrics.olrp),
        "oLRP_localisation": _plain(metrics.olrp_localisation),
        "oLRP_false_positive": _plain(metrics.olrp_false_positive),
        "oLRP_false_negative": _plain(metrics.olrp_false_negative),
        "per_class": {
            "oLRP": [_plain(value) for value in lrp.error],
            "localisation": [_plain(value) for value in lrp.localisation],
            "false_positive": [_plain(value) for value in lrp.false_positive],
            "false_negative": [_plain(value) for value in lrp.false_negative],
            "threshold": [_plain(value) for value in lrp.threshold],
        },
    }


def read_coco(gt_json: Source, detections_json: Source) -> DetectionEvaluator:
    """An evaluator that holds a set in COCO's JSON format; classes are the categories in the order of their numbers.

    Args, Raises:
        as :func:`evaluate_coco`.
    """
    gt, detections = _content(gt_json), _content(detections_json)
    if not isinstance(gt, Mapping) or not {"images", "annotations", "categories"} <= set(gt):
        raise UserError(f"{_name(gt_json)}: expected a mapping with images, annotations and categories")
    if not isinstance(detections, Sequence):
        raise UserError(f"{_name(detections_json)}: expected a list of detections but got {type(detections).__name__}")
    image_of = _numbering(_values(gt["images"], "id", gt_json), gt_json)
    class_of = _numbering(_values(gt["categories"], "id", gt_json), gt_json)
    names = {class_of[entry["id"]]: entry.get("name", entry["id"]) for entry in gt["categories"]}

    annotations = gt["annotations"]
    gt_image = _positions(_values(annotations, "image_id", gt_json), image_of)
    gt_class = _positions(_values(annotations, "category_id", gt_json), class_of)
    area = _numbers(annotations, "area", (), gt_json)
    crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], dtype=bool)
    listed = (gt_image >= 0) & (gt_class >= 0)
    columns = (gt_image, gt_class, _numbers(annotations, "bbox", (4,), gt_json), area, crowd, crowd)
    ground_truth = GroundTruthTable(*(column[listed] for column in columns))

    found_image = _listed(_values(detections, "image_id", detections_json), image_of, "image", detections_json)
    found_class = _listed(_values(detections, "category_id", detections_json), class_of, "category", detections_json)
    boxes, scores = (_numbers(detections, key, size, detections_json) for key, size in (("bbox", (4,)), ("score", ())))
    found = DetectionTable(found_image, found_class, boxes, scores)
    evaluator = DetectionEvaluator(len(names), names)
    evaluator.update_tables(found, ground_truth, range(len(image_of)))
    return evaluator


def _content(source: Source) -> Any:
    if not isinstance(source, str | Path):
        return source
    try:
        return json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: cannot be read as COCO JSON: {error}") from None


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | Path) else "COCO data"


def _values(entries: Sequence[Mapping[str, Any]], key: str, source: Source) -> list[Any]:
    """The values of a key in all entries."""
    try:
        return [entry[key] for entry in entries]
    except (KeyError, TypeError):
        bad = next(i for i, entry in enumerate(entries) if not isinstance(entry, Mapping) or key not in entry)
        raise UserError(f"{_name(source)}: expected {key!r} in every entry but number {bad} has none") from None


def _numbering(identifiers: Sequence[Any], source: Source) -> dict[Any, int]:
    """Identifiers in ascending order to 0, 1, ..."""
    try:
        return {identifier: index for index, identifier in enumerate(sorted(set(identifiers)))}
    except TypeError:
        raise UserError(f"{_name(source)}: expected ids to be all numbers or all texts") from None


def _positions(identifiers: Sequence[Any], numbering: Mapping[Any, int]) -> np.ndarray:
    """(n,) int64; -1 for what is not listed."""
    return np.array([numbering.get(identifier, -1) for identifier in identifiers], dtype=np.int64)


def _listed(identifiers: Sequence[Any], numbering: Mapping[Any, int], kind: str, source: Source) -> np.ndarray:
    """(n,) int64 positions of identifiers that have to be listed."""
    positions = _positions(identifiers, numbering)
    if np.any(positions < 0):
        unknown = identifiers[int((positions < 0).argmax())]
        some = ", ".join(str(identifier) for identifier in list(numbering)[:10])
        more = f" and {len(numbering) - 10} more" if len(numbering) > 10 else ""
        raise UserError(
            f"{_name(source)}: a detection is of {kind} {unknown!r}, which the ground truth does not list: {some}{more}"
        )
    return positions


def _numbers(entries: Sequence[Mapping[str, Any]], key: str, size: tuple[int, ...], source: Source) -> np.ndarray:
    """(n, *size) float64: what each entry has for a key."""
    values = _values(entries, key, source)
    try:
        return np.array(values, dtype=np.float64).reshape(len(values), *size)
    except (ValueError, TypeError):
        expected = f"{size[0]} numbers" if size else "a number"
        bad = next(index for index, value in enumerate(values) if not _is_numeric(value, size))
        raise UserError(
            f"{_name(source)}: expected {expected} as {key!r} of every entry but number {bad} has {values[bad]!r}"
        ) from None


def _is_numeric(value: Any, size: tuple[int, ...]) -> bool:
    try:
        return np.array(value, dtype=np.float64).shape == size
    except (ValueError, TypeError):
        return False


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
