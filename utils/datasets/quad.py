"""Images of twice the size for ``--quad``: of four samples together, or of a single one enlarged."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch.utils.data import Dataset

from utils.datasets.dataset import DetectionDataset
from utils.datasets.objects import NO_REGIONS
from utils.datasets.randomness import SampleKey, Stream, keyed_rng
from utils.structures import Sample

QUAD = 4  # samples that stand behind one


class QuadDataset(Dataset[Sample]):
    """Groups of four samples of a data set, each as one sample of twice its height and width.

    ``quads[k1, k2, k3, k4]`` with four keys of the data set lays their samples out two by two, or enlarges the first
    one alone, both equally likely; which of the two follows from the seed and the first key.

    Args:
        dataset: with augmentation; the samples of a group must have one shape.
    """

    def __init__(self, dataset: DetectionDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return -(-len(self._dataset) // QUAD)

    def __getitem__(self, keys: Sequence[SampleKey]) -> Sample:
        if keyed_rng(Stream.QUAD, self._dataset.seed, *keys[0]).random() < 0.5:
            return enlarge(self._dataset[keys[0]])
        return lay_out([self._dataset[key] for key in keys])


def enlarge(sample: Sample) -> Sample:
    """A sample with each side twice as long, bilinearly."""
    height, width = sample.image.shape[:2]
    image = cv2.resize(sample.image, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    return sample._replace(image=image, geometry=None)


def lay_out(samples: Sequence[Sample]) -> Sample:
    """Four samples of one shape as one: two beside each other above the other two. Path and index are the first's."""
    first, second, third, fourth = (sample.image for sample in samples)
    image = np.concatenate((np.concatenate((first, second), axis=1), np.concatenate((third, fourth), axis=1)))
    corners = np.array([(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)], np.float32)

    def laid_out(parts: Sequence[np.ndarray]) -> np.ndarray:
        """Rows that end in ``xywhn``, in the fractions of the large image."""
        rows = np.concatenate(parts)
        rows[:, -4:] *= 0.5
        rows[:, -4:-2] += np.repeat(corners, [len(part) for part in parts], axis=0)
        return rows

    regions = [NO_REGIONS if sample.regions is None else sample.regions for sample in samples]
    return Sample(
        image,
        laid_out([sample.labels for sample in samples]),
        samples[0].path,
        None,
        samples[0].position,
        laid_out(regions) if any(map(len, regions)) else None,
    )
