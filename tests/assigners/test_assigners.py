"""What holds for every registered assigner: no object, the training loss, the setting."""

from __future__ import annotations

import pytest
import torch

from tests.assigner_scenes import ANCHORS, GRIDS, STRIDES, random_targets, table_of
from utils.assigners import ASSIGNERS
from utils.config.hyperparameters import Hyperparameters
from utils.criterion.build import check_loss_settings
from utils.criterion.criterion import Criterion
from utils.errors import UserError


def random_maps(images: int = 3, classes: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(images, 3, rows, cols, 5 + classes) for rows, cols in GRIDS]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def criterion_of(name: str) -> Criterion:
    return Criterion(ANCHORS, STRIDES, 3, 128, {"assigner": name})


@pytest.mark.parametrize("name", ASSIGNERS.names())
def test_some_steps_of_training(name: str) -> None:
    """Descent on the raw outputs themselves: finite, and every part goes down."""
    criterion, raw, targets = criterion_of(name), random_maps(), random_targets(0, count=20).float()
    optimiser = torch.optim.Adam(raw, lr=0.05)
    history = []
    for _ in range(15):
        optimiser.zero_grad()
        out = criterion(raw, targets)
        out.total.backward()
        assert all(torch.isfinite(level.grad).all() for level in raw)
        optimiser.step()
        history.append(out)
    assert all(torch.isfinite(out.total) for out in history)
    for part in ("box", "obj", "cls"):
        assert history[-1].parts[part] < 0.9 * history[0].parts[part]


@pytest.mark.parametrize("name", ASSIGNERS.names())
def test_no_object_is_background_alone(name: str) -> None:
    """The objectness loss equals that of any other assigner, and its gradient reaches every anchor."""
    raw = random_maps()
    out = criterion_of(name)(raw, torch.zeros(0, 6))
    out.total.backward()
    assert out.parts["box"] == 0 and out.parts["cls"] == 0
    assert torch.equal(out.parts["obj"], criterion_of("anchor_ratio")(raw, torch.zeros(0, 6)).parts["obj"])
    for level in raw:
        assert (level.grad[..., 4] > 0).all() and torch.isfinite(level.grad).all()


@pytest.mark.parametrize("name", ASSIGNERS.names())
def test_assignments_are_indices_within_range_and_leave_their_input_alone(name: str) -> None:
    targets, table = random_targets(4), table_of()
    flat = torch.randn(3, len(table.level), 8, dtype=torch.float64, requires_grad=True)
    before = targets.clone(), flat.detach().clone()
    found = ASSIGNERS.build(name)(targets, table, flat)
    assert torch.equal(targets, before[0]) and torch.equal(flat, before[1])
    assert len(found.image) == len(found.anchor) == len(found.target) > 20
    assert (found.anchor >= 0).all() and (found.anchor < len(table.level)).all()
    assert torch.equal(found.image, targets[found.target, 0].long())
    assert found.ignore is None or (found.ignore.shape == flat.shape[:2] and not found.ignore.requires_grad)


@pytest.mark.parametrize("name", ASSIGNERS.names())
def test_images_do_not_influence_each_other(name: str) -> None:
    """The rows of an image are the same with and without the objects of the other images."""
    targets, table = random_targets(5), table_of()
    flat = torch.randn(3, len(table.level), 8, dtype=torch.float64)
    assigner = ASSIGNERS.build(name)
    together = assigner(targets, table, flat)
    for image in range(3):
        rows = (targets[:, 0] == image).nonzero()[:, 0]
        alone = assigner(targets[rows], table, flat)
        mine = together.image == image
        pairs = zip(together.anchor[mine].tolist(), together.target[mine].tolist(), strict=True)
        assert sorted(pairs) == sorted(zip(alone.anchor.tolist(), rows[alone.target].tolist(), strict=True))
        assert together.ignore is None or torch.equal(together.ignore[image], alone.ignore[image])


def test_the_setting_is_a_name() -> None:
    assert ASSIGNERS.names() == ["anchor_ratio", "atss", "best_iou"]
    for name in ASSIGNERS:
        check_loss_settings(Hyperparameters.from_mapping({"assigner": name}))
        assert criterion_of(name).assigner.needs_predictions == (name == "best_iou")
    with pytest.raises(UserError, match=r"unknown assigner 'best_iuo'. Known: anchor_ratio, atss, best_iou"):
        criterion_of("best_iuo")
