"""What an inspection may find, how serious it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from utils.inspection.limits import EXTREME_ASPECT, MIXED_SIZES, SAME_BOX_IOU, SMALLEST_SIDE, SUFFICIENT_RECALL

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        name: of the kind, as in the JSON.
        severity: ``error``: data are lost or wrong, or training refuses them. ``warning``: probably a mistake.
            ``note``: good to know.
        title: what is wrong, for people.
        hint: what to do.
        stops: training refuses the data set.
    """

    name: str
    severity: Severity
    title: str
    hint: str
    stops: bool = False


_KINDS = (
    Kind(
        "unknown-class",
        "error",
        "classes that the data YAML does not have",
        "correct the label, or add the class to 'names' or 'ignore' in the data YAML; training refuses to start",
        stops=True,
    ),
    Kind(
        "no-images",
        "error",
        "splits without a readable image",
        "correct the paths in the data YAML; training refuses to start",
        stops=True,
    ),
    Kind(
        "no-objects",
        "error",
        "nothing to train on: no image of the train split has an object",
        "see where the labels are looked for, and whether the data YAML names the right 'format'",
        stops=True,
    ),
    Kind(
        "missing-image", "error", "images that are listed but do not exist", "restore them, or take them off the list"
    ),
    Kind("unreadable-image", "error", "images that cannot be read", "replace or delete them; training skips them"),
    Kind(
        "unreadable-labels",
        "error",
        "label files that cannot be read",
        "repair the file; training skips the image until then",
    ),
    Kind("invalid-row", "error", "invalid objects in label files", "correct the row; training skips it"),
    Kind(
        "missing-labels",
        "warning",
        "images without a label file",
        "add the file; an empty one says that the image is background, which is how training takes it anyway",
    ),
    Kind(
        "orphan-labels",
        "warning",
        "label files without an image",
        "add the image, or delete the file; file names must be equal up to the suffix, in upper and lower case too",
    ),
    Kind(
        "listed-twice",
        "warning",
        "images that a split lists more than once",
        "list each image once; it counts as often as it is listed",
    ),
    Kind(
        "leak",
        "warning",
        "the same image in two splits",
        "keep it in one of them: a network that has seen the image in training measures too well on it",
    ),
    Kind("copy", "warning", "copies of an image within a split", "delete the copies, or check that their labels agree"),
    Kind(
        "repeated-box",
        "warning",
        f"objects labelled twice: two boxes of one class with an IoU of at least {SAME_BOX_IOU:g}",
        "delete one of the two",
    ),
    Kind(
        "conflict",
        "warning",
        f"two classes for one object: boxes with an IoU of at least {SAME_BOX_IOU:g}",
        "delete the wrong one, unless the classes are meant to overlap",
    ),
    Kind(
        "outside",
        "warning",
        "boxes that reach beyond their image",
        "check whether the labels belong to this image in this size; training clips the box",
    ),
    Kind(
        "tiny",
        "warning",
        f"objects with a side below {SMALLEST_SIDE:g} pixels at the image size of the network",
        "train with a larger --img, cut the images into tiles, or delete labels that were made by accident",
    ),
    Kind(
        "extreme",
        "warning",
        f"boxes more than {EXTREME_ASPECT:g} times as long as wide",
        "check whether the box is meant; anchors hardly fit such shapes",
    ),
    Kind(
        "class-not-in-train",
        "warning",
        "classes without an object in the train split",
        "add images of the class, or leave it out of 'names': it cannot be learned",
    ),
    Kind(
        "class-not-in-val",
        "warning",
        "classes without an object in the val split",
        "move some of its images there: without them its AP is undefined and left out of the mean",
    ),
    Kind(
        "anchors",
        "note",
        f"anchors of the model fit less than {SUFFICIENT_RECALL:.0%} of the objects",
        "training computes better ones, unless --noautoanchor forbids it",
    ),
    Kind(
        "mixed-sizes",
        "note",
        f"images of very different sizes: the longer sides differ by more than {MIXED_SIZES:g} times",
        "all are resized to --img, so that equal objects look different in size; cut large images into tiles",
    ),
    Kind("absent-split", "note", "a split whose files are not there", "fetch it, or leave it out of the data YAML"),
)
KINDS = {kind.name: kind for kind in _KINDS}


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        kind: a name of ``KINDS``.
        split: it was found in; of a pair of splits the first.
        text: what was found, without the file.
        file: the label file, or the image; empty for the split as a whole.
        line: in the label file, or None.
        image: that it concerns, or empty.
        objects: position of each object that it concerns among the labels of the image, as they are read.
    """

    kind: str
    split: str
    text: str
    file: str = ""
    line: int | None = None
    image: str = ""
    objects: tuple[int, ...] = ()

    @property
    def severity(self) -> Severity:
        """Of its kind."""
        return KINDS[self.kind].severity

    @property
    def where(self) -> str:
        """``file:line``, as far as known."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.file else self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the JSON."""
        values = {"severity": self.severity, **self._asdict(), "objects": list(self.objects)}
        return {name: value for name, value in values.items() if value not in ("", None, [])}


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The most serious first; equal kinds together; then by file and line."""
    order = {name: number for number, name in enumerate(KINDS)}
    return tuple(
        sorted(
            findings,
            key=lambda found: (
                SEVERITIES.index(found.severity),
                order[found.kind],
                found.split,
                found.file,
                found.line or 0,
                found.text,
            ),
        )
    )


def group_findings(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings by kind, the most serious kind first."""
    groups: dict[str, list[Finding]] = {}
    for finding in sort_findings(findings):
        groups.setdefault(finding.kind, []).append(finding)
    return groups
