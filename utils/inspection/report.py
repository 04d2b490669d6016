"""The result of an inspection: counts, findings, and the text of both for the console."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.inspection.findings import KINDS, SEVERITIES, Finding, group_findings

SHOWN = 5  # findings of a kind on the console; the page and the JSON have more
SHOWN_CLASSES = 30


class SplitCounts(NamedTuple):
    """Counts of a split.

    Attributes:
        images: listed.
        labelled: with a label file that says anything of them, or says that they are background.
        background: readable images without an object.
        missing: images without a label file.
        orphan: label files without an image, in the folders of the labels of this split.
        unreadable: images that do not exist or that are left out, since they or their labels cannot be read.
        objects: objects.
        regions: regions to ignore.
        classes: objects of each class.
    """

    images: int
    labelled: int
    background: int
    missing: int
    orphan: int
    unreadable: int
    objects: int
    regions: int
    classes: tuple[int, ...]


class AnchorCheck(NamedTuple):
    """How well the anchors of a model fit the objects of the train split.

    Attributes:
        model: whose anchors they are.
        anchors_px: width and height of each, pixels.
        anchor_t: factor between sides up to which an anchor fits an object.
        best_possible_recall: fraction of the objects that some anchor fits.
        anchors_above_threshold: mean number of anchors that fit an object.
    """

    model: str
    anchors_px: tuple[tuple[float, float], ...]
    anchor_t: float
    best_possible_recall: float
    anchors_above_threshold: float

    def __str__(self) -> str:
        return (
            f"anchors of {self.model}: best possible recall {self.best_possible_recall:.4f}, "
            f"{self.anchors_above_threshold:.2f} anchors fit an object"
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """What an inspection found.

    Attributes:
        data: the data YAML.
        image_size: longer side of the network's input, pixels.
        names: class names.
        splits: counts of each split.
        anchors: fit of the anchors, None without objects.
        findings: the most serious first.
        page: the HTML page, once it is written.
    """

    data: Path
    image_size: int
    names: tuple[str, ...]
    splits: Mapping[str, SplitCounts]
    anchors: AnchorCheck | None
    findings: tuple[Finding, ...]
    page: Path | None = None

    @property
    def usable(self) -> bool:
        """Training would start."""
        return not any(KINDS[finding.kind].stops for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 errors or warnings, 2 unusable. Notes do not count."""
        if not self.usable:
            return 2
        return int(any(finding.severity != "note" for finding in self.findings))

    @property
    def verdict(self) -> str:
        """``2 errors, 1 warning``, or ``nothing found``."""
        counts = Counter(finding.severity for finding in self.findings)
        parts = [f"{counts[name]:,} {name}{'s' * (counts[name] != 1)}" for name in SEVERITIES if counts[name]]
        return ", ".join(parts) or "nothing found"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the JSON."""
        return {
            "data": str(self.data),
            "image_size": self.image_size,
            "usable": self.usable,
            "exit_code": self.exit_code,
            "splits": {
                name: {**counts._asdict(), "classes": dict(zip(self.names, counts.classes, strict=True))}
                for name, counts in self.splits.items()
            },
            "anchors": None if self.anchors is None else self.anchors._asdict(),
            "findings": [finding.to_dict() for finding in self.findings],
            "page": None if self.page is None else str(self.page),
        }

    def __str__(self) -> str:
        columns = [name for name in SplitCounts._fields if name != "classes"]
        rows = [["split", *columns]]
        rows += [[name, *(f"{getattr(counts, key):,}" for key in columns)] for name, counts in self.splits.items()]
        parts = [_table(rows), self._class_table()]
        if self.anchors is not None:
            parts.append(f"{self.anchors}\n")
        for kind, findings in group_findings(self.findings).items():
            parts.append(self._group(kind, findings))
        parts.append(f"{self.data}: {self.verdict}" + ("" if self.usable else "; training would refuse to start"))
        return "\n".join(parts)

    def _class_table(self) -> str:
        rows = [["class", *self.splits]]
        shown = list(self.names)[:SHOWN_CLASSES]
        for index, name in enumerate(shown):
            rows.append([name, *(f"{counts.classes[index]:,}" for counts in self.splits.values())])
        left = len(self.names) - len(shown)
        return _table(rows) + (f"... and {left} more classes\n" if left else "")

    def _group(self, name: str, findings: list[Finding]) -> str:
        kind = KINDS[name]
        lines = [f"{kind.severity}: {kind.title} ({len(findings):,})"]
        lines += [f"  {finding}" for finding in findings[:SHOWN]]
        if len(findings) > SHOWN:
            lines.append(f"  ... and {len(findings) - SHOWN:,} more")
        return "\n".join([*lines, f"  -> {kind.hint}", ""])


def _table(rows: list[list[str]]) -> str:
    """Columns of text: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"
