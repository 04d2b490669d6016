"""A small batch for the criterion: raw outputs, objects, and criteria built for it."""

from __future__ import annotations

import torch

from utils.boxes import build_anchor_table, flatten_levels
from utils.criterion.criterion import Criterion
from utils.criterion.matches import Matches, gather_matches
from utils.structures import RawPredictions

STRIDES = (8, 16, 32)


ANCHORS = torch.tensor(
    [
        [[10, 13], [16, 30], [33, 23]],
        [[30, 61], [62, 45], [59, 119]],
        [[116, 90], [156, 198], [373, 326]],
    ],
    dtype=torch.float64,
)


def scene(num_classes: int = 3, seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Random outputs for two images of 96 x 128 pixels, and five objects."""
    generator = torch.Generator().manual_seed(seed)
    raw = [
        torch.randn(2, 3, 96 // stride, 128 // stride, 5 + num_classes, generator=generator, dtype=torch.float64)
        for stride in STRIDES
    ]
    targets = torch.tensor(
        [
            [0, 0, 0.30, 0.40, 0.20, 0.30],
            [0, 1, 0.70, 0.60, 0.35, 0.15],
            [1, 2, 0.50, 0.50, 0.80, 0.90],
            [1, 0, 0.11, 0.92, 0.10, 0.12],
            [1, 1, 0.90, 0.20, 0.07, 0.30],
        ],
        dtype=torch.float64,
    )
    targets[:, 1] %= num_classes
    return raw, targets


def build(num_classes: int = 3, **hyp: object) -> Criterion:
    return Criterion(ANCHORS, STRIDES, num_classes, 128, hyp)


def predictions_of(raw: list[torch.Tensor]) -> RawPredictions:
    return RawPredictions.of(flatten_levels(raw))


def matches_of(criterion: Criterion, raw: list[torch.Tensor], targets: torch.Tensor) -> tuple[torch.Tensor, Matches]:
    """Flat outputs and the matches, one for each anchor, found in a plain loop."""
    table = build_anchor_table(ANCHORS.double(), STRIDES, [level.shape[2:4] for level in raw])
    predictions = predictions_of(raw)
    every = gather_matches(predictions, targets, table, criterion.assigner(targets, table))
    best: dict[tuple[int, int], int] = {}
    for row, place in enumerate(zip(every.image.tolist(), every.anchor.tolist(), strict=True)):
        if place not in best or every.iou[row] > every.iou[best[place]]:
            best[place] = row
    return predictions.values, every.select(torch.tensor([best[place] for place in sorted(best)], dtype=torch.long))


def raw_with_gradient(num_classes: int = 3, seed: int = 0) -> tuple[list[torch.Tensor], torch.Tensor]:
    raw, targets = scene(num_classes, seed)
    return [level.requires_grad_() for level in raw], targets
