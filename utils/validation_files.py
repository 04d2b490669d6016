"""What a validation leaves behind beside its numbers: label files, COCO's JSON, and pictures of the first batches."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from utils.coco_files import annotations, image_ids, write_results
from utils.config import ROOT, load_yaml
from utils.datasets import DetectionDataset
from utils.plots import NUM_PLOTTED_BATCHES, plot_batch
from utils.prediction_files import FileStems, category_ids, label_rows, write_labels
from utils.structures import Batch, Detections

log = logging.getLogger(__name__)


class ValidatedBatch(NamedTuple):
    """One batch as handed to ``on_batch``.

    Attributes:
        index: number of the batch.
        batch: as it came from the loader.
        detections: B detections in pixels of the network input.
    """

    index: int
    batch: Batch
    detections: list[Detections]


class OutputFiles:
    """Writes what a validation leaves behind.

    Args:
        save_dir: folder of the run.
        dataset: the split.
        stem: of the weights file, which the file of detections is named after.
        txt, conf: write label files, with confidence.
        json: write labels and detections as COCO has them; without labels the detections are always written.
        plots: draw labels and predictions of the first batches.

    Attributes:
        has_labels: whether any image has an object to be found.
    """

    def __init__(
        self,
        save_dir: Path,
        dataset: DetectionDataset,
        stem: str = "best",
        *,
        txt: bool = False,
        conf: bool = False,
        json: bool = False,
        plots: bool = True,
    ) -> None:
        self.save_dir, self.dataset, self.stem = save_dir, dataset, stem
        self.txt, self.conf, self.json, self.plots = txt, conf, json, plots
        self.has_labels = any(map(len, dataset.labels))
        self._shown: list[ValidatedBatch] = []

    def add(self, done: ValidatedBatch) -> None:
        """Take one batch; to be given to ``val.validate`` as ``on_batch``."""
        if self.plots and done.index < NUM_PLOTTED_BATCHES:
            self._shown.append(done)

    def finish(self, detections: Sequence[Detections]) -> None:
        """Write all files.

        Args:
            detections: of each image, in the order of the data set, in pixels of the original images.
        """
        if self.txt:
            self._write_labels(detections)
        if self.json or not self.has_labels:
            self._write_json(detections)
        names = dict(enumerate(self.dataset.names))
        for index, batch, found in self._shown:
            stem = self.save_dir / f"val_batch{index}"
            plot_batch(batch.images, batch.targets, Path(f"{stem}_labels.jpg"), names, batch.paths)
            plot_batch(batch.images, found, Path(f"{stem}_pred.jpg"), names, batch.paths)

    def _write_labels(self, detections: Sequence[Detections]) -> None:
        stems = FileStems()
        for path, size_hw, found in zip(self.dataset.paths, self.dataset.sizes_hw, detections, strict=True):
            file = self.save_dir / "labels" / f"{stems.stem(Path(path).stem, path)}.txt"
            write_labels(file, label_rows(found, tuple(size_hw.tolist()), self.conf))

    def _write_json(self, detections: Sequence[Detections]) -> None:
        names = self.dataset.names
        ids, categories = image_ids(self.dataset.paths), category_ids(names, _coco_names())
        is_coco = categories != tuple(range(len(names)))
        kind = (
            "COCO's, 1 to 90, since the classes are COCO's" if is_coco else f"the class indices, 0 to {len(names) - 1}"
        )
        log.info("category numbers in the JSON: %s", kind)
        write_results(self.save_dir / f"{self.stem}_predictions.json", detections, ids, categories)
        if not self.has_labels:
            log.info("the data set has no labels: there is no ground truth to write, and nothing is measured")
            return
        text = json.dumps(annotations(self.dataset, ids, categories, names), allow_nan=False)
        (self.save_dir / "ground_truth.json").write_text(text + "\n", encoding="utf-8")


def _coco_names() -> Sequence[str]:
    return load_yaml(ROOT / "data" / "coco.yaml")["names"]
