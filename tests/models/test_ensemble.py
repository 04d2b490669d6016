"""Ensembles and test-time augmentation: more predictions of the same objects, in the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import detect
import val
from models import build_model
from models.ensemble import Ensemble
from models.test_time import TestTimeAugmented
from tests.painted_objects import OracleNetwork, boxes_of, paint, write_checkpoint, write_data_set
from utils.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("data") / "painted")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "best.pt")


class GridOracle(OracleNetwork):
    """The oracle with one raw map of grid cells 32 pixels wide, as real heads have them; its answers fill the first."""

    stride = (32,)

    def raw(self, images: torch.Tensor) -> list[torch.Tensor]:
        rows = super().raw(images)[0]
        maps = torch.zeros(len(images), self.nc, images.shape[2] // 32, images.shape[3] // 32, rows.shape[2])
        maps[:, :, 0, 0] = rows
        return [maps]

    def decode(self, raw: list[torch.Tensor]) -> torch.Tensor:
        return raw[0].flatten(1, 3)


@pytest.mark.parametrize("scene", ["1", "2", "street"])
def test_views_at_other_sizes_and_mirrored_find_the_same_boxes(scene: str) -> None:
    """Each view alone, so that none hides behind another; the oracle reads boxes off pixels, to within two of these."""
    augmented = TestTimeAugmented(GridOracle())
    image = torch.zeros(1, 3, 224, 256)
    picture = torch.from_numpy(paint(scene)[..., ::-1].copy()).permute(2, 0, 1) / 255
    image[0, :, : picture.shape[1], : picture.shape[2]] = picture
    raw = augmented.raw(image)
    assert [tuple(level.shape[2:4]) for level in raw] == [(7, 8), (6, 7), (5, 6)]  # 224 x 256 times 1, 0.83, 0.67
    rows = augmented.decode(raw)
    counts = [level.shape[1:4].numel() for level in raw]
    for view in rows.split(counts, dim=1):
        found = view[0, view[0, :, 4] > 0.5]
        order = found[:, 5:].argmax(dim=1).argsort()
        expected = boxes_of(scene)
        centres = (expected[:, :2] + expected[:, 2:4]) / 2
        np.testing.assert_allclose(found[order, :2], centres, atol=2.0)
        np.testing.assert_allclose(found[order, 2:4], expected[:, 2:4] - expected[:, :2], atol=3.0)


def test_the_largest_view_drops_the_coarsest_level_and_the_smallest_the_finest() -> None:
    network = build_model("yolov3-tiny.yaml", nc=2).eval()
    augmented = TestTimeAugmented(network)
    with torch.no_grad():
        raw = augmented.raw(torch.rand(1, 3, 96, 128))
        rows = augmented.decode(raw)
        fine, coarse = network.decode(raw[:2]).split([3 * 6 * 8, 3 * 3 * 4], dim=1)
    grids = [tuple(level.shape[2:4]) for level in raw]
    assert grids == [(6, 8), (3, 4), (6, 8), (3, 4), (4, 6), (2, 3)]
    assert rows.shape[1] == 3 * (6 * 8 + (6 * 8 + 3 * 4) + 2 * 3)
    assert torch.equal(rows[:, : fine.shape[1]], fine) and coarse.shape[1] == 36
    assert augmented(torch.rand(2, 3, 96, 128)).shape == (2, rows.shape[1], 7)


def test_an_ensemble_pools_what_its_members_find() -> None:
    class Blind(GridOracle):
        """Does not see one colour."""

        def __init__(self, colour: int) -> None:
            super().__init__()
            self.colour = colour

        def decode(self, raw: list[torch.Tensor]) -> torch.Tensor:
            rows = super().decode(raw).clone()
            rows[:, rows[0, :, 5 + self.colour] > 0, 4] = 0
            return rows

    network = Ensemble([Blind(0), TestTimeAugmented(Blind(2))]).eval()
    detector = detect.Detector(network, network.names, image_size=192)
    assert detector(paint("street"))[0].xyxy[:, 5].tolist() == [0, 1, 2]
    detector.network = Ensemble([Blind(0), Blind(0)]).eval()
    assert detector(paint("street"))[0].xyxy[:, 5].tolist() == [1, 2]


def test_several_weights_are_an_ensemble(tmp_path: Path, weights: Path) -> None:
    """Twice the same network finds what it finds alone; classes have to agree."""
    alone = detect.load(weights, conf=0.1)(paint("1"))
    together = detect.load([weights, weights], conf=0.1)(paint("1"))
    assert torch.equal(alone[0].boxes, together[0].boxes)
    other = write_checkpoint(tmp_path / "one.pt", nc=1)
    with pytest.raises(
        UserError, match=r"one.pt: expected the classes of .*best.pt \(red, green, blue\) but found red"
    ):
        detect.load([weights, other])
    with pytest.raises(UserError, match="at least one checkpoint"):
        detect.load([])


def test_augmentation_is_a_flag_of_both_commands(tmp_path: Path, weights: Path, data: Path) -> None:
    """It changes what is found; with a network from a file, in rectangular batches too."""
    plain, augmented = (
        detect.predict(weights=weights, source=paint("1"), conf_thres=0.1, nosave=True, augment=augment)[0].boxes
        for augment in (False, True)
    )
    assert len(augmented) and not torch.equal(plain, augmented)
    maps = [
        val.evaluate(weights=files, data=data, augment=augment, project=tmp_path, plots=False, workers=0).metrics.map
        for files, augment in ((weights, False), (weights, True), ([weights, weights], False), ([weights] * 2, True))
    ]
    assert maps[0] == maps[2] != maps[1] == maps[3]
