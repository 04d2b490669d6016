"""Pictures: what is drawn where, that nothing leaves the image, and that every figure can be read back."""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from tests.cases import case
from utils.errors import UserError
from utils.plots.boxes import class_colour, draw_boxes, plot_batch, score_text
from utils.plots.training import plot_labels, plot_results
from utils.structures import Detections
from utils.training.log import RunLog

NAMES = {0: "red cell", 1: "white cell", 2: "Größe"}


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


def has_colour(image: np.ndarray, colour: tuple[int, int, int], tolerance: int = 0) -> bool:
    return bool((np.abs(image.astype(int) - colour).max(axis=-1) <= tolerance).any())


def test_colours_of_neighbouring_classes_are_far_apart():
    colours = np.array([class_colour(index) for index in range(80)])
    assert colours.min() >= 0 and colours.max() <= 255
    assert len(np.unique(colours, axis=0)) == 80
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 100


def test_a_box_is_drawn_on_its_border_in_its_colour_and_the_image_is_not_changed():
    image = grey(100, 200)
    drawn = draw_boxes(image, [[20, 30, 80, 70]], classes=[3], line_thickness=1)
    assert (image == 100).all()
    expected = np.zeros((100, 200), bool)
    expected[30:71, 20:81] = True
    expected[31:70, 21:80] = False
    assert (changed(image, drawn) == expected).all()
    assert (drawn[expected] == class_colour(3)).all()


def test_line_thickness_grows_with_the_image():
    thin, thick = (
        changed(image := grey(side, side), draw_boxes(image, [[side / 4, side / 4, side / 2, side / 2]])).sum() / side
        for side in (200, 2000)
    )
    assert thick > 4 * thin


def test_texts_are_never_cut_by_the_border_of_the_image():
    for box in [[0, 0, 90, 90], [510, 0, 599, 60], [590, 200, 599, 250], [0, 290, 30, 299], [-50, -50, 700, 400]]:
        with case(box):
            num_white = [
                (draw_boxes(grey(300, 600), [corners], ["Größe 0.87"], [1]) == 255).all(axis=2).sum()
                for corners in (box, [200, 100, 400, 200])
            ]
            assert num_white[0] == num_white[1] > 10


def test_texts_fit_into_images_that_are_hardly_higher_than_a_line():
    low, high = (draw_boxes(grey(height, 200), [[10, 8, 30, 12]], ["Größe"], [1]) for height in (16, 100))
    assert (low == 255).all(axis=2).sum() == (high == 255).all(axis=2).sum() > 5


def test_letters_contrast_with_their_ground():
    for index in range(30):
        image = draw_boxes(grey(100, 200), [[20, 40, 180, 90]], ["MMMM"], [index])
        ink = (0, 0, 0) if has_colour(image, (0, 0, 0), 30) else (255, 255, 255)
        assert has_colour(image, ink, 30)
        assert np.abs(np.mean(class_colour(index)) - ink[0]) > 50


def test_drawing_takes_tensors_and_nothing_at_all():
    image = grey(50, 50)
    boxes = torch.tensor([[5.0, 5.0, 20.0, 20.0]])
    from_tensor = draw_boxes(image, boxes, ["a"], torch.tensor([2]))
    assert (from_tensor == draw_boxes(image, boxes.numpy(), ["a"], [2])).all()
    assert (draw_boxes(image, np.zeros((0, 4))) == image).all()
    assert draw_boxes(image, [[30, 30, 10, 10]]).shape == image.shape  # inside out
    with pytest.raises(ValueError, match="zip"):
        draw_boxes(image, boxes, ["a", "b"], [0])


# ---- batches --------------------------------------------------------------------------------------------------------


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def test_a_batch_becomes_a_grid_with_each_box_in_its_own_cell(tmp_path):
    images = torch.full((3, 3, 320, 480), 100, dtype=torch.uint8)
    targets = torch.tensor([[1.0, 2.0, 0.5, 0.5, 0.5, 0.5]])
    plot_batch(images, targets, tmp_path / "batch.png", NAMES)
    grid = read(tmp_path / "batch.png")
    assert grid.shape == (2 * 322 + 2, 2 * 482 + 2, 3)
    cells = [grid[top : top + 320, left : left + 480] for top in (2, 324) for left in (2, 484)]
    assert [has_colour(cell, class_colour(2)) for cell in cells] == [False, True, False, False]
    assert (cells[3] == 255).all()  # no fourth image
    border = (cells[1] == class_colour(2)).all(axis=2)
    assert border[80:241, 120].all() and border[80:241, 360].all() and border[240, 120:361].all()


