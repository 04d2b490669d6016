"""Output files of a validation: label files, COCO JSON, and plots of the first batches."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.config.yaml_files import load_yaml
from utils.datasets import DetectionDataset
from utils.evaluation.coco_json import category_numbers, coco_annotations, ids_of_images, write_results
from utils.evaluation.pycocotools_check import compare_with_pycocotools, comparison_table
from utils.files import ROOT
from utils.label_files import FileStems, label_rows, write_labels
from utils.metrics import DetectionEvaluator, Metrics
from utils.plots.boxes import NUM_PLOTTED_BATCHES, plot_batch
from utils.plots.metrics import plot_metrics
from utils.structures import Detections, ValidatedBatch

log = logging.getLogger(__name__)

NO_THRESHOLD = 0.25  # in plots, for a class without objects to measure one


class OutputFiles:
    """Writes the output files of a validation.

    Args:
        save_dir: folder of the run.
        dataset: the split.
        stem: of the weights file, which the file of detections is named after.
        txt, conf: write label files, with confidence.
        save_json: write labels and detections as COCO has them; without labels the detections are always written.
        published: COCO's own annotations of the images, None where the data set has none.
        coco_api: evaluate the JSON files with pycocotools too, the published annotations where there are some.
        plots: draw curves, and labels and predictions of the first batches.

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
        save_json: bool = False,
        published: Path | None = None,
        coco_api: bool = False,
        plots: bool = True,
    ) -> None:
        self.save_dir, self.dataset, self.stem = save_dir, dataset, stem
        self.txt, self.conf, self.save_json, self.plots = txt, conf, save_json or coco_api, plots
        self.published, self.coco_api = published, coco_api
        self.has_labels = any(map(len, dataset.labels))
        self._first_batches: list[ValidatedBatch] = []

    def add(self, done: ValidatedBatch) -> None:
        """Take one batch; to be given to ``val.validate`` as ``on_batch``."""
        if self.plots and done.number < NUM_PLOTTED_BATCHES:
            self._first_batches.append(done)

    def finish(self, detections: Sequence[Detections], evaluator: DetectionEvaluator, metrics: Metrics) -> None:
        """Write all files.

        Args:
            detections: of each image, in the order of the data set, in pixels of the original images.
            evaluator, metrics: which hold these.
        """
        if self.txt:
            self._write_labels(detections)
        if self.save_json or not self.has_labels:
            self._write_json(detections)
        if self.plots and self.has_labels:
            plot_metrics(evaluator, metrics, self.save_dir)
        self._plot_batches(np.nan_to_num(metrics.lrp.threshold, nan=NO_THRESHOLD))

    def _plot_batches(self, thresholds: np.ndarray) -> None:
        """The first batches: their labels, and labels beside what was detected above the thresholds (C,)."""
        names = dict(enumerate(self.dataset.names))
        for index, batch, found in self._first_batches:
            stem, labels = self.save_dir / f"val_batch{index}", batch.targets
            plot_batch(batch.images, labels, Path(f"{stem}_labels.jpg"), names, batch.paths)
            file = Path(f"{stem}_pred.jpg")
            plot_batch(batch.images, found, file, names, batch.paths, conf_thres=thresholds.tolist(), beside=labels)

    def _write_labels(self, detections: Sequence[Detections]) -> None:
        stems = FileStems()
        for path, size_hw, found in zip(self.dataset.paths, self.dataset.sizes_hw, detections, strict=True):
            file = self.save_dir / "labels" / f"{stems.stem(Path(path).stem, path)}.txt"
            write_labels(file, label_rows(found, tuple(size_hw.tolist()), self.conf))

    def _write_json(self, detections: Sequence[Detections]) -> None:
        names = self.dataset.names
        ids, (categories, kind) = ids_of_images(self.dataset), category_numbers(self.dataset, _coco_names())
        is_published = categories != tuple(range(len(names))) or self.dataset.published is not None
        log.info("category numbers in the JSON: %s", kind)
        results = self.save_dir / f"{self.stem}_predictions.json"
        write_results(results, detections, ids, categories)
        if not self.has_labels:
            log.info("the data set has no labels: there is no ground truth to write, and nothing is measured")
            return
        ground_truth = self.save_dir / "ground_truth.json"
        text = json.dumps(coco_annotations(self.dataset, ids, categories, names), allow_nan=False)
        ground_truth.write_text(text + "\n", encoding="utf-8")
        if self.coco_api:
            file = self.published if self.published and is_published else ground_truth
            table = comparison_table(compare_with_pycocotools(file, results))
            log.info("boxes of %s in %s:\n%s", results.name, file, table)


def _coco_names() -> Sequence[str]:
    return load_yaml(ROOT / "data" / "coco.yaml")["names"]
