"""AutoAnchor: how well anchors fit a data set, and better ones by k-means and evolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.cluster.vq import kmeans
from torch import Tensor

from models import DetectionModel
from utils.datasets.dataset import DetectionDataset
from utils.datasets.randomness import Stream, keyed_rng

SMALLEST_SIDE = 2.0  # pixels: objects with both sides below it are not clustered, no anchor gets smaller


class AnchorFit(NamedTuple):
    """How well anchors fit objects; an anchor fits when no side differs by more than the factor ``anchor_t``.

    Attributes:
        best_possible_recall: fraction of the objects that some anchor fits, in [0, 1].
        anchors_above_threshold: mean number of anchors that fit an object.
    """

    best_possible_recall: float
    anchors_above_threshold: float

    def __str__(self) -> str:
        return (
            f"best possible recall {self.best_possible_recall:.4f}, "
            f"{self.anchors_above_threshold:.2f} anchors fit an object"
        )


class AnchorReport(NamedTuple):
    """Result of :func:`auto_anchor`.

    Attributes:
        anchors_px: (L, A, 2) float32 widths and heights in pixels, in the level order of those given.
        replaced: they are new.
        before, after: fit of the given and of the returned anchors.
        text: the same as one line.
    """

    anchors_px: Tensor
    replaced: bool
    before: AnchorFit
    after: AnchorFit
    text: str


def anchor_fit(sizes_px: ArrayLike, anchors_px: ArrayLike, anchor_t: float) -> AnchorFit:
    """Measure anchors.

    Args:
        sizes_px: (n, 2) widths and heights of objects, pixels.
        anchors_px: (L, A, 2) or (k, 2), pixels.
        anchor_t: largest side ratio that still fits.

    Returns:
        AnchorFit: of perfect fit where there is no object.
    """
    closeness = _closeness(np.asarray(sizes_px, np.float64), _flat(anchors_px))
    if len(closeness) == 0:
        return AnchorFit(1.0, float(closeness.shape[1]))
    fits = closeness > 1 / anchor_t
    return AnchorFit(float(fits.any(axis=1).mean()), float(fits.sum(axis=1).mean()))


def auto_anchor(
    dataset: DetectionDataset,
    anchors_px: ArrayLike,
    *,
    image_size: int,
    anchor_t: float = 4.0,
    threshold: float = 0.98,
    seed: int = 0,
    generations: int = 1000,
    anchors_per_level: int | None = None,
) -> AnchorReport:
    """Keep anchors that fit a data set, replace others by k-means and evolution if that fits better.

    Args:
        dataset: whose objects count, at the size they have with the longer image side at ``image_size``, +/- 10 %.
        anchors_px: (L, A, 2) present anchors in pixels.
        image_size: pixels.
        anchor_t: largest side ratio that still fits.
        threshold: best possible recall up to which new anchors are looked for.
        seed: of the size jitter and the search.
        generations: of the evolution.
        anchors_per_level: this number of new anchors for each level regardless of the present ones.
    """
    present = np.asarray(torch.as_tensor(anchors_px).cpu(), np.float64)
    sizes = object_sizes(dataset, image_size, seed)
    before = anchor_fit(sizes, present, anchor_t)
    if anchors_per_level is None and before.best_possible_recall > threshold:
        return AnchorReport(_tensor(present), False, before, before, f"anchors kept: {before}")
    levels, per_level = present.shape[0], anchors_per_level or present.shape[1]
    found = evolve_anchors(sizes, levels * per_level, image_size, anchor_t, seed=seed, generations=generations)
    found = found.reshape(levels, per_level, 2)
    if present[0].prod(axis=1).mean() > present[-1].prod(axis=1).mean():
        found = found[::-1].copy()  # levels from coarse to fine
    after = anchor_fit(sizes, found, anchor_t)
    better = after.best_possible_recall > before.best_possible_recall
    if not better and anchors_per_level is None:
        text = f"anchors kept: {before}; none better were found ({after})"
        return AnchorReport(_tensor(present), False, before, before, text)
    listing = "  ".join(" ".join(f"{width:.0f},{height:.0f}" for width, height in level) for level in found)
    text = f"anchors replaced: {before} before; {after} now: {listing}"
    return AnchorReport(_tensor(found), True, before, after, text)


def fit_anchors(
    model: DetectionModel,
    dataset: DetectionDataset,
    image_size: int,
    anchor_t: float,
    *,
    seed: int = 0,
    keep: bool = False,
) -> str:
    """Check the anchors of a detector against a data set, replace them where others fit better, and report it.

    Args:
        model: missing anchors are computed in any case.
        dataset, image_size, anchor_t, seed: as in :func:`auto_anchor`.
        keep: leave anchors that exist as they are, however they fit.
    """
    if keep and not model.anchors_missing:
        return "anchors kept, unchecked (--noautoanchor)"
    report = auto_anchor(
        dataset,
        model.anchors_px,
        image_size=image_size,
        anchor_t=anchor_t,
        seed=seed,
        anchors_per_level=model.anchors_px.shape[1] if model.anchors_missing else None,
    )
    if report.replaced:
        model.set_anchors_px(report.anchors_px)
    return report.text


def object_sizes(dataset: DetectionDataset, image_size: int, seed: int = 0) -> np.ndarray:
    """Widths and heights (n, 2) of all objects in pixels, each image zoomed by a random 0.9 to 1.1."""
    rng = keyed_rng(Stream.ANCHORS, seed)
    zoom = rng.uniform(0.9, 1.1, (len(dataset), 1))
    sizes_wh = dataset.sizes_hw[:, ::-1] * (image_size * zoom / dataset.sizes_hw.max(axis=1, keepdims=True))
    counts = [len(rows) for rows in dataset.labels]
    return np.concatenate([rows[:, 3:5] for rows in dataset.labels]) * np.repeat(sizes_wh, counts, axis=0)


def evolve_anchors(
    sizes_px: np.ndarray, num_anchors: int, image_size: int, anchor_t: float, *, seed: int = 0, generations: int = 1000
) -> np.ndarray:
    """Find anchors by k-means, refined by random mutations.

    Args:
        sizes_px: (n, 2) widths and heights of objects, pixels.
        num_anchors: k.
        image_size: pixels; scale of the random start where there are fewer objects than anchors.
        anchor_t: largest side ratio that still fits.
        seed, generations: of the mutations.

    Returns:
        (k, 2) anchors in pixels, smallest area first, rounded to what half precision holds.
    """
    rng = keyed_rng(Stream.ANCHORS, seed, index=1)
    sizes = sizes_px[(sizes_px >= SMALLEST_SIDE).any(axis=1)]
    anchors = _cluster(sizes, num_anchors, rng)
    if anchors is None:
        anchors = np.sort(rng.uniform(0, image_size, (num_anchors, 2)), axis=0)
    anchors = np.maximum(anchors, SMALLEST_SIDE)
    best = _fitness(sizes, anchors, anchor_t)
    for _ in range(generations if len(sizes) else 0):
        mutated = np.maximum(anchors * _mutation(anchors.shape, rng), SMALLEST_SIDE)
        fitness = _fitness(sizes, mutated, anchor_t)
        if fitness > best:
            anchors, best = mutated, fitness
    anchors = anchors[np.argsort(anchors.prod(axis=1), kind="stable")]
    return anchors.astype(np.float16).astype(np.float64)


def _cluster(sizes: np.ndarray, num_anchors: int, rng: np.random.Generator) -> np.ndarray | None:
    """k-means centres (k, 2), each axis in units of its deviation; None where the sizes form fewer clusters."""
    if len(sizes) < num_anchors:
        return None
    deviation = sizes.std(axis=0)
    deviation[deviation == 0] = 1.0
    centres, _ = kmeans(sizes / deviation, num_anchors, iter=30, rng=rng)
    return centres * deviation if len(centres) == num_anchors else None


def _mutation(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Factors around 1, at least one of which is not 1."""
    factors = np.ones(shape)
    while (factors == 1).all():
        mask = rng.random(shape) < 0.9
        factors = (mask * rng.random() * rng.standard_normal(shape) * 0.1 + 1).clip(0.3, 3.0)
    return factors


def _fitness(sizes: np.ndarray, anchors: np.ndarray, anchor_t: float) -> float:
    """Mean closeness of the best anchor, 0 for objects that none fits."""
    if len(sizes) == 0:
        return 0.0
    best = _closeness(sizes, anchors).max(axis=1)
    return float((best * (best > 1 / anchor_t)).mean())


def _closeness(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """For each object and anchor (n, k) the smaller of their side ratios, in (0, 1]; 1 for equal shapes."""
    ratios = sizes[:, None] / anchors[None]
    return np.minimum(ratios, 1 / np.maximum(ratios, 1e-12)).min(axis=2)


def _flat(anchors_px: ArrayLike) -> np.ndarray:
    return np.asarray(torch.as_tensor(anchors_px).cpu(), np.float64).reshape(-1, 2)


def _tensor(anchors: np.ndarray) -> Tensor:
    return torch.from_numpy(anchors).float()