def test_colours_of_a_batch_are_not_swapped(tmp_path):
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[:, 0] = 255  # red
    plot_batch(images, torch.zeros(0, 6), tmp_path / "batch.png", NAMES)
    assert read(tmp_path / "batch.png")[16, 16].tolist() == [0, 0, 255]


def test_detections_are_shown_from_the_confidence_threshold_on(tmp_path):
    images = torch.full((1, 3, 200, 200), 100, dtype=torch.uint8)
    boxes = torch.tensor([[20.0, 60.0, 80.0, 120.0], [110.0, 60.0, 180.0, 120.0]])
    found = [Detections(boxes, torch.tensor([0.9, 0.2]), torch.tensor([0, 1]))]
    plot_batch(images, found, tmp_path / "pred.png", NAMES)
    picture = read(tmp_path / "pred.png")
    assert has_colour(picture, class_colour(0)) and not has_colour(picture, class_colour(1))
    plot_batch(images, found, tmp_path / "pred.png", NAMES, conf_thres=0.1)
    assert has_colour(read(tmp_path / "pred.png"), class_colour(1))


def test_thresholds_may_differ_by_class(tmp_path):
    images = torch.full((1, 3, 200, 200), 100, dtype=torch.uint8)
    boxes = torch.tensor([[20.0, 60.0, 80.0, 120.0], [110.0, 60.0, 180.0, 120.0]])
    found = [Detections(boxes, torch.tensor([0.9, 2e-5]), torch.tensor([0, 1]))]
    plot_batch(images, found, tmp_path / "pred.png", NAMES, conf_thres=[0.95, 1e-5])
    picture = read(tmp_path / "pred.png")
    assert has_colour(picture, class_colour(1)) and not has_colour(picture, class_colour(0))


def test_labels_stand_on_the_left_of_detections(tmp_path):
    images = torch.full((1, 3, 320, 320), 100, dtype=torch.uint8)
    labels = torch.tensor([[0.0, 2.0, 0.5, 0.5, 0.5, 0.5]])
    found = [Detections(torch.tensor([[80.0, 80.0, 240.0, 240.0]]), torch.tensor([0.9]), torch.tensor([1]))]
    plot_batch(images, found, tmp_path / "pair.png", NAMES, beside=labels)
    picture = read(tmp_path / "pair.png")
    assert picture.shape == (320 + 4, 2 * 320 + 4, 3)
    left, right = picture[:, :322], picture[:, 322:]
    assert has_colour(left, class_colour(2)) and not has_colour(left, class_colour(1))
    assert has_colour(right, class_colour(1)) and not has_colour(right, class_colour(2))


def test_large_batches_are_cut_and_large_images_reduced(tmp_path):
    images = torch.zeros(20, 3, 640, 640, dtype=torch.uint8)
    plot_batch(images, torch.zeros(0, 6), tmp_path / "b.jpg", NAMES, [f"{'x' * 300}{i}.jpg" for i in range(20)], 16)
    assert max(read(tmp_path / "b.jpg").shape) <= 1920 + 5 * 2


def test_small_images_are_enlarged(tmp_path):
    plot_batch(torch.zeros(1, 3, 80, 160, dtype=torch.uint8), torch.zeros(0, 6), tmp_path / "b.png", NAMES)
    assert read(tmp_path / "b.png").shape == (160 + 4, 320 + 4, 3)


def test_file_names_are_written_below_the_images(tmp_path):
    images = torch.full((1, 3, 160, 160), 100, dtype=torch.uint8)
    plot_batch(images, torch.zeros(0, 6), tmp_path / "a.png", NAMES)
    plot_batch(images, torch.zeros(0, 6), tmp_path / "b.png", NAMES, ["/data/images/cell.jpg"])
    rows = np.flatnonzero(changed(read(tmp_path / "a.png"), read(tmp_path / "b.png")).any(axis=1))
    assert rows.min() > 0.85 * len(read(tmp_path / "a.png"))


