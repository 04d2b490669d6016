"""Image weights: by hand, drawn as often as they say, equal for workers, processes and after an interruption."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

import study
import train
from tests.painted_objects import NAMES, write_data_set
from tests.training_runs import interrupted_run, results, same_weights
from utils.checkpoint import load_checkpoint
from utils.config.hyperparameters import Hyperparameters
from utils.datasets import DetectionDataset, build_loader, read_data_yaml
from utils.datasets.image_weights import image_weights
from utils.datasets.randomness import count_repeats, sample_rng, weighted_order
from utils.errors import UserError
from utils.metrics import Metrics


def rows(*classes: int) -> np.ndarray:
    return np.array([[cls, 0.5, 0.5, 0.1, 0.1] for cls in classes], np.float32).reshape(-1, 5)


LABELS = [rows(0, 0), rows(1), rows(0, 1), rows()]


def test_weights_by_hand() -> None:
    """Three objects of class 0, two of class 1: 1/3 and 1/2, scaled to a sum of 2, are 0.8 and 1.2; halved by C = 2."""
    np.testing.assert_allclose(image_weights(LABELS, (0, 0)), [0.8, 0.6, 1.0, 0])
    # a class with an AP of 0.5 counts a quarter
    np.testing.assert_allclose(image_weights(LABELS, (0, 0.5)), [0.8, 0.15, 0.55, 0])


def test_a_class_without_objects_changes_no_proportion() -> None:
    two, three = image_weights(LABELS, (0.2, 0.5)), image_weights(LABELS, (0.2, 0.5, 0.0))
    np.testing.assert_allclose(two / two.sum(), three / three.sum())


def test_where_nothing_is_left_to_learn_all_images_are_equal() -> None:
    np.testing.assert_array_equal(image_weights(LABELS, (1, 1)), np.ones(4))


def test_images_are_drawn_as_often_as_their_weights_say() -> None:
    """400 epochs of 5 draws: of 2000, with probability p, np on average; five standard deviations apart at most."""
    weights = np.array([4.0, 3.0, 0.0, 2.0, 1.0])
    counts = np.bincount(np.concatenate([weighted_order(weights, 0, epoch) for epoch in range(400)]), minlength=5)
    p = weights / 10
    assert (np.abs(counts - 2000 * p) <= 5 * np.sqrt(2000 * p * (1 - p))).all() and counts[2] == 0
    np.testing.assert_array_equal(weighted_order(weights, 0, 7), weighted_order(3 * weights, 0, 7))
    assert not np.array_equal(weighted_order(weights, 0, 7), weighted_order(weights, 1, 7))


def test_repeats_are_counted() -> None:
    np.testing.assert_array_equal(count_repeats(np.array([3, 1, 3, 3, 0, 1])), [0, 0, 1, 2, 0, 1])


def test_a_repetition_has_numbers_of_its_own() -> None:
    first = sample_rng(1, 2, 3).random(5)
    np.testing.assert_array_equal(first, sample_rng(1, 2, 3, 0).random(5))
    assert not np.isin(first, sample_rng(1, 2, 3, 1).random(1000)).any()


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    """21 generated images."""
    file = tmp_path_factory.mktemp("set") / "few.yaml"
    file.write_text(
        "train: images/train\nval: images/val\nnames: [ellipse, star, cross]\n"
        "generator: {name: shapes, train: 21, val: 9, smallest_side: 64, largest_side: 160}\n"
    )
    return read_data_yaml(file)


def weighed_loader(description, workers: int = 0, rank: int = 0, world_size: int = 1):
    dataset = DetectionDataset(
        description, "train", image_size=96, hyp=Hyperparameters(mosaic=0.7, mixup=0.5), augment=True
    )
    return build_loader(dataset, 4, shuffle=True, workers=workers, rank=rank, world_size=world_size)


def test_workers_see_the_weights_of_every_epoch(description, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that were set after they had begun: partners in mosaics are drawn by the workers."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    alone, together = weighed_loader(description), weighed_loader(description, workers=2)
    assert together.num_workers == 2
    first_images = []
    for epoch, class_ap in enumerate([(0.0, 0.0, 0.0), (0.9, 0.9, 0.0), (0.0, 0.99, 0.99)]):
        for loader in (alone, together):
            loader.set_epoch(epoch)
            loader.weigh_images(class_ap)
        batches = list(zip(alone, together, strict=True))
        assert len(batches) == 6
        for one, other in batches:
            assert one.indices == other.indices
            assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
        first_images.append(batches[0][0].indices)
    assert len(set(first_images)) == 3


def test_two_processes_make_the_batches_of_one(description) -> None:
    whole = weighed_loader(description)
    parts = [weighed_loader(description, rank=rank, world_size=2) for rank in range(2)]
    for loader in (whole, *parts):
        loader.weigh_images((0.5, 0.0, 0.9))
    for batch, *shares in list(zip(whole, *parts, strict=True))[:-1]:
        assert batch.indices == tuple(index for share in shares for index in share.indices)
        assert torch.equal(batch.images, torch.cat([share.images for share in shares]))


def test_an_image_that_comes_twice_looks_different_each_time(description) -> None:
    loader = weighed_loader(description)
    loader.weigh_images((0.0, 0.99, 0.99))
    seen: dict[int, list[torch.Tensor]] = {}
    for batch in loader:
        for index, image in zip(batch.indices, batch.images, strict=True):
            seen.setdefault(index, []).append(image)
    repeated = [images for images in seen.values() if len(images) > 1]
    assert repeated and not any(torch.equal(*images[:2]) for images in repeated)


def test_partners_in_mosaics_are_drawn_by_weight_too(tmp_path: Path) -> None:
    """With all weight on the picture with the green object every mosaic and mixture shows green objects alone."""
    description = read_data_yaml(write_data_set(tmp_path / "set"))
    hyp = Hyperparameters(mixup=1, mosaic9=0.5)
    dataset = DetectionDataset(description, "train", image_size=64, hyp=hyp, augment=True)

    def classes() -> set[int]:
        return {int(cls) for epoch in range(10) for cls in dataset[epoch, 1].labels[:, 0]}

    assert Path(dataset.paths[1]).stem == "2" and classes() == {0, 1, 2}
    dataset.set_weights(np.array([0.0, 2.0, 0.0, 0.0]))
    assert classes() == {NAMES.index("green")}


@pytest.mark.parametrize("quad", [False, True])
def test_a_loader_tells_its_data_set(description, quad: bool) -> None:
    plain, told, set_by_hand = (weighed_loader(description).images for _ in range(3))
    class_ap = (0.0, 0.99, 0.99)
    build_loader(told, 4, shuffle=True, quad=quad, workers=0).weigh_images(class_ap)
    set_by_hand.set_weights(image_weights(set_by_hand.labels, class_ap))
    images = [[dataset[0, index].image for index in range(4)] for dataset in (plain, told, set_by_hand)]
    np.testing.assert_array_equal(images[1], images[2])
    assert not np.array_equal(images[0], images[1])


def with_ap(metrics: Metrics, class_ap: list[float]) -> Metrics:
    """The metrics with another AP for each class, equal at all IoU thresholds."""
    curves = np.broadcast_to(np.array(class_ap)[:, None, None], metrics.precision_curves.shape)
    return dataclasses.replace(metrics, precision_curves=curves)


def let_it_learn(patch: pytest.MonkeyPatch) -> None:
    """Validations that find red better from step to step, and green never; a real network here finds nothing yet."""
    validate_average = train.validate_average

    def promising(session: train.Session) -> train.Validation:
        result = validate_average(session)
        ap = [1 - 0.3 ** (session.parts.ema.updates + 1), 0.1, 0.5]
        return result._replace(metrics=with_ap(result.metrics, ap))

    patch.setattr(train, "validate_average", promising)


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> None:
    let_it_learn(monkeypatch)


def drawn_images(patch: pytest.MonkeyPatch) -> list[list[int]]:
    """Images of each epoch that will be trained."""
    epochs: list[list[int]] = []
    one_epoch = train.run_epoch

    def watched(session: train.Session, epoch: int) -> dict:
        losses = one_epoch(session, epoch)
        epochs.append([index for batch in session.parts.train_loader for index in batch.indices])
        return losses

    patch.setattr(train, "run_epoch", watched)
    return epochs


@pytest.mark.usefixtures("learning")
def test_training_draws_by_the_ap_of_the_last_validation(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures by name: 1 red and blue, 2 green, 3 nothing, street one of each; the first epoch knows no AP yet."""
    epochs = drawn_images(monkeypatch)
    train.run(**options, image_weights=True)
    labels = [rows(0, 2), rows(1), rows(), rows(0, 1, 2)]
    for epoch, drawn in enumerate(epochs):
        ap = (0, 0, 0) if epoch == 0 else (1 - 0.3 ** (steps_until(epoch) + 1), 0.1, 0.5)
        assert drawn == weighted_order(image_weights(labels, ap), 0, epoch).tolist()


