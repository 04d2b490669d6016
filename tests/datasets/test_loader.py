"""Samples and batches: a function of (seed, epoch, index), the same for any number of workers and processes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.config.hyperparameters import Hyperparameters
from utils.datasets import DetectionDataset, build_loader, collate, read_data_yaml
from utils.errors import UserError
from utils.structures import Batch

REPOSITORY = Path(__file__).resolve().parents[2]
BUSY = Hyperparameters(mosaic=0.7, mixup=0.5, degrees=10, shear=3, flipud=0.3)


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    """21 generated images."""
    file = tmp_path_factory.mktemp("set") / "few.yaml"
    file.write_text(
        "train: images/train\nval: images/val\nnames: [ellipse, star, cross]\n"
        "generator: {name: shapes, train: 21, val: 9, smallest_side: 64, largest_side: 160}\n"
    )
    return read_data_yaml(file)


def training_set(description, seed: int = 0) -> DetectionDataset:
    return DetectionDataset(description, "train", image_size=96, hyp=BUSY, augment=True, seed=seed)


def assert_equal_batches(first: Batch, second: Batch) -> None:
    assert first.indices == second.indices and first.paths == second.paths
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.targets, second.targets)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [2, 4])
def test_batches_do_not_depend_on_the_number_of_workers(description, monkeypatch, workers: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    alone = build_loader(training_set(description), 4, shuffle=True, workers=0)
    together = build_loader(training_set(description), 4, shuffle=True, workers=workers)
    assert together.num_workers == workers
    for epoch in (0, 3):
        alone.set_epoch(epoch)
        together.set_epoch(epoch)
        pairs = list(zip(alone, together, strict=True))
        assert len(pairs) == len(alone) == 6
        for first, second in pairs:
            assert_equal_batches(first, second)


def test_batches_of_two_processes_make_the_batch_of_one(description) -> None:
    dataset = training_set(description)
    whole = build_loader(dataset, 4, shuffle=True, workers=0)
    parts = [build_loader(dataset, 4, shuffle=True, workers=0, rank=rank, world_size=2) for rank in range(2)]
    assert [len(part) for part in parts] == [len(whole)] * 2
    for batch, *shares in zip(whole, *parts, strict=True):
        indices = tuple(index for share in shares for index in share.indices)
        filled = batch.indices if len(batch.indices) > 1 else (*batch.indices, next(iter(whole)).indices[0])
        assert indices == filled  # the last batch has one image: the second process takes the epoch's first
        images = torch.cat([share.images for share in shares])
        assert torch.equal(images[: len(batch.images)], batch.images)
        assert all(len(share.indices) for share in shares)


def test_validation_in_processes_sees_every_image_once(description) -> None:
    dataset = DetectionDataset(description, "val", image_size=96)
    parts = [build_loader(dataset, 4, workers=0, rank=rank, world_size=2) for rank in range(2)]
    seen = [index for part in parts for batch in part for index in batch.indices]
    assert sorted(seen) == list(range(9))
    assert [len(part) for part in parts] == [len(list(part)) for part in parts] == [3, 2]


def test_an_epoch_can_start_in_the_middle(description) -> None:
    loader = build_loader(training_set(description), 4, shuffle=True, workers=0)
    loader.set_epoch(2)
    whole = list(loader)
    loader.set_epoch(2, first_batch=4)
    rest = list(loader)
    assert len(rest) == 2 and len(loader) == 6
    for first, second in zip(whole[4:], rest, strict=True):
        assert_equal_batches(first, second)


def test_every_image_once_an_epoch_in_another_order(description) -> None:
    loader = build_loader(training_set(description), 4, shuffle=True, workers=0)
    orders = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        orders.append([index for batch in loader for index in batch.indices])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(21))
    assert orders[0] != orders[1]


def test_a_sample_depends_on_seed_epoch_and_index_alone(description) -> None:
    dataset = training_set(description)
    first = dataset[1, 5]
    for index in (3, 9):
        dataset[0, index]
    again = dataset[1, 5]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, dataset[2, 5].image)
    assert not np.array_equal(first.image, training_set(description, seed=1)[1, 5].image)
    np.testing.assert_array_equal(dataset[0, 5].image, dataset[5].image)


def test_global_generators_are_neither_used_nor_moved(description) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    list(build_loader(training_set(description), 8, shuffle=True, workers=0))
    list(build_loader(training_set(description), 8, shuffle=True, workers=2))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(numpy_before, np.random.get_state()[1])


def test_augmented_samples_are_well_formed(description) -> None:
    dataset = training_set(description)
    for epoch in range(3):
        for index in range(len(dataset)):
            sample = dataset[epoch, index]
            assert sample.image.shape == (96, 96, 3) and sample.image.dtype == np.uint8
            assert sample.labels.dtype == np.float32 and sample.geometry is None
            centre, half = sample.labels[:, 1:3], sample.labels[:, 3:] / 2
            assert (centre - half > -1e-6).all() and (centre + half < 1).all() and (half > 0).all()


def test_collated_targets_name_their_image(description) -> None:
    dataset = DetectionDataset(description, "val", image_size=96)
    samples = [dataset[index] for index in (2, 0, 1)]
    batch = collate([samples[0], samples[1]._replace(labels=np.zeros((0, 5), np.float32)), samples[2]])
    assert batch.images.shape == (3, 3, 96, 96) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch.images[2].permute(1, 2, 0), samples[2].image)
    expected = [0] * len(samples[0].labels) + [2] * len(samples[2].labels)
    assert batch.targets[:, 0].tolist() == expected
    np.testing.assert_array_equal(batch.targets[batch.targets[:, 0] == 2, 1:], samples[2].labels)
    assert batch.indices == (2, 0, 1) and batch.geometries[1] == samples[1].geometry


def test_background_alone_makes_a_batch(description) -> None:
    sample = DetectionDataset(description, "val", image_size=96)[0]._replace(labels=np.zeros((0, 5), np.float32))
    assert collate([sample]).targets.shape == (0, 6)


@pytest.mark.parametrize("rect", [False, True])
def test_geometry_leads_boxes_back_to_the_file(description, rect: bool) -> None:
    dataset = DetectionDataset(description, "val", image_size=160, rect=rect, batch_size=4, pad=0.5)
    for index in range(len(dataset)):
        sample = dataset[index]
        height, width = sample.image.shape[:2]
        geometry = sample.geometry
        assert geometry.original_hw == tuple(dataset.sizes_hw[index])
        centre = (sample.labels[:, 1:3] * (width, height) - geometry.pad[::-1]) / geometry.scale[::-1]
        expected = dataset.labels[index][:, 1:3] * geometry.original_hw[::-1]
        np.testing.assert_allclose(centre, expected, atol=0.01)


def test_rectangular_batches_have_the_smallest_shape_that_holds_them(description) -> None:
    dataset = DetectionDataset(description, "val", image_size=160, rect=True, batch_size=1, pad=0.0)
    ratios = dataset.sizes_hw[:, 0] / dataset.sizes_hw[:, 1]
    assert (np.diff(ratios) >= 0).all()
    shapes = [tuple(batch.images.shape[2:]) for batch in build_loader(dataset, 1, workers=0)]
    strides = np.ceil(np.stack((np.minimum(ratios, 1), np.minimum(1 / ratios, 1)), axis=1) * 160 / 32)
    assert shapes == [tuple(shape) for shape in (strides * 32).astype(int)]
    assert len(set(shapes)) > 2


def test_rectangular_training_stays_in_order(description, caplog) -> None:
    dataset = DetectionDataset(description, "train", image_size=96, rect=True, augment=True, batch_size=4)
    indices = [index for batch in build_loader(dataset, 4, shuffle=True, workers=0) for index in batch.indices]
    assert indices == list(range(21))
    assert "not shuffled" in caplog.text


@pytest.mark.parametrize(("batch_size", "world_size"), [(0, 1), (5, 2)])
def test_batch_sizes_that_cannot_be_shared_are_user_errors(description, batch_size: int, world_size: int) -> None:
    dataset = DetectionDataset(description, "val", image_size=96)
    with pytest.raises(UserError, match=rf"positive multiple of the {world_size} processes but got {batch_size}"):
        build_loader(dataset, batch_size, world_size=world_size)


def test_blood_cells_are_read_from_voc() -> None:
    folder = Path(os.environ.get("DATASETS_DIR") or REPOSITORY.parent / "shared" / "datasets")
    if not (folder / "BCCD").is_dir():
        pytest.skip(f"BCCD is not in {folder}: set DATASETS_DIR to the folder that holds it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASETS_DIR", str(folder))
        dataset = DetectionDataset(read_data_yaml(REPOSITORY / "data" / "bccd.yaml"), "val", image_size=320)
    assert len(dataset) == 87 and dataset.report.corrupt == 0
    counts = np.bincount(np.concatenate(dataset.labels)[:, 0].astype(int), minlength=3)
    assert counts[0] > 10 * counts[1] > 0 and counts[2] > 0  # red cells prevail
    assert dataset[0].image.shape == (320, 320, 3)