# ---- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_classes", "num_images"), [(1, 1), (20, 30), (80, 30)], ids=["one box", "named classes", "many classes"]
)
def test_labels_picture(tmp_path, num_classes, num_images):
    rng = np.random.default_rng(0)
    labels = [
        np.column_stack([rng.integers(0, num_classes, num_images), rng.uniform(0.1, 0.4, (num_images, 4))])
        for _ in range(num_images)
    ]
    plot_labels(labels, {index: f"class {index}" for index in range(num_classes)}, tmp_path / "labels.png")
    bars = read(tmp_path / "labels.png")
    bars = bars[: len(bars) // 2, : bars.shape[1] // 2]
    shown = [index for index in range(num_classes) if has_colour(bars, class_colour(index), 2)]
    assert shown == list(range(num_classes)), "a bar in the colour of each class"
    assert not has_colour(bars, class_colour(num_classes), 2)


def test_labels_picture_of_backgrounds_alone_and_of_a_class_beyond_the_names(tmp_path):
    plot_labels([np.zeros((0, 5), np.float32)], NAMES, tmp_path / "empty.jpg")
    plot_labels([np.array([[7, 0.5, 0.5, 0.1, 0.1]])], NAMES, tmp_path / "beyond.jpg")
    assert read(tmp_path / "empty.jpg").shape == read(tmp_path / "beyond.jpg").shape


def epoch_values(epoch: int) -> dict[str, float]:
    return {
        **{f"{split}/{part}_loss": 0.1 / (epoch + 1) for split in ("train", "val") for part in ("box", "obj", "cls")},
        **{f"metrics/{name}": 0.1 * epoch for name in ("precision", "recall", "mAP_0.5", "mAP_0.5:0.95")},
        **{f"x/lr{group}": 0.01 for group in range(3)},
    }


def test_results_picture_after_one_epoch_and_after_more(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        log.log(0, epoch_values(0))
        plot_results(log.csv_path, tmp_path / "one.png")
        log.log(1, {name: value for name, value in epoch_values(1).items() if name.startswith("train/")})
        further = {f"val/{name}_loss": 0.5 for name in ("rank", "sort")}
        log.log(2, {**epoch_values(2), "train/rank_loss": float("nan"), **further})
        plot_results(log.csv_path, tmp_path / "three.png")
    one, three = read(tmp_path / "one.png"), read(tmp_path / "three.png")
    assert three.shape[1] > one.shape[1]  # further losses have panels of their own
    blue_line = (180, 119, 31)  # matplotlib's first colour, BGR
    assert has_colour(three, blue_line) and has_colour(one, blue_line)


def test_curves_bridge_the_epochs_without_validation(tmp_path):
    with RunLog(tmp_path, tensorboard=False) as log:
        for epoch in range(11):
            log.log(epoch, epoch_values(epoch) if epoch % 10 == 0 else {"train/box_loss": 0.1})
    plot_results(log.csv_path, tmp_path / "results.png")
    orange = (read(tmp_path / "results.png") == (14, 127, 255)).all(axis=2)
    assert orange[: len(orange) // 2, : orange.shape[1] // 3].any(axis=0).sum() > 200  # the validation box loss


def test_results_picture_of_padded_names(tmp_path):
    padded = "    epoch,   train/box_loss,   metrics/mAP_0.5\n  0,  0.1,  0.2\n  1, 0.05, 0.3\n"
    for name, text in (("padded", padded), ("plain", padded.replace(" ", ""))):
        (tmp_path / f"{name}.csv").write_text(text)
        plot_results(tmp_path / f"{name}.csv", tmp_path / f"{name}.png")
    np.testing.assert_array_equal(read(tmp_path / "padded.png"), read(tmp_path / "plain.png"))
    (tmp_path / "other.csv").write_text("epoch,train/box_loss,metrics/mAP_0.5\n0,0.1,0.2\n1,0.05,0.9\n")
    plot_results(tmp_path / "other.csv", tmp_path / "other.png")
    assert changed(read(tmp_path / "plain.png"), read(tmp_path / "other.png")).any(), "another curve, another picture"
    with pytest.raises(UserError, match="cannot be read as results"):
        plot_results(tmp_path / "missing.csv", tmp_path / "results.png")


def test_nothing_global_in_matplotlib_is_touched(tmp_path):
    backend, open_figures, style = matplotlib.get_backend(), plt.get_fignums(), dict(matplotlib.rcParams)
    plot_labels([np.array([[0, 0.5, 0.5, 0.1, 0.1]])], NAMES, tmp_path / "labels.jpg")
    assert (matplotlib.get_backend(), plt.get_fignums(), dict(matplotlib.rcParams)) == (backend, open_figures, style)


def test_scores_are_written_as_people_read_them():
    cases = {1.0: "1.00", 0.874: "0.87", 0.01: "0.01", 0.0072: "0.0072", 0.0001: "0.0001", 3e-6: "<0.0001", 0.0: "0.00"}
    assert {score: score_text(score) for score in cases} == cases


def test_a_box_beyond_the_image_is_drawn_along_its_border():
    image = np.full((60, 80, 3), 200, np.uint8)
    drawn = draw_boxes(image, np.array([[-500.0, 20, 900, 700]]), ["far"], [0], line_thickness=2)
    colour = np.array(class_colour(0))
    for line in (drawn[40:55, 0], drawn[40:55, -1], drawn[-1, 10:70]):
        assert (line == colour).all()
