"""How fast the evaluator is, against pycocotools, and how much memory both need.

python -m benchmarks.eval_speed                                # a set of the size of COCO val2017
python -m benchmarks.eval_speed --images 500 --objects 3600    # a tenth of it

A generated set: classes as uneven as COCO's, a few of them in each image, objects found with errors of several sizes
and more than once, false alarms, crowds. Both evaluate the same numbers, each in a process of its own, one after the
other. Time runs from the loaded detections to the 12 numbers: evaluate, accumulate and summarize of pycocotools;
compute of ours, which includes oLRP, curves, thresholds and calibration besides. Both use one thread; the ratio is that
of the processor time, which other work on the machine disturbs less. Memory before: imports and loaded detections.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.metrics import DetectionEvaluator
from utils.metrics.tables import DetectionTable, GroundTruthTable

SIDE = 640.0  # of an image, pixels
Result = TypeVar("Result")
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


class Run(NamedTuple):
    """What one program needed.

    Attributes:
        stats: the 12 numbers.
        seconds, cpu_seconds: from loaded detections to the numbers.
        loaded, peak: the process's memory in MiB before and at most.
    """

    stats: list[float]
    seconds: float
    cpu_seconds: float
    loaded: float
    peak: float


def make_set(arguments: argparse.Namespace) -> tuple[DetectionTable, GroundTruthTable]:
    """The generated set; the same for the same arguments."""
    rng = np.random.default_rng(arguments.seed)
    num_images, num_objects = arguments.images, arguments.objects
    frequency = 1 / np.arange(1, arguments.classes + 1)
    in_image = rng.choice(arguments.classes, (num_images, 3), p=frequency / frequency.sum())
    image = np.sort(rng.integers(0, num_images, num_objects))
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (num_objects, 2)))
    boxes = np.concatenate((rng.uniform(0, 1, (num_objects, 2)) * (SIDE - sides), sides), axis=1).round(2)
    crowd = rng.random(num_objects) < 0.01
    gt_classes = in_image[image, rng.integers(0, 3, num_objects)]
    area = boxes[:, 2] * boxes[:, 3] * rng.uniform(0.5, 1, num_objects)
    ground_truth = GroundTruthTable(image, gt_classes, boxes, area, crowd, crowd)

    per_image = np.bincount(image, minlength=num_images)
    first = np.cumsum(per_image) - per_image
    found = np.repeat(np.arange(num_images), arguments.detections)
    false_alarm = (rng.random(len(found)) < 0.9) | (per_image[found] == 0)
    target = np.minimum(first[found] + (rng.random(len(found)) * per_image[found]).astype(np.int64), num_objects - 1)
    error = rng.normal(0, 1, (len(found), 4)) * rng.uniform(0, 0.2, (len(found), 1))
    near = boxes[target] + error * np.tile(boxes[target, 2:], 2)
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (len(found), 2)))
    elsewhere = np.concatenate((rng.uniform(0, 1, (len(found), 2)) * (SIDE - sides), sides), axis=1)
    found_boxes = np.where(false_alarm[:, None], elsewhere, near).round(2)
    found_boxes[:, 2:] = np.maximum(found_boxes[:, 2:], 1)
    classes = np.where(false_alarm, in_image[found, rng.integers(0, 3, len(found))], gt_classes[target])
    stray = rng.random(len(found)) < 0.3
    classes[stray] = rng.integers(0, arguments.classes, stray.sum())
    scores = (rng.random(len(found)) ** np.where(false_alarm | stray, 6, 1)).round(5)
    return DetectionTable(found, classes, found_boxes, scores), ground_truth


def save_set(folder: str, arguments: argparse.Namespace) -> None:
    """Write the generated set, a file for each column."""
    for table in make_set(arguments):
        for column, values in table._asdict().items():
            np.save(f"{folder}/{type(table).__name__}.{column}.npy", values)


def load_set(folder: str) -> tuple[DetectionTable, GroundTruthTable]:
    """The set that :func:`save_set` wrote."""

    def columns(kind: type[DetectionTable] | type[GroundTruthTable]) -> list[np.ndarray]:
        return [np.load(f"{folder}/{kind.__name__}.{column}.npy") for column in kind._fields]

    return DetectionTable(*columns(DetectionTable)), GroundTruthTable(*columns(GroundTruthTable))


def run_pycocotools(folder: str, arguments: argparse.Namespace) -> Run:
    """Evaluate with pycocotools."""
    found, gt = load_set(folder)
    rows = zip(*(column.tolist() for column in (gt.image, gt.classes, gt.boxes, gt.area, gt.crowd)), strict=True)
    annotations = [
        {"id": i, "image_id": image, "category_id": index, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for i, (image, index, box, area, crowd) in enumerate(rows, start=1)
    ]
    rows = zip(*(column.tolist() for column in found), strict=True)
    results = [{"image_id": i, "category_id": c, "bbox": box, "score": score} for i, c, box, score in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(arguments.images)],
            "categories": [{"id": index} for index in range(arguments.classes)],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")

        def numbers() -> list[float]:
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            return evaluation.stats.tolist()

        return measured(numbers)


def run_ours(folder: str, arguments: argparse.Namespace) -> Run:
    """Evaluate with our evaluator."""
    evaluator = DetectionEvaluator(arguments.classes)
    evaluator.update_tables(*load_set(folder), range(arguments.images))
    return measured(lambda: [-1.0 if np.isnan(v) else v for v in evaluator.compute().coco_stats.values()])


def measured(numbers: Callable[[], list[float]]) -> Run:
    """Run a function that returns the 12 numbers."""
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu_start = time.perf_counter(), time.process_time()
    stats = numbers()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Run(stats, seconds, cpu_seconds, loaded * MAXRSS_UNIT / 2**20, peak * MAXRSS_UNIT / 2**20)


def in_own_process(
    step: Callable[[str, argparse.Namespace], Result], folder: str, arguments: argparse.Namespace
) -> Result:
    """What a step returns. A child's highest memory starts from its parent's, so this process must stay small."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(step, (folder, arguments))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--objects", type=int, default=36_000)
    parser.add_argument("--detections", type=int, default=300, help="per image")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{arguments.images} images, {arguments.classes} classes, {arguments.objects} objects, ", end="")
    print(f"{arguments.detections} detections an image, seed {arguments.seed}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        in_own_process(save_set, folder, arguments)
        ours = in_own_process(run_ours, folder, arguments)
        theirs = in_own_process(run_pycocotools, folder, arguments)
    print("| | seconds | CPU seconds | times faster | memory before, MiB | at most, MiB | AP | AR100 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, run in (("ours", ours), ("pycocotools", theirs)):
        ratio = theirs.cpu_seconds / run.cpu_seconds
        print(f"| {name} | {run.seconds:.2f} | {run.cpu_seconds:.2f} | {ratio:.1f} ", end="")
        print(f"| {run.loaded:.0f} | {run.peak:.0f} | {run.stats[0]:.6f} | {run.stats[8]:.6f} |")
    difference = np.abs(np.subtract(ours.stats, theirs.stats)).max()
    print(f"\nlargest difference among the 12 numbers: {difference:.1e}")


if __name__ == "__main__":
    main()