def steps_until(epoch: int) -> int:
    """Optimiser steps before an epoch: during the warm-up of this training, each of two batches makes one."""
    return 2 * epoch


@pytest.mark.usefixtures("learning")
def test_a_resumed_run_draws_what_it_would_have_drawn(options: dict) -> None:
    options |= {"epochs": 5, "image_weights": True}
    whole = train.run(**options)
    last = interrupted_run(options, after=3)
    assert load_checkpoint(last)["epoch"] == 2
    resumed = train.run(resume=str(last))
    assert results(resumed.save_dir).equals(results(whole.save_dir)) and same_weights(resumed.last, whole.last)


def train_in_a_group(rank: int, port: int, settings: dict, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        let_it_learn(patch)
        epochs = drawn_images(patch)
        train.run(**settings)
    (folder / f"{rank}.json").write_text(json.dumps(epochs))


@pytest.mark.slow
@pytest.mark.usefixtures("learning")
def test_all_processes_draw_by_what_the_main_one_measured(
    options: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options |= {"epochs": 8, "batch_size": 4, "image_weights": True}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(train_in_a_group, args=(port, options, tmp_path), nprocs=2)
    shares = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    alone = drawn_images(monkeypatch)
    train.run(**options)
    assert [first + second for first, second in zip(*shares, strict=True)] == alone


def test_a_class_that_validation_lacks_counts_as_the_mean(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    validate_average, sessions = train.validate_average, []

    def without_blue(session: train.Session) -> train.Validation:
        result = validate_average(session)
        ap = [0.2, 0.6, np.nan]
        sessions.append(session)
        return result._replace(metrics=with_ap(result.metrics, ap))

    monkeypatch.setattr(train, "validate_average", without_blue)
    train.run(**options | {"epochs": 1})
    assert sessions[0].progress.class_ap == pytest.approx((0.2, 0.6, 0.4))


def test_settings_that_contradict_image_weights(options: dict, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match="--rect fixes which images form a batch, --image-weights samples them anew"):
        train.run(**options, rect=True, image_weights=True)
    with pytest.raises(
        UserError, match=r"--image-weights is not an option of study.py train: it samples by a run's own"
    ):
        study.run(hyps=["hyp.iou.yaml"], seeds=[0], image_weights=True)
    train.run(**options | {"epochs": 1}, noval=True, image_weights=True)
    assert "without validation, images are sampled by class frequency alone" in caplog.text
