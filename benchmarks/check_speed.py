"""How long ``check.py`` takes: ``python -m benchmarks.check_speed``.

Makes a data set of small images, all different, with YOLO text files, and runs the command in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import yaml

from utils.files import ROOT

SIDES = (240, 320)  # height and width of the images


def write_data_set(folder: Path, images: int, objects: int) -> Path:
    """A data set of images of smooth noise, nine in ten of them for training; returns its data YAML."""
    rng = np.random.default_rng(0)
    height, width = SIDES
    for number in range(images):
        split = "val" if number % 10 == 0 else "train"
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (6, 8, 3), np.uint8)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / split / f"{number:06}.jpg"), picture)
        sizes = rng.uniform(0.05, 0.3, (objects, 2))
        centres = rng.uniform(sizes / 2, 1 - sizes / 2)
        classes = rng.integers(0, 10, objects)
        rows = [
            f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
            for label, (x, y), (w, h) in zip(classes, centres, sizes, strict=True)
        ]
        (folder / "labels" / split / f"{number:06}.txt").write_text("".join(rows), encoding="ascii")
    names = [f"class {number}" for number in range(10)]
    data = {"path": str(folder), "train": "images/train", "val": "images/val", "names": names}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(data), encoding="ascii")
    return file


def main() -> None:
    """Print seconds and processor seconds of three runs."""
    parser = argparse.ArgumentParser(description="Time check.py on a generated data set.")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--objects", type=int, default=10, help="of each image")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write_data_set(Path(folder) / "set", given.images, given.objects)
        page = Path(folder) / "report.html"
        print(f"{given.images:,} images of {SIDES[1]} x {SIDES[0]} pixels with {given.objects} objects each")
        for _ in range(3):
            before, begin = os.times(), time.perf_counter()
            command = [sys.executable, "check.py", "--data", str(data), "--html", str(page)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            seconds, after = time.perf_counter() - begin, os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            verdict = done.stdout.splitlines()[-2] if done.stdout else done.stderr
            size = page.stat().st_size / 1e6
            print(f"{seconds:.1f} s, {used:.1f} processor seconds, page of {size:.1f} MB; {verdict}")


if __name__ == "__main__":
    main()
