"""Images with their boxes for the page: those with the most findings, small enough to travel in it."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from utils.datasets.image_files import read_image
from utils.inspection.examine import Examination
from utils.inspection.findings import Finding, group_findings
from utils.plots.boxes import draw_boxes

MOST_PICTURES = 24
PER_KIND = 4
SAMPLES = 8  # where little was found, pictures to look at all the same
MOST_BYTES = 1_500_000  # of all pictures together, in base64
SIDE = 480  # pixels, of the longer side
MOST_BOXES = 400  # of the objects without a finding
QUALITY = 75
FRAME = (((0, 0, 0), 5), ((0, 230, 255), 2))  # BGR and thickness: yellow with black edges is seen on any ground


class Picture(NamedTuple):
    """An image of the page.

    Attributes:
        path: image file.
        split: it belongs to.
        findings: about it; none for a sample.
        jpeg: base64.
        size: width and height, pixels.
    """

    path: str
    split: str
    findings: list[Finding]
    jpeg: str
    size: tuple[int, int]


def pictures(examination: Examination, findings: Iterable[Finding]) -> list[Picture]:
    """The images with the most findings, some of each kind, and samples where there are few of them."""
    where = {
        (name, path): index for name, split in examination.splits.items() for index, path in enumerate(split.paths)
    }
    of_image: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if (finding.split, finding.image) in where:
            of_image[finding.split, finding.image].append(finding)
    chosen = _worst(of_image)
    chosen += [key for key in _samples(examination) if key not in chosen][: max(SAMPLES - len(chosen), 0)]
    made: list[Picture] = []
    space = MOST_BYTES
    for split, path in chosen:
        image = read_image(path)
        if image is None:
            continue
        drawn = _draw(examination, split, where[split, path], image, of_image[split, path])
        jpeg = base64.b64encode(cv2.imencode(".jpg", drawn, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()).decode()
        space -= len(jpeg)
        if space < 0:
            break
        made.append(Picture(path, split, of_image[split, path], jpeg, (drawn.shape[1], drawn.shape[0])))
    return made


def _worst(of_image: dict[tuple[str, str], list[Finding]]) -> list[tuple[str, str]]:
    """Of each kind of finding the images that have most of it, the most serious kinds first; then those with most."""
    groups = group_findings(finding for findings in of_image.values() for finding in findings)
    chosen: list[tuple[str, str]] = []
    for findings in groups.values():
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for finding in findings:
            counts[finding.split, finding.image] += 1
        most = sorted(counts, key=lambda key: (-counts[key], key))
        chosen += [key for key in most[:PER_KIND] if key not in chosen]
    rest = sorted((key for key in of_image if key not in chosen), key=lambda key: (-len(of_image[key]), key))
    return [*chosen, *rest][:MOST_PICTURES]


def _samples(examination: Examination) -> list[tuple[str, str]]:
    """Images of each split in turn, evenly spaced."""
    rows = []
    for name, split in examination.splits.items():
        count = min(SAMPLES, len(split.paths))
        rows.append([(name, split.paths[index * len(split.paths) // count]) for index in range(count)])
    longest = max(map(len, rows), default=0)
    return [row[index] for index in range(longest) for row in rows if index < len(row)]


def _draw(
    examination: Examination, split: str, index: int, image: np.ndarray, findings: Sequence[Finding]
) -> np.ndarray:
    """The image in the size of the page, its objects in the colours of their classes, those with findings framed."""
    labels = examination.splits[split].annotations[index].labels
    height, width = image.shape[:2]
    factor = SIDE / max(height, width)
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, (max(1, round(width * factor)), max(1, round(height * factor))), interpolation=kind)
    size = np.tile([small.shape[1], small.shape[0]], 2)
    half = labels[:, 3:5] / 2
    boxes = np.concatenate((labels[:, 1:3] - half, labels[:, 1:3] + half), axis=1) * size
    odd = sorted({row for finding in findings for row in finding.objects})
    classes = labels[:, 0].astype(np.int64)
    drawn = draw_boxes(small, boxes[:MOST_BOXES], classes=classes[:MOST_BOXES], line_thickness=1)
    for row in odd:
        left, top, right, bottom = (round(value) for value in boxes[row].tolist())
        for colour, thickness in FRAME:
            cv2.rectangle(drawn, (left - 4, top - 4), (right + 4, bottom + 4), colour, thickness)
    names = [examination.description.names[number] for number in classes[odd]]
    return draw_boxes(drawn, boxes[odd], names, classes[odd], line_thickness=1)
