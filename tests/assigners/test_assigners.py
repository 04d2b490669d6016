"""What holds for every registered assigner: no object, the training loss, the setting."""

from __future__ import annotations

import pytest
import torch

from tests.assigner_scenes import ANCHORS, GRIDS, STRIDES, random_targets, table_of
from utils.assigners import ASSIGNERS
from utils.config.hyperparameters import Hyperparameters, LossSettings
from utils.config.loading import load_hyperparameters
from utils.criterion.build import anchor_ratio_limit, check_loss_settings
from utils.criterion.criterion import Criterion
from utils.errors import ContradictionError, UserError
from utils.losses import SCORE_LOSSES
from utils.structures import RawPredictions


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
    found = ASSIGNERS.build(name)(targets, table, RawPredictions(flat, 3))
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
    together = assigner(targets, table, RawPredictions(flat, 3))
    for image in range(3):
        rows = (targets[:, 0] == image).nonzero()[:, 0]
        alone = assigner(targets[rows], table, RawPredictions(flat, 3))
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


def test_parameters_stand_beside_the_name() -> None:
    for setting, attribute, value in (
        ({"name": "atss", "candidates": 4}, "candidates", 4),
        ({"name": "best_iou", "ignore_iou": 0.5}, "ignore_iou", 0.5),
        ({"name": "anchor_ratio", "anchor_t": 3}, "anchor_t", 3),
        ("anchor_ratio", "anchor_t", 4),
    ):
        hyp = Hyperparameters.from_mapping({"assigner": setting})
        criterion = Criterion(ANCHORS, STRIDES, 3, 128, hyp)
        assert getattr(criterion.assigner, attribute) == value, setting
        assert Hyperparameters.from_mapping(hyp.to_mapping()) == hyp
        assert anchor_ratio_limit(hyp) == (3 if attribute == "anchor_t" and value == 3 else 4), setting
    assert load_hyperparameters({}, ["assigner=atss", "assigner.candidates=4"]).assigner == {
        "name": "atss",
        "candidates": 4,
    }


def test_anchor_t_is_a_hyper_parameter_or_a_parameter() -> None:
    hyp = Hyperparameters.from_mapping({"anchor_t": 3})
    assert Criterion(ANCHORS, STRIDES, 3, 128, hyp).assigner.anchor_t == anchor_ratio_limit(hyp) == 3
    both = {"anchor_t": 3, "assigner": {"name": "anchor_ratio", "anchor_t": 2}}
    with pytest.raises(ContradictionError, match=r"anchor_t: 3\.0 and the parameter anchor_t: 2 of the assigner"):
        check_loss_settings(Hyperparameters.from_mapping(both))
    check_loss_settings(Hyperparameters.from_mapping({"anchor_t": 3, "assigner": "atss"}))  # the anchors are fit by it
    with pytest.raises(UserError, match=r"unknown parameter of the assigner 'atss' 'candidate'.*mean 'candidates'"):
        check_loss_settings(Hyperparameters.from_mapping({"assigner": {"name": "atss", "candidate": 4}}))


def test_keys_of_the_settings_have_the_defaults_of_the_parameters() -> None:
    """A key at its default is as good as not set: both must mean the same."""
    for registry, settings in ((ASSIGNERS, Hyperparameters()), (SCORE_LOSSES, LossSettings())):
        for info in map(registry.entry, registry):
            for key in info.block_keys:
                assert getattr(settings, key) == info.parameters[key].default, (info.name, key)
