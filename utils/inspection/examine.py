"""An inspection from the data YAML to findings and counts."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from utils.datasets.description import DataDescription
from utils.datasets.shapes import ensure_generated
from utils.inspection.files import file_findings
from utils.inspection.findings import Finding, sort_findings
from utils.inspection.limits import MIXED_SIZES, SUFFICIENT_RECALL
from utils.inspection.objects import ObjectTable, odd_objects
from utils.inspection.reading import ReadSplit, read_split
from utils.inspection.report import AnchorCheck, Report, SplitCounts


class Examination:
    """A data set that has been read, and what was found in it.

    Args:
        description: the data set; a generated one is made on first use.
        image_size: longer side of the network's input, pixels.

    Attributes:
        splits: as they were read, by name.
        objects: the objects of each split.
        findings: what was found.

    Raises:
        UserError: a split for training or validation that cannot be opened.
    """

    def __init__(self, description: DataDescription, image_size: int) -> None:
        ensure_generated(description.generator)
        self.description, self.image_size = description, image_size
        absent = [
            name
            for name, paths in description.splits.items()
            if name == "test" and not all(path.exists() for path in paths)
        ]
        self.splits: dict[str, ReadSplit] = {
            name: read_split(description, name) for name in description.splits if name not in absent
        }
        self.objects = {name: split.objects() for name, split in self.splits.items()}
        self.findings = [
            Finding("absent-split", name, f"{name}: there is no {', '.join(map(str, description.splits[name]))}")
            for name in absent
        ]
        sources = {str(path) for paths in description.splits.values() for path in paths}
        self.findings += file_findings(list(self.splits.values()), sources)
        for name, split in self.splits.items():
            self.findings += split.findings
            self.findings += self._of_objects(name)
            self.findings += self._of_split(name)
        self.findings += lacking_classes(self.histograms, description.names)

    @functools.cached_property
    def histograms(self) -> dict[str, np.ndarray]:
        """Objects of each class (C,) by split."""
        return {name: class_histogram(table, self.description.nc) for name, table in self.objects.items()}

    def report(self, anchors: AnchorCheck | None) -> Report:
        """The result.

        Args:
            anchors: fit of the anchors to the train split, None where it has no object.
        """
        findings = list(self.findings)
        if anchors is not None and anchors.best_possible_recall < SUFFICIENT_RECALL:
            findings.append(Finding("anchors", "train", str(anchors)))
        counts = {name: self._counts(name) for name in self.splits}
        data = self.description
        return Report(data.file, self.image_size, data.names, counts, anchors, sort_findings(findings))

    def _counts(self, name: str) -> SplitCounts:
        split = self.splits[name]
        kinds = Counter(found.kind for found in self.findings if found.split == name)
        return SplitCounts(
            images=len(split.listed),
            labelled=len(split.paths) - kinds["missing-labels"],
            background=sum(not len(annotation.labels) for annotation in split.annotations),
            missing=kinds["missing-labels"],
            orphan=kinds["orphan-labels"],
            unreadable=len(split.label_files) - len(split.paths),
            objects=len(self.objects[name].classes),
            regions=sum(len(annotation.crowds) for annotation in split.annotations),
            classes=tuple(self.histograms[name].tolist()),
        )

    def _of_objects(self, name: str) -> Iterable[Finding]:
        split, table = self.splits[name], self.objects[name]
        odd = odd_objects(table, self.image_size)
        tiny = {int(row) for row in odd["tiny"][:, 0]}
        for kind, rows in odd.items():
            for group in rows.tolist():
                if kind == "extreme" and group[0] in tiny:
                    continue  # told once
                image = int(table.image[group[0]])
                within = tuple(int(table.row[row]) for row in group)
                file, line, place = split.place(image, within[-1])
                text = self._text(kind, table, group, split.place(image, within[0]))
                path = split.paths[image]
                yield Finding(kind, name, f"{place}: {text}" if place else text, file, line, path, within)

    def _text(
        self, kind: str, table: ObjectTable, rows: Sequence[int], first_place: tuple[str, int | None, str]
    ) -> str:
        """What is odd about an object or a pair of them."""
        last = rows[-1]
        label = self.description.names[table.classes[last]]
        width, height = table.sizes[last]
        if kind == "outside":
            return f"{label}: the box reaches {table.overhang[last]:.0f} pixels beyond the image"
        if kind == "tiny":
            small = table.network_sizes(self.image_size)[last]
            resized = f"{small[0]:.2g} x {small[1]:.2g} at {self.image_size} pixels"
            return f"{label}: {width:.4g} x {height:.4g} pixels, {resized}"
        if kind == "extreme":
            return f"{label}: {width:.4g} x {height:.4g} pixels"
        _, line, place = first_place
        other = self.description.names[table.classes[rows[0]]]
        return f"{label}: nearly the same box as the {other} of {f'line {line}' if line is not None else place}"

    def _of_split(self, name: str) -> Iterable[Finding]:
        split = self.splits[name]
        if not split.paths:
            yield Finding("no-images", name, f"{name}: none of {len(split.listed)} images can be used")
            return
        if name == "train" and not len(self.objects[name].classes):
            path = split.paths[0]
            yield Finding(
                "no-objects", name, f"the labels of {path} are looked for in {split.label_files[path]}", image=path
            )
        longest = split.sizes_hw.max(axis=1)
        if longest.max() > MIXED_SIZES * longest.min():
            sizes = [split.sizes_hw[index] for index in (longest.argmin(), longest.argmax())]
            texts = [f"{width} x {height}" for height, width in sizes]
            yield Finding("mixed-sizes", name, f"{name}: from {texts[0]} to {texts[1]} pixels")


def class_histogram(table: ObjectTable, nc: int) -> np.ndarray:
    """Objects of each of ``nc`` classes."""
    return np.bincount(table.classes, minlength=nc)


def lacking_classes(histograms: Mapping[str, np.ndarray], names: Sequence[str]) -> list[Finding]:
    """Classes that the train split or the val split lacks, told once for each class.

    Args:
        histograms: split to objects of each class.
        names: class names.
    """
    empty = {name: set(np.flatnonzero(counts == 0).tolist()) for name, counts in histograms.items()}
    findings = []
    if "train" in empty and len(empty["train"]) < len(names):  # with no class at all there is another finding
        findings += [Finding("class-not-in-train", "train", names[index]) for index in sorted(empty["train"])]
    if "val" in empty:
        missing = sorted(empty["val"] - empty.get("train", set()))
        findings += [
            Finding("class-not-in-val", "val", f"{names[index]}: {histograms['train'][index]:,} objects in train")
            for index in missing
        ]
    return findings
