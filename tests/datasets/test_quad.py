"""Images of four: pixels and labels by hand, equal batches for workers and processes, and the weight of the loss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import train
from tests.painted_sets import assert_labels_follow_pixels, painted_set
from tests.training_runs import interrupted_run, results, same_weights
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.criterion import Criterion
from utils.datasets import DetectionDataset, build_loader, read_data_yaml
from utils.datasets.letterbox import rectangular_shapes
from utils.datasets.quad import QuadDataset, enlarge, lay_out
from utils.datasets.randomness import SampleKey
from utils.errors import UserError
from utils.structures import LossOutput, Sample

STRIDE = 8  # of the finest level of the tiny network


def sample(value: int, *labels: tuple[float, ...]) -> Sample:
    image = np.full((40, 60, 3), value, np.uint8)
    return Sample(image, np.array(labels, np.float32).reshape(-1, 5), f"{value}.jpg", None, value)


def test_four_samples_laid_out_by_hand() -> None:
    box = (0.5, 0.25, 0.2, 0.5)  # centre x, centre y, width, height
    samples = [sample(10, (0, *box)), sample(20), sample(30, (1, *box), (2, 1.0, 1.0, 0.1, 0.1)), sample(40, (3, *box))]
    quad = lay_out(samples)
    assert quad.image.shape == (80, 120, 3)
    assert [quad.image[y, x, 0] for y in (0, 39, 40, 79) for x in (0, 59, 60, 119)] == [10, 10, 20, 20] * 2 + [
        *(30, 30, 40, 40),
        *(30, 30, 40, 40),
    ]
    expected = [
        (0, 0.25, 0.125, 0.1, 0.25),
        (1, 0.25, 0.625, 0.1, 0.25),
        (2, 0.5, 1.0, 0.05, 0.05),
        (3, 0.75, 0.625, 0.1, 0.25),
    ]
    np.testing.assert_allclose(quad.labels, expected, atol=1e-7)
    assert quad.labels.dtype == np.float32 and (quad.path, quad.position) == ("10.jpg", 10)
    np.testing.assert_array_equal(samples[0].labels[0, 1:], np.float32(box))


def test_background_alone_makes_a_quad() -> None:
    assert lay_out([sample(value) for value in range(4)]).labels.shape == (0, 5)


def test_an_enlarged_sample_keeps_its_labels() -> None:
    small = sample(0, (1, 0.5, 0.5, 0.5, 0.5))
    small.image[10:30, 15:45] = 255
    large = enlarge(small)
    np.testing.assert_array_equal(large.image[22:58, 32:88], 255)
    assert large.image.shape == (80, 120, 3) and large.image[:18].max() == large.image[:, :28].max() == 0
    np.testing.assert_array_equal(large.labels, small.labels)


def test_labels_follow_pixels_through_the_data_set(tmp_path: Path) -> None:
    """Both kinds, about equally often, at twice the size of the data set's images."""
    dataset = painted_set(tmp_path / "set")
    quads = QuadDataset(dataset)
    enlarged = 0
    for epoch in range(40):
        keys = [SampleKey(epoch, index) for index in (2, 0, 3, 1)]
        quad = quads[keys]
        assert quad.image.shape == (256, 256, 3)
        assert_labels_follow_pixels(quad)
        single = dataset[keys[0]]
        twice = cv2.resize(single.image, (256, 256), interpolation=cv2.INTER_LINEAR)
        enlarged += np.array_equal(quad.image, twice)
        if not np.array_equal(quad.image, twice):
            np.testing.assert_array_equal(quad.image[:128, :128], single.image)
            np.testing.assert_array_equal(quad.image[128:, :128], dataset[keys[2]].image)
    assert len(quads) == 1 and 10 <= enlarged <= 30, "20 are expected, with a standard deviation of 3.2"


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    """22 generated images: five groups of four, and one of two."""
    file = tmp_path_factory.mktemp("set") / "few.yaml"
    file.write_text(
        "train: images/train\nval: images/val\nnames: [ellipse, star, cross]\n"
        "generator: {name: shapes, train: 22, val: 9, smallest_side: 64, largest_side: 160}\n"
    )
    return read_data_yaml(file)


def quad_loader(description, **settings: int):
    hyp = Hyperparameters(mosaic=0.7)
    dataset = DetectionDataset(description, "train", image_size=96, hyp=hyp, augment=True)
    return build_loader(dataset, 8, shuffle=True, quad=True, **{"workers": 0, **settings})


def test_batches_hold_a_quarter_of_the_images_at_twice_the_size(description) -> None:
    loader = quad_loader(description)
    batches = list(loader)
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 3, 192, 192)] * 3 and len(loader) == 3
    assert len(loader.dataset) == 6 and loader.enlargement == 2
    assert all(int(batch.targets[:, 0].max()) == 1 for batch in batches)


