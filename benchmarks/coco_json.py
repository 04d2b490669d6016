"""How long a label file of the size of COCO's instances_train2017.json takes: read once, then from the cache.

``python -m benchmarks.coco_json`` makes such a file, 118,000 images with 860,000 outlines, in a temporary folder, and
prints seconds and peak memory of a process of its own for each. The image headers are not looked at here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from utils.datasets.description import DataDescription
from utils.datasets.scan import open_split, scan_split

SIZE_HW = (480, 640)


def write_file(path: Path, num_images: int, num_objects: int) -> None:
    """A JSON file with outlines of 4 to 50 points, whose images all have one size."""
    rng = np.random.default_rng(0)
    owner, points = rng.integers(0, num_images, num_objects), rng.integers(4, 51, num_objects)
    with path.open("w", encoding="utf-8") as file:
        images = [
            {"license": 3, "file_name": f"{number:012d}.jpg", "height": SIZE_HW[0], "width": SIZE_HW[1], "id": number}
            for number in range(num_images)
        ]
        categories = [{"supercategory": "thing", "id": number, "name": f"c{number}"} for number in range(1, 81)]
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, "annotations": [')
        for number in range(num_objects):
            outline = rng.uniform(0, 400, 2 * points[number]).round(2)
            low, high = outline.reshape(-1, 2).min(axis=0), outline.reshape(-1, 2).max(axis=0)
            row = {
                "segmentation": [outline.tolist()],
                "area": 1234.5,
                "iscrowd": 0,
                "image_id": int(owner[number]),
                "bbox": [*low.round(2).tolist(), *(high - low).round(2).tolist()],
                "category_id": int(number % 80 + 1),
                "id": number,
            }
            file.write((", " if number else "") + json.dumps(row))
        file.write("]}")


def read(folder: Path, what: str) -> None:
    """Read the labels of the file, or the labels that a scan kept, and print seconds and peak memory."""
    import utils.datasets.scan as scan

    scan.check_image = lambda path: SIZE_HW
    description = DataDescription(
        folder / "set.yaml",
        folder,
        tuple(f"c{number}" for number in range(1, 81)),
        format="coco",
        splits={"train": (folder,)},
        format_settings={"annotations": {"train": "instances.json"}},
    )
    start = time.perf_counter()
    if what == "labels":
        opened = open_split(description, "train")
        opened.read(opened.images[0], SIZE_HW)
    else:
        scan_split(description, "train", progress=False)
    seconds = time.perf_counter() - start
    print(f"{seconds:.1f} s, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    """Make the file, and read it in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=118_000, help="images of the file")
    parser.add_argument("--objects", type=int, default=860_000, help="objects of the file")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(Path(options.read), options.what)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "instances.json"
        write_file(file, options.images, options.objects)
        print(f"{file.stat().st_size / 1e6:.0f} MB, {options.images:,} images, {options.objects:,} objects")
        environment = os.environ | {"YOLO_CACHE_DIR": str(Path(folder) / "cache")}
        for name, what in (("the file", "labels"), ("file to labels, kept", "scan"), ("labels kept", "scan")):
            print(f"{name}: ", end="", flush=True)
            command = [sys.executable, "-m", "benchmarks.coco_json", "--read", folder, "--what", what]
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
