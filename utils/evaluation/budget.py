"""Limits the detections kept per class over a whole evaluation, so that large data sets fit into memory."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.structures import Detections


class ClassBudget:
    """The score that a detection needs to be among the best of its class over all images seen.

    Without a confidence threshold every class has its full share of detections in every image: 40 million on COCO,
    nearly all of them far down the tail of a precision-recall curve. The best ``budget`` of each class over the data
    set are kept instead, as Dave et al. propose ("Evaluating large-vocabulary object detectors: the devil is in the
    details", 2021, section 4, with 10,000). The floor of a class only ever rises, so what is below it may be dropped
    at once; what remains in the end does not depend on the order of the images.

    Args:
        num_classes: C.
        budget: detections of a class over all images; those tied with the last are kept too.

    Attributes:
        floors: (C,) float64, the lowest score of each class that is still wanted; 0 while there is room.
    """

    def __init__(self, num_classes: int, budget: int) -> None:
        self.budget = budget
        self.floors = torch.zeros(num_classes, dtype=torch.float64)
        self._scores = torch.zeros(0, dtype=torch.float64)
        self._classes = torch.zeros(0, dtype=torch.int64)
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._num_pending = 0

    @property
    def thresholds(self) -> Tensor:
        """(C,) scores that those still wanted are above."""
        return self.floors.nextafter(torch.tensor(-1.0, dtype=torch.float64))

    def add(self, found: Detections) -> None:
        """Count the detections of an image, on the CPU."""
        self._pending.append((found.scores.double(), found.classes))
        self._num_pending += len(found.scores)
        if self._num_pending > self.budget + len(self._scores):  # rarely enough that sorting costs little in all
            self._settle()

    def keep(self, found: Detections) -> Detections:
        """Those of an image that are among the best of all images added."""
        self._settle()
        wanted = found.scores >= self.floors[found.classes]
        return Detections(*(column[wanted] for column in found))

    def _settle(self) -> None:
        """Raise the floors to the scores at the end of each class's budget, and forget what lies below."""
        if not self._pending:
            return
        scores, classes = (torch.cat(column) for column in zip(*self._pending, strict=True))
        scores, classes = torch.cat((self._scores, scores)), torch.cat((self._classes, classes))
        self._pending, self._num_pending = [], 0
        order = scores.sort(descending=True).indices
        order = order[classes[order].sort(stable=True).indices]
        scores, classes = scores[order], classes[order]
        counts = torch.bincount(classes, minlength=len(self.floors))
        last = counts.cumsum(0) - counts + self.budget - 1
        full = counts >= self.budget
        self.floors[full] = scores[last[full]]
        wanted = scores >= self.floors[classes]
        self._scores, self._classes = scores[wanted], classes[wanted]
