"""A data set and what was found in it as the two JSON files of COCO: annotations and results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.datasets import DataDescription, DetectionDataset
from utils.label_files import FileStems, category_ids, json_rows
from utils.structures import Detections


def ids_of_images(dataset: DetectionDataset) -> Sequence[int | str]:
    """An id for each image of a data set: that of its labels where they have one, else as :func:`image_ids`."""
    return image_ids(dataset.paths) if dataset.image_ids is None else dataset.image_ids


def image_ids(paths: Sequence[str | Path]) -> list[int] | list[str]:
    """An id for each image file: its name without suffix.

    Args:
        paths: n image files.

    Returns:
        n different ids: numbers where all names are different numbers, as COCO's are, else texts. Images of equal name
        get a number behind it, ``1``, ``1-2``.
    """
    stems = [Path(path).stem for path in paths]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [int(stem) for stem in stems]
    names = FileStems()
    return [names.stem(stem, str(index)) for index, stem in enumerate(stems)]


def coco_annotations(
    dataset: DetectionDataset, ids: Sequence[int | str], categories: Sequence[int], names: Sequence[str]
) -> dict[str, Any]:
    """The labels of a split as COCO annotations: images, categories, and boxes with their areas.

    Args:
        dataset: n images with their labels.
        ids: n ids.
        categories, names: number and name of each class.
    """
    sizes = dataset.sizes_hw.tolist()
    images = [
        {"id": image_id, "file_name": Path(path).name, "height": height, "width": width}
        for image_id, path, (height, width) in zip(ids, dataset.paths, sizes, strict=True)
    ]
    rows: list[dict[str, Any]] = []
    for index, image_id in enumerate(ids):
        boxes, classes, crowd, areas = dataset.ground_truth(index)
        xywh = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1).tolist()
        rows += [
            {
                "id": len(rows) + number,
                "image_id": image_id,
                "category_id": categories[index_of_class],
                "bbox": box,
                "area": area,
                "iscrowd": int(is_crowd),
            }
            for number, (box, index_of_class, is_crowd, area) in enumerate(
                zip(xywh, classes.tolist(), crowd.tolist(), areas.tolist(), strict=True), start=1
            )
        ]
    category_rows = [{"id": number, "name": name} for number, name in zip(categories, names, strict=True)]
    return {"images": images, "annotations": rows, "categories": category_rows}


def category_numbers(dataset: DetectionDataset, coco_names: Sequence[str]) -> tuple[tuple[int, ...], str]:
    """The category number of each class in the JSON, and what they are, in words.

    Args:
        dataset: of the detections.
        coco_names: COCO's 80 names in order.
    """
    names = dataset.names
    if dataset.class_ids is not None and -1 not in dataset.class_ids:
        return dataset.class_ids, "those of the label file"
    numbers = category_ids(names, coco_names)
    if numbers != tuple(range(len(names))):
        return numbers, "COCO's, 1 to 90, since the classes are COCO's"
    return numbers, f"the class indices, 0 to {len(names) - 1}"


def published_annotations(dataset: DetectionDataset, description: DataDescription, split: str) -> Path | None:
    """The file of COCO annotations of a split, which knows crowds and exact areas; None where there is none.

    With ``format: coco`` it is the label file. Beside other labels it is looked for as COCO lays it out,
    ``annotations/instances_val2017.json`` for ``val2017.txt``.
    """
    if dataset.published is not None:
        # that file knows nothing of classes that the data YAML ignores
        return None if any((crowds[:, 0] < 0).any() for crowds in dataset.crowds) else dataset.published
    paths = description.splits.get(split, ())
    found = [description.root / "annotations" / f"instances_{path.stem}.json" for path in paths]
    return found[0] if len(found) == 1 and found[0].is_file() else None


def write_results(path: Path, found: Iterable[Detections], ids: Sequence[int | str], categories: Sequence[int]) -> None:
    """Write COCO results, image by image, so that millions of rows are never held at once.

    Args:
        path: JSON file to write.
        found: n detections in pixels of the images.
        ids: n ids.
        categories: number of each class.
    """
    with path.open("w", encoding="utf-8") as file:
        separator = "["
        for image_id, detections in zip(ids, found, strict=True):
            for row in json_rows(detections, image_id, categories):
                file.write(separator + json.dumps(row, allow_nan=False))
                separator = ",\n"
        file.write("]\n" if separator != "[" else "[]\n")
