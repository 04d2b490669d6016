"""A split of a data set as a sequence of samples, each a pure function of (seed, epoch, index, repeat)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from utils.config.hyperparameters import Hyperparameters
from utils.datasets.colour import jitter_to_rgb
from utils.datasets.copy_paste import copy_paste
from utils.datasets.description import DataDescription
from utils.datasets.flip import random_flip
from utils.datasets.letterbox import GREY, fit_size, letterbox, rectangular_shapes
from utils.datasets.mosaic import mixup, mosaic, mosaic_of_nine
from utils.datasets.objects import Objects
from utils.datasets.perspective import random_perspective
from utils.datasets.pixels import CacheKind, PixelStore
from utils.datasets.randomness import SampleKey, sample_rng
from utils.datasets.scan import ScannedSplit, open_split, scan_split
from utils.datasets.shapes import ensure_generated
from utils.errors import UserError, unknown_name
from utils.structures import GroundTruth, ImageGeometry, Sample


class DetectionDataset(Dataset[Sample]):
    """Images of a split with their boxes.

    ``dataset[epoch, index]`` is a :class:`Sample`; ``dataset[index]`` is that of epoch 0, ``dataset[epoch, index, 1]``
    its other version for an image that comes a second time in an epoch. Without augmentation all of these are equal,
    and the sample's geometry maps boxes back to the file's image.

    Args:
        description: the data set, from ``read_data_yaml``; a generated one is made on first use.
        split: ``train``, ``val`` or ``test``.
        image_size: side of the network's input in pixels.
        hyp: hyper-parameters, of which the augmentations are read; the defaults where None.
        augment: mosaic, copy-paste, mixup, perspective, colour, flips. An image that can no longer be decoded is grey,
            and then without objects; where nothing is augmented it keeps them, to be counted as missed.
        rect: order the images by aspect ratio and give each batch the smallest shape that holds it; no mosaic.
        batch_size: of the loader, for ``rect``.
        stride: largest stride of the network, for ``rect``.
        pad: border in strides, for ``rect``; 0.5 is usual in validation.
        cache: keep decoded images in memory (``"ram"``) or in the cache folder (``"disk"``).
        single_cls: treat all classes as one.
        seed: of all random choices.
        progress: show bars while reading, where stderr is a terminal.

    Attributes:
        paths: n image files.
        labels: n arrays (objects, 5) float32 of class and ``xywhn`` of the file's image.
        polygons: n outlines in [0, 1].
        crowds: n arrays (regions, 5) as in ``labels``: many objects in one region, which is not trained on.
        sizes_hw: (n, 2) int64 heights and widths of the files' images.
        names: class names.
        report: of the scan, a ``ScanReport``.

    Raises:
        UserError: missing files, wrong classes, no usable image, or no label at all in a split to train on.
    """

    def __init__(
        self,
        description: DataDescription,
        split: str,
        *,
        image_size: int,
        hyp: Hyperparameters | None = None,
        augment: bool = False,
        rect: bool = False,
        batch_size: int = 16,
        stride: int = 32,
        pad: float = 0.0,
        cache: CacheKind = None,
        single_cls: bool = False,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        if cache not in (None, "ram", "disk"):
            raise unknown_name("image cache", cache, ("ram", "disk"))
        ensure_generated(description.generator)
        scanned = scan_split(description, split, progress=progress)
        _check_usable(scanned, split, augment, description)
        self.paths, self.labels, self.polygons = scanned.paths, scanned.labels, scanned.polygons
        self.crowds, self.sizes_hw, self.report = scanned.crowds, scanned.sizes_hw, scanned.report
        self.areas, self.masks = scanned.areas, scanned.masks
        self.image_ids, self.class_ids, self.published = scanned.image_ids, scanned.class_ids, scanned.published
        self.names, self.image_size, self.seed = description.names, image_size, seed
        self.augment, self.rect, self.batch_size = augment, rect, batch_size
        self.hyp = hyp or Hyperparameters()
        if single_cls:
            self.names = description.names if description.nc == 1 else ("object",)
            self.labels, self.crowds = _as_class_0(self.labels), _as_class_0(self.crowds)
            self.class_ids = None
        self._shapes_hw = np.full((len(self.paths), 2), image_size)
        if rect:
            order, shapes = rectangular_shapes(self.sizes_hw, batch_size, image_size, stride, pad)
            self._reorder(order)
            self._shapes_hw = shapes[np.arange(len(order)) // batch_size]
        self._pixels = PixelStore(
            self.paths, self.sizes_hw, image_size, smooth=not augment, cache=cache, progress=progress
        )
        self._cumulative_weights: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def ground_truth(self, index: int) -> GroundTruth:
        """What an evaluator compares the detections of an image with: its objects, then its crowds."""
        height, width = self.sizes_hw[index].tolist()
        rows = np.concatenate((self.labels[index], self.crowds[index])).astype(np.float64)
        half = rows[:, 3:5] / 2
        corners = np.concatenate((rows[:, 1:3] - half, rows[:, 1:3] + half), axis=1)
        corners *= np.array([width, height, width, height])
        areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        if self.areas is not None:
            areas[: len(self.labels[index])] = self.areas[index]
        crowd = np.arange(len(rows)) >= len(self.labels[index])
        truth = GroundTruth(corners, rows[:, 0].astype(np.int64), crowd, areas)
        return _for_each_class(truth, len(self.names)) if (truth.classes < 0).any() else truth

    def set_weights(self, weights: np.ndarray) -> None:
        """From now on draw the partners of mosaics and mixtures in proportion to these weights (n,), not all 0.

        The first call must come before the first worker process: later ones reach the workers through shared memory.
        """
        if self._cumulative_weights is None:
            self._cumulative_weights = torch.empty(len(self), dtype=torch.float64).share_memory_()
        self._cumulative_weights.copy_(torch.from_numpy(np.cumsum(weights)))

    def __getitem__(self, wanted: int | tuple[int, int] | tuple[int, int, int]) -> Sample:
        key = SampleKey(*wanted) if isinstance(wanted, tuple) else SampleKey(0, wanted)
        if not -len(self) <= key.position < len(self):
            raise IndexError(f"expected an index below {len(self)} but got {key.position}")
        key = key._replace(position=key.position % len(self))
        return self._augmented(key) if self.augment else self._plain(key.position)

    def _plain(self, index: int) -> Sample:
        image, objects, geometry = self._letterboxed(index, scale_up=False)
        labels, regions = objects.to_labels_and_regions(*image.shape[:2])
        return Sample(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), labels, self.paths[index], geometry, index, regions)

    def _augmented(self, key: SampleKey) -> Sample:
        index, rng = key.position, sample_rng(self.seed, *key)
        if not self.rect and rng.random() < self.hyp.mosaic:
            image, objects = self._mosaic(index, rng)
            if rng.random() < self.hyp.mixup:
                image, objects = mixup((image, objects), self._mosaic(self._draw(1, rng)[0], rng), rng)
        else:
            image, objects, _ = self._letterboxed(index, scale_up=True)
            image, objects = random_perspective(image, objects, image.shape[:2], self.hyp, rng)
        image, objects = random_flip(image, objects, self.hyp, rng)
        labels, regions = objects.to_labels_and_regions(*image.shape[:2])
        return Sample(jitter_to_rgb(image, self.hyp, rng), labels, self.paths[index], None, index, regions)

    def _mosaic(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, Objects]:
        """This image and three or eight others, warped to the network's input."""
        nine = self.hyp.mosaic9 > 0 and rng.random() < self.hyp.mosaic9
        tiles = [self._load(each) for each in (index, *self._draw(8 if nine else 3, rng))]
        canvas, objects = (mosaic_of_nine if nine else mosaic)(tiles, self.image_size, rng)
        canvas, objects = copy_paste(canvas, objects, self.hyp.copy_paste, rng)
        return random_perspective(canvas, objects, (self.image_size, self.image_size), self.hyp, rng)

    def _draw(self, count: int, rng: np.random.Generator) -> list[int]:
        """Images to mix with another one, drawn with replacement."""
        if self._cumulative_weights is None:
            return rng.integers(len(self), size=count).tolist()
        cumulative = self._cumulative_weights.numpy()
        return np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right").tolist()

    def _load(self, index: int) -> tuple[np.ndarray, Objects]:
        """The resized image and its objects in its pixels; grey where it cannot be decoded."""
        image = self._pixels[index]
        if image is None:
            own_height, own_width = self.sizes_hw[index].tolist()
            height, width = fit_size(own_height, own_width, self.image_size)
            image = np.full((height, width, 3), GREY, np.uint8)
            if self.augment:  # nothing to learn there; in validation its objects count as missed
                return image, Objects.none()
        objects = Objects.from_labels(self.labels[index], self.polygons[index], *image.shape[:2])
        return image, objects.with_regions(self.crowds[index][:, 1:], *image.shape[:2])

    def _letterboxed(self, index: int, scale_up: bool) -> tuple[np.ndarray, Objects, ImageGeometry]:
        """The image in its batch's shape, its objects, and how it came from the file."""
        resized, objects = self._load(index)
        image, geometry = letterbox(resized, tuple(self._shapes_hw[index].tolist()), scale_up=scale_up)
        objects = objects.place(geometry.scale, geometry.pad)
        original = tuple(self.sizes_hw[index].tolist())
        inner = (resized.shape[0] * geometry.scale[0], resized.shape[1] * geometry.scale[1])
        scale = (inner[0] / original[0], inner[1] / original[1])
        return image, objects, ImageGeometry(original, scale, geometry.pad)

    def _reorder(self, order: np.ndarray) -> None:
        self.paths = [self.paths[index] for index in order]
        self.labels = [self.labels[index] for index in order]
        self.polygons = [self.polygons[index] for index in order]
        self.crowds = [self.crowds[index] for index in order]
        for name in ("areas", "masks", "image_ids"):
            if getattr(self, name) is not None:
                setattr(self, name, [getattr(self, name)[index] for index in order])
        self.sizes_hw = self.sizes_hw[order]


def _as_class_0(labels: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.concatenate((rows[:, :1] * 0, rows[:, 1:]), axis=1) for rows in labels]


def _for_each_class(truth: GroundTruth, num_classes: int) -> GroundTruth:
    """Regions of all classes, -1, as one region of each class."""
    copies = np.where(truth.classes < 0, num_classes, 1)
    rows = np.repeat(np.arange(len(copies)), copies)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(copies) - copies, copies)
    classes = np.where(truth.classes[rows] < 0, within, truth.classes[rows])
    return GroundTruth(truth.boxes[rows], classes, truth.crowd[rows], truth.area[rows])


def _check_usable(scanned: ScannedSplit, split: str, augment: bool, description: DataDescription) -> None:
    where = f"{description.file}: {split}"
    if not scanned.paths:
        raise UserError(f"{where}: expected readable images but all were skipped: {scanned.report.problems[0]}")
    if (augment or split == "train") and not any(len(rows) for rows in scanned.labels):
        label_file = open_split(description, split).label_file
        raise UserError(
            f"{where}: expected labels to train on, but none of the {len(scanned.paths)} images has any. "
            f"The labels of {scanned.paths[0]} are looked for in {label_file(scanned.paths[0])}"
        )
