"""The inspection before a training: what the labels in memory tell, in one line for each kind of finding."""

from __future__ import annotations

from collections.abc import Mapping

from utils.datasets import DetectionDataset
from utils.inspection.examine import class_histogram, lacking_classes
from utils.inspection.files import shared_images
from utils.inspection.findings import KINDS
from utils.inspection.objects import ObjectTable, odd_objects


def quick_findings(train_set: DetectionDataset, val_set: DetectionDataset | None, image_size: int) -> list[str]:
    """Errors and warnings about data sets that are read already; ``check.py`` finds more, and shows where.

    Files are not looked at again: copies and orphans stay unknown, and boxes that reading has clipped.

    Args:
        train_set, val_set: of the training.
        image_size: longer side of the network's input, pixels.

    Returns:
        A line for each kind of finding, the most serious first.
    """
    sets = {"train": train_set} if val_set is None else {"train": train_set, "val": val_set}
    counts: dict[str, dict[str, int]] = {name: {} for name in KINDS}
    histograms = {}
    for split, dataset in sets.items():
        table = ObjectTable.from_labels(dataset.labels, dataset.sizes_hw)
        histograms[split] = class_histogram(table, len(dataset.names))
        skipped = len(dataset.report.problems) - dataset.report.corrupt
        files = {"unreadable-image": dataset.report.corrupt, "invalid-row": skipped}
        # of a file with the labels of all images, an image without any is background
        files |= {"missing-labels": 0 if dataset.published else dataset.report.missing}
        odd = {kind: len(rows) for kind, rows in odd_objects(table, image_size).items()}
        for kind, count in (files | odd).items():
            counts[kind][split] = count
    paths = {split: dataset.paths for split, dataset in sets.items()}
    for finding in [*shared_images(paths), *lacking_classes(histograms, list(train_set.names))]:
        counts[finding.kind][finding.split] = counts[finding.kind].get(finding.split, 0) + 1
    return [
        _line(kind, counts[kind]) for kind in KINDS if KINDS[kind].severity != "note" and any(counts[kind].values())
    ]


def _line(kind: str, counts: Mapping[str, int]) -> str:
    places = ", ".join(f"{count:,} in {split}" for split, count in counts.items() if count)
    return f"{KINDS[kind].title}: {places}"