def test_an_epoch_takes_every_image_and_fills_the_last_group_with_its_own(description) -> None:
    batches = list(quad_loader(description).batch_sampler)
    groups = [group for batch in batches for group in batch]
    assert [len(group) for group in groups] == [4] * 6
    whole, (first, second, third, fourth) = [key for group in groups[:5] for key in group], groups[5]
    assert sorted(key.position for key in [*whole, first, second]) == list(range(22))
    assert third == first._replace(repeat=1) and fourth == second._replace(repeat=1)


def test_workers_and_processes_see_the_same_quads(description, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    whole, parts = quad_loader(description), [quad_loader(description, rank=rank, world_size=2) for rank in range(2)]
    workers = quad_loader(description, workers=2)
    assert workers.num_workers == 2
    for loader in (whole, workers, *parts):
        loader.set_epoch(1)
    for one, other, *shares in zip(whole, workers, *parts, strict=True):
        assert one.indices == other.indices == tuple(index for share in shares for index in share.indices)
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
        assert torch.equal(one.images, torch.cat([share.images for share in shares]))


def test_rectangular_quads_have_the_shape_of_their_batch(description) -> None:
    """Also the last one, whose two images stand for four."""
    settings = {"image_size": 96, "rect": True, "batch_size": 4, "stride": 8, "augment": True}
    dataset = DetectionDataset(description, "train", **settings)
    _, expected = rectangular_shapes(dataset.sizes_hw, 4, 96, 8, 0.0)
    batches = list(build_loader(dataset, 4, quad=True, workers=0))
    assert [tuple(batch.images.shape) for batch in batches] == [(1, 3, 2 * h, 2 * w) for h, w in expected]
    assert len({batch.images.shape for batch in batches}) > 1


def test_an_image_of_four_weighs_as_much_as_four(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is differentiated is the criterion's total, which counts the images of a batch, times 4."""
    totals, scaled, shapes = [], [], []
    forward, scale = Criterion.forward, torch.amp.GradScaler.scale

    def watched_forward(self: Criterion, raw: list[torch.Tensor], *others: Any, **named: Any) -> LossOutput:
        output = forward(self, raw, *others, **named)
        if raw[0].requires_grad:
            totals.append(output.total.item())
            shapes.append((len(raw[0]), raw[0].shape[2] * STRIDE))
        return output

    def watched_scale(self: torch.amp.GradScaler, loss: torch.Tensor) -> torch.Tensor:
        scaled.append(loss.item())
        return scale(self, loss)

    monkeypatch.setattr(Criterion, "forward", watched_forward)
    monkeypatch.setattr(torch.amp.GradScaler, "scale", watched_scale)
    options |= {"epochs": 1, "batch_size": 4}
    train.run(**options, quad=True)
    assert scaled == [4 * total for total in totals] and shapes == [(1, 2 * 64)]
    totals.clear(), scaled.clear(), shapes.clear()
    train.run(**options)
    assert scaled == totals and shapes == [(4, 64)]


def test_multi_scale_varies_the_doubled_size(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    forward = Criterion.forward

    def watched(self: Criterion, raw: list[torch.Tensor], *others: Any, **named: Any) -> LossOutput:
        sizes.extend([raw[0].shape[2] * STRIDE] if raw[0].requires_grad else [])
        return forward(self, raw, *others, **named)

    monkeypatch.setattr(Criterion, "forward", watched)
    train.run(**options | {"epochs": 12, "batch_size": 4, "noval": True}, quad=True, multi_scale=True)
    assert min(sizes) >= 64 and max(sizes) > 1.5 * 64 and len(set(sizes)) > 3


def test_a_resumed_run_equals_one_that_never_stopped(options: dict) -> None:
    options |= {"epochs": 4, "batch_size": 4, "quad": True, "image_weights": True, "set": ["mosaic9=0.5"]}
    whole = train.run(**options)
    resumed = train.run(resume=str(interrupted_run(options, after=2)))
    assert results(resumed.save_dir).equals(results(whole.save_dir)) and same_weights(resumed.last, whole.last)


def test_batches_that_fours_cannot_fill_are_user_errors(options: dict, description) -> None:
    with pytest.raises(UserError, match="--batch-size: expected a positive multiple of the 1 processes times 4 images"):
        train.run(**options | {"batch_size": 6}, quad=True)
    assert not Path(options["project"]).exists()
    with pytest.raises(UserError, match=r"batch size: .* 2 processes times 4 images but got 12"):
        build_loader(painted_set(Path(options["project"]).parent / "other"), 12, quad=True, world_size=2)
