"""What a validation leaves behind beside its numbers: label files, JSON rows, and pictures of the first batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.plots import NUM_PLOTTED_BATCHES, plot_batch
from utils.prediction_files import FileStems, json_rows, label_rows, write_labels
from utils.structures import Batch, Detections

log = logging.getLogger(__name__)


class ValidatedBatch(NamedTuple):
    """One batch as handed to ``on_batch``.

    Attributes:
        index: number of the batch.
        batch: as it came from the loader.
        input_detections: B detections in pixels of the network input.
        detections: the same in pixels of the original images.
    """

    index: int
    batch: Batch
    input_detections: list[Detections]
    detections: list[Detections]


class OutputFiles:
    """Writes and collects what a validation leaves behind, batch by batch.

    Args:
        save_dir: folder of the run.
        names: class index to name.
        txt, conf: write label files, with confidence.
        plots: draw labels and predictions of the first batches.
        categories: category number of each class, to collect ``json_rows``; None collects none.
    """

    def __init__(
        self,
        save_dir: Path,
        names: Mapping[int, str],
        *,
        txt: bool = False,
        conf: bool = False,
        plots: bool = True,
        categories: tuple[int, ...] | None = None,
    ) -> None:
        self.save_dir, self.names = save_dir, names
        self.txt, self.conf, self.plots, self.categories = txt, conf, plots, categories
        self.json_rows: list[dict[str, Any]] = []
        self._stems, self._ids_repeat = FileStems(), False

    def add(self, done: ValidatedBatch) -> None:
        """Take one batch; to be given to :func:`validate` as ``on_batch``."""
        batch = done.batch
        for path, geometry, found in zip(batch.paths, batch.geometries, done.detections, strict=True):
            stem = self._stems.stem(Path(path).stem, path)
            if self.txt:
                rows = label_rows(found, geometry.original_hw, self.conf)
                write_labels(self.save_dir / "labels" / f"{stem}.txt", rows)
            if self.categories is not None:
                self.json_rows += json_rows(found, path, self.categories)
                if stem != Path(path).stem and not self._ids_repeat:
                    self._ids_repeat = True
                    log.warning("%s: another image has this name; in the JSON both have the same image_id", path)
        if self.plots and done.index < NUM_PLOTTED_BATCHES:
            stem = self.save_dir / f"val_batch{done.index}"
            plot_batch(batch.images, batch.targets, Path(f"{stem}_labels.jpg"), self.names, batch.paths)
            plot_batch(batch.images, done.input_detections, Path(f"{stem}_pred.jpg"), self.names, batch.paths)
