"""Detections of one image, in the usual formats."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.boxes import clip_boxes, xyxy_to_xywh
from utils.datasets.image_files import read_image
from utils.errors import UserError
from utils.plots.boxes import draw_boxes, score_text, write_image
from utils.structures import Detections

if TYPE_CHECKING:
    import pandas

CROP_GAIN, CROP_BORDER = 1.02, 10  # crops show a little of the surroundings: factor, and pixels on both sides together


@dataclasses.dataclass(frozen=True)
class Result:
    """Detections of one image, best first.

    Attributes:
        path: of the image.
        original_hw: its height and width in pixels.
        xyxy: (n, 6) float32 on the CPU: left, top, right, bottom in pixels of the image, confidence, class.
        names: class index to name.
        speed_ms: milliseconds of ``preprocess``, ``inference`` and ``nms``.
        best_score: highest score in the image, even below the confidence threshold.
        number: position in a video, None for a still image.
        fps: frames per second of the video, None for a still image.
        pixels: the image, or None where it was released; use :attr:`image`.
    """

    path: str
    original_hw: tuple[int, int]
    xyxy: Tensor
    names: Mapping[int, str]
    speed_ms: Mapping[str, float]
    best_score: float
    number: int | None = None
    fps: float | None = None
    pixels: np.ndarray | None = dataclasses.field(default=None, repr=False)

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8, BGR; read from its file again where the pixels were released.

        Raises:
            UserError: the pixels were released and the file is gone, or it is a video.
        """
        image = self.pixels if self.pixels is not None else read_image(self.path) if self.number is None else None
        if image is None:
            raise UserError(f"{self.path}: the pixels are no longer held, and cannot be read from the file")
        return image

    @property
    def detections(self) -> Detections:
        """The same as boxes, scores and classes."""
        return Detections(self.boxes, self.xyxy[:, 4], self.xyxy[:, 5].long())

    @property
    def boxes(self) -> Tensor:
        """(n, 4): left, top, right, bottom in pixels."""
        return self.xyxy[:, :4]

    @property
    def xywh(self) -> Tensor:
        """(n, 6): centre x, centre y, width, height in pixels, confidence, class."""
        return torch.cat((xyxy_to_xywh(self.boxes), self.xyxy[:, 4:]), dim=1)

    @property
    def xyxyn(self) -> Tensor:
        """As :attr:`xyxy`, divided by width and height of the image."""
        return self.xyxy / self._size()

    @property
    def xywhn(self) -> Tensor:
        """As :attr:`xywh`, divided by width and height of the image."""
        return self.xywh / self._size()

    def _size(self) -> Tensor:
        height, width = self.original_hw
        return self.xyxy.new_tensor([width, height, width, height, 1, 1])

    def __len__(self) -> int:
        return len(self.boxes)

    def __str__(self) -> str:
        """Size and counts: ``480x640 3 RBCs, 1 WBC``."""
        counts = sorted(Counter(self.xyxy[:, 5].int().tolist()).items())
        found = ", ".join(
            f"{count} {self.names[index]}{'s' if count > 1 and not self.names[index].endswith('s') else ''}"
            for index, count in counts
        )
        return f"{self.original_hw[0]}x{self.original_hw[1]} {found or '(no detections)'}"

    @property
    def is_live(self) -> bool:
        """Whether it is a frame of a camera or stream, which may go on for ever."""
        return self.number is not None and ("://" in self.path or self.path.isdecimal())

    @property
    def source_stem(self) -> str:
        """File name without suffix for what belongs to the image, or to the whole video."""
        return Path(self.path).stem if "://" not in self.path else _as_file_name(self.path)

    @property
    def stem(self) -> str:
        """File name without suffix for what belongs to this image; frames of a video carry their number."""
        return self.stem_below(self.source_stem)

    def stem_below(self, source_stem: str) -> str:
        """As :attr:`stem`, where image or video go by another name."""
        return source_stem if self.number is None else f"{source_stem}_{self.number}"

    def pandas(self) -> pandas.DataFrame:
        """A table with the columns xmin, ymin, xmax, ymax, confidence, class, name."""
        import pandas as pd  # takes half a second, and few need it

        table = pd.DataFrame(self.xyxy.numpy(), columns=["xmin", "ymin", "xmax", "ymax", "confidence", "class"])
        table["class"] = table["class"].astype(int)
        table["name"] = [self.names[index] for index in table["class"]]
        return table

    def plot(self, line_thickness: int | None = None, hide_labels: bool = False, hide_conf: bool = False) -> np.ndarray:
        """The image with its boxes, names and confidences drawn, (H, W, 3) uint8 BGR; a copy."""
        boxes, scores, classes = self.detections
        texts = [
            "" if hide_labels else self.names[index] if hide_conf else f"{self.names[index]} {score_text(score)}"
            for index, score in zip(classes.tolist(), scores.tolist(), strict=True)
        ]
        return draw_boxes(self.image, boxes, texts, classes, line_thickness)

    def save(self, folder: str | Path, stem: str | None = None, picture: np.ndarray | None = None) -> Path:
        """Write the annotated image.

        Args:
            folder: made where missing.
            stem: file name without suffix; None takes :attr:`stem`, which images of other folders may share.
            picture: what :meth:`plot` returned; None draws with its defaults.

        Returns:
            The file; its suffix is the image's own, or ``.jpg`` where that cannot be written.
        """
        suffix = Path(self.path).suffix if self.number is None and "://" not in self.path else ""
        file = Path(folder) / f"{stem or self.stem}{suffix or '.jpg'}"
        return write_image(file, self.plot() if picture is None else picture)

    def crop(self, folder: str | Path, stem: str | None = None) -> list[Path]:
        """Write every detection as an image of its own, ``folder/<class name>/<stem>_1.jpg``, ``<stem>_2.jpg``, ...

        Args:
            folder: made where missing.
            stem: as for :meth:`save`.

        Returns:
            One file for each detection, in their order.
        """
        xywh = xyxy_to_xywh(self.boxes)
        xywh[:, 2:] = xywh[:, 2:] * CROP_GAIN + CROP_BORDER
        low, high = xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, :2] + xywh[:, 2:] / 2
        corners = clip_boxes(torch.cat((low, high), dim=1), *self.original_hw).round().int().tolist()
        image, written = self.image, []
        counts: Counter[str] = Counter()
        for (left, top, right, bottom), index in zip(corners, self.xyxy[:, 5].int().tolist(), strict=True):
            name = _as_file_name(self.names[index])
            counts[name] += 1
            file = Path(folder) / name / f"{stem or self.stem}_{counts[name]}.jpg"
            written.append(write_image(file, image[top:bottom, left:right]))
        return written


def _as_file_name(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-_. " else "_" for char in text)
