"""The joint logit against log-odds of the product of probabilities, and where these leave the range of floats."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.cases import case
from utils.criterion.joint_score import joint_logits


def test_it_is_the_log_odds_of_the_product() -> None:
    generator = torch.Generator().manual_seed(0)
    objectness = 3 * torch.randn(40, 1, generator=generator, dtype=torch.float64)
    classes = 3 * torch.randn(40, 5, generator=generator, dtype=torch.float64)
    found = joint_logits(objectness, classes)
    assert torch.allclose(found, torch.logit(objectness.sigmoid() * classes.sigmoid()), atol=1e-12)
    plain = -torch.stack(((-objectness).expand_as(classes), -classes, -objectness - classes)).logsumexp(dim=0)
    assert torch.allclose(found, plain, atol=1e-12)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    objectness = (4 * torch.randn(6, 1, generator=generator, dtype=torch.float64)).requires_grad_()
    classes = (4 * torch.randn(6, 3, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(joint_logits, (objectness, classes))


def test_extreme_logits() -> None:
    for dtype, (objectness, classes, expected) in itertools.product(
        [torch.float32, torch.float64],
        [
            (1e4, 2.0, 2.0),  # a certain object leaves the class
            (2.0, 1e4, 2.0),
            (1e4, 1e4, 1e4 - math.log(2)),
            (-1e4, -1e4, -2e4),  # small probabilities multiply
            (-1e4, 1e4, -1e4),
            (0.0, 0.0, -math.log(3)),  # 1/4 against 3/4
        ],
    ):
        with case(objectness, classes, expected, dtype):
            inputs = [torch.tensor([[value]], dtype=dtype, requires_grad=True) for value in (objectness, classes)]
            found = joint_logits(*inputs)
            assert found.item() == pytest.approx(expected, rel=1e-6)
            found.sum().backward()
            assert all(0 <= value.grad.item() <= 1 for value in inputs)


def test_half_precision_is_widened_and_shapes_are_checked() -> None:
    assert joint_logits(torch.zeros(2, 1).half(), torch.zeros(2, 3).half()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"Expected objectness of shape \(2, 1\)"):
        joint_logits(torch.zeros(2), torch.zeros(2, 3))
