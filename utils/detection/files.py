"""Output of a detection run: annotated images and videos, label files, crops, and the window."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from utils.detection.result import Result
from utils.detection.sources import LIVE_FPS
from utils.errors import UserError
from utils.label_files import FileStems, label_rows, write_labels


class DetectionFiles:
    """Writes what was asked for, result by result. Use it as a context manager, so that videos are closed.

    Args:
        make_folder: makes the folder of the run, when there is something to put into it.
        media: write annotated images, and videos as mp4.
        txt, conf: write ``labels/<stem>.txt``, with confidence.
        pixel_corners: rows of these hold corners in pixels, see :func:`utils.label_files.label_rows`.
        save_csv: write ``predictions.csv``, a row for each detection.
        crop: write ``crops/<class>/<stem>_<number>.jpg``.
        view: show each annotated image in a window.
        line_thickness, hide_labels, hide_conf: how boxes are drawn.
        vid_stride: every k-th frame comes in, so videos are written with fewer frames a second.

    Attributes:
        save_dir: folder of the run; None as long as nothing was written.
    """

    def __init__(
        self,
        make_folder: Callable[[], Path],
        *,
        media: bool = True,
        txt: bool = False,
        conf: bool = False,
        pixel_corners: bool = False,
        save_csv: bool = False,
        crop: bool = False,
        view: bool = False,
        line_thickness: int | None = None,
        hide_labels: bool = False,
        hide_conf: bool = False,
        vid_stride: int = 1,
    ) -> None:
        self.media, self.save_csv, self.crop, self.view = media, save_csv, crop, view
        self.txt, self.conf, self.pixel_corners = txt, conf, pixel_corners
        self.line_thickness, self.hide_labels, self.hide_conf = line_thickness, hide_labels, hide_conf
        self.vid_stride = vid_stride
        self.save_dir: Path | None = None
        self._make_folder = make_folder
        self._videos: dict[str, cv2.VideoWriter] = {}
        self._stems = FileStems()
        self._table: TextIO | None = None

    def __enter__(self) -> DetectionFiles:
        return self

    def __exit__(self, *exception: object) -> None:
        for writer in self._videos.values():
            writer.release()
        if self._table is not None:
            self._table.close()
        if self.view:
            cv2.destroyAllWindows()

    def add(self, result: Result) -> bool:
        """Write one result; False once the user closed the window with q or Esc."""
        if self.media or self.txt or self.save_csv or self.crop:
            self._folder()
        source_stem = self._stems.stem(result.source_stem, result.path, is_video=result.number is not None)
        stem = result.stem_below(source_stem)
        if self.txt:
            rows = label_rows(result.detections, result.original_hw, self.conf, self.pixel_corners)
            write_labels(self._folder() / "labels" / f"{stem}.txt", rows)
        if self.save_csv:
            self._write_table(result, stem)
        if self.crop:
            result.crop(self._folder() / "crops", stem)
        if not (self.media or self.view):
            return True
        picture = result.plot(self.line_thickness, self.hide_labels, self.hide_conf)
        if self.media and result.number is None:
            result.save(self._folder(), stem, picture)
        elif self.media:
            self._video(result, source_stem, picture).write(picture)
        return not self.view or _show(result, picture)

    def _folder(self) -> Path:
        """The folder of the run, made when it is first needed."""
        if self.save_dir is None:
            self.save_dir = self._make_folder()
        return self.save_dir

    def _write_table(self, result: Result, stem: str) -> None:
        """Append to ``predictions.csv``. Images are named with their suffix, frames by video and number."""
        if self._table is None:
            self._table = (self._folder() / "predictions.csv").open("w", encoding="utf-8", newline="")
            csv.writer(self._table).writerow(("Image Name", "Prediction", "Confidence"))
        image = stem if result.number is not None else stem + Path(result.path).suffix
        _, scores, classes = result.detections
        rows = zip(classes.tolist(), scores.tolist(), strict=True)
        csv.writer(self._table).writerows((image, result.names[index], f"{score:.6g}") for index, score in rows)

    def _video(self, result: Result, stem: str, picture: np.ndarray) -> cv2.VideoWriter:
        if result.path not in self._videos:
            file = self._folder() / f"{stem}.mp4"
            size = picture.shape[1], picture.shape[0]
            writer = cv2.VideoWriter(
                str(file), cv2.VideoWriter.fourcc(*"mp4v"), max((result.fps or LIVE_FPS) / self.vid_stride, 1), size
            )
            if not writer.isOpened():
                raise UserError(f"{file}: this OpenCV cannot write mp4 videos; use --nosave, or --save-txt alone")
            self._videos[result.path] = writer
        return self._videos[result.path]


def check_screen() -> None:
    """Make sure that windows can be shown.

    Raises:
        UserError: there is no screen, or OpenCV was built without windows.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("--view-img: there is no display (DISPLAY is not set); drop the flag, images are saved anyway")
    try:
        cv2.namedWindow("probe")
        cv2.destroyWindow("probe")
    except cv2.error:
        raise UserError("--view-img: this OpenCV cannot open windows (opencv-python-headless?); leave it out") from None


def _show(result: Result, picture: np.ndarray) -> bool:
    cv2.imshow(result.path, picture)
    return cv2.waitKey(1) not in (ord("q"), 27)
