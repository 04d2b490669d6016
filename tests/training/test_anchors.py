"""Anchor statistics by hand, and the search on sizes whose best anchors are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.cases import case
from utils.training.anchors import anchor_fit, auto_anchor, evolve_anchors, object_sizes

ANCHORS = torch.tensor([[[10.0, 13], [16, 30]], [[62, 45], [59, 119]]])


def fake_dataset(sizes_px: np.ndarray, side: int = 100) -> SimpleNamespace:
    """One square image for each object."""
    labels = [np.array([[0, 0.5, 0.5, *(size / side)]], np.float32) for size in sizes_px]

    class Images(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.labels)

    return Images(labels=labels, sizes_hw=np.full((len(labels), 2), side))


def test_fit_by_hand() -> None:
    # (10, 10): ratios 1 and 0.5, so both fit within 4; (10, 50): 0.2 of the first's height, 0.4 of the second's
    fit = anchor_fit([[10, 10], [10, 50], [90, 90]], [[10, 10], [20, 20]], anchor_t=4.0)
    assert fit.best_possible_recall == pytest.approx(2 / 3)
    assert fit.anchors_above_threshold == pytest.approx(3 / 3)


def test_the_threshold_itself_does_not_fit() -> None:
    assert anchor_fit([[40, 10]], [[10, 10]], 4.0).best_possible_recall == 0
    assert anchor_fit([[39.9, 10]], [[10, 10]], 4.0).best_possible_recall == 1


def test_sizes_follow_the_longer_side_and_vary_by_a_tenth() -> None:
    dataset = fake_dataset(np.full((200, 2), 10.0))
    dataset.sizes_hw = np.tile([50, 100], (200, 1))  # half as high: so are the objects
    sizes = object_sizes(dataset, 200)
    assert 18 <= sizes[:, 0].min() < 18.5 and 21.5 < sizes[:, 0].max() <= 22
    np.testing.assert_allclose(sizes[:, 1] * 2, sizes[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(sizes, object_sizes(dataset, 200))


def test_good_anchors_are_kept() -> None:
    report = auto_anchor(fake_dataset(np.tile([15.0, 25.0], (30, 1))), ANCHORS, image_size=100)
    assert not report.replaced
    torch.testing.assert_close(report.anchors_px, ANCHORS)
    assert report.before == report.after and report.after.best_possible_recall == 1


def clusters() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = np.array([[3, 3], [6, 20], [40, 8], [70, 70]])
    return (centres[:, None] * rng.uniform(0.9, 1.1, (4, 60, 2))).reshape(-1, 2)


def test_evolution_finds_the_clusters_smallest_first() -> None:
    anchors = evolve_anchors(clusters(), 4, 100, 4.0)
    np.testing.assert_allclose(anchors, [[3, 3], [6, 20], [40, 8], [70, 70]], rtol=0.08)


def test_bad_anchors_are_replaced_the_same_way_every_time() -> None:
    dataset = fake_dataset(clusters())
    report = auto_anchor(dataset, ANCHORS * 10, image_size=100)
    assert report.replaced and report.anchors_px.shape == (2, 2, 2)
    assert report.after.best_possible_recall == 1 > report.before.best_possible_recall
    areas = report.anchors_px.prod(dim=2)
    assert areas[0].max() < areas[1].min()
    torch.testing.assert_close(report.anchors_px, auto_anchor(dataset, ANCHORS * 10, image_size=100).anchors_px)


def test_levels_keep_their_direction() -> None:
    report = auto_anchor(fake_dataset(clusters()), ANCHORS.flip(0) * 10, image_size=100)
    areas = report.anchors_px.prod(dim=2)
    assert areas[0].min() > areas[1].max()


def test_a_number_of_anchors_can_be_forced() -> None:
    dataset = fake_dataset(np.tile([15.0, 25.0], (30, 1)))
    report = auto_anchor(dataset, ANCHORS, image_size=100, anchors_per_level=1, generations=50)
    assert report.replaced and report.anchors_px.shape == (2, 1, 2)


def test_evolution_improves_on_k_means() -> None:
    rng = np.random.default_rng(1)
    sizes = np.exp(rng.uniform(1, 4.5, (300, 2)))

    def fitness(anchors: np.ndarray) -> float:
        ratios = sizes[:, None] / anchors
        best = np.minimum(ratios, 1 / ratios).min(axis=2).max(axis=1)
        return (best * (best > 0.25)).mean()

    start, end = (evolve_anchors(sizes, 6, 100, 4.0, generations=count) for count in (0, 500))
    assert fitness(end) > fitness(start) + 0.005


def test_fewer_objects_than_anchors() -> None:
    for num_objects in [0, 1, 3]:
        with case(num_objects):
            anchors = evolve_anchors(np.full((num_objects, 2), 30.0), 6, 64, 4.0, generations=100)
            assert anchors.shape == (6, 2)
            assert (anchors >= 2).all() and np.isfinite(anchors).all()
            if num_objects:
                assert anchor_fit(np.full((num_objects, 2), 30.0), anchors, 4.0).best_possible_recall == 1
