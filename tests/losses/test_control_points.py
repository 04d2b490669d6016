"""Control points of the Parameterized AP loss: what is accepted, and what the messages say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.cases import case
from utils.errors import UserError
from utils.losses import ControlPoints, control_points_from
from utils.losses.ranking.control_points import interpolate

LINE = [[0, 0], [1, 1]]
BENT = [[0, 0], [0.25, 0.75], [0.5, 0.75], [1, 1]]


def test_any_way_to_write_them() -> None:
    nested = [BENT] * 5
    expected = control_points_from(nested)
    assert expected == ControlPoints(*[((0, 0), (0.25, 0.75), (0.5, 0.75), (1, 1))] * 5)
    flat = [[number for point in curve for number in point] for curve in nested]
    for setting in (flat, np.array(nested), np.array(flat), torch.tensor(nested), tuple(nested)):
        assert control_points_from(setting) == expected
    assert control_points_from(expected) is expected
    texts = [[["0", "0"], ["1e-3", 0.5], [1, 1]], *nested[1:]]  # YAML reads 1e-3, without a point, as text
    assert control_points_from(texts).H2[1] == (0.001, 0.5)


def test_curves_may_differ_in_length_and_keep_their_order() -> None:
    points = control_points_from([LINE, BENT, LINE, LINE, BENT])
    assert [len(curve) for curve in points] == [2, 4, 2, 2, 4]
    assert points._fields == ("H2", "I2", "I3", "I1", "H1")


def test_not_five_curves() -> None:
    for setting in (None, 3, "points.yaml", [LINE] * 4, {"H2": LINE}):
        with pytest.raises(
            UserError, match="expected control_points, five curves in the order H2, I2, I3, I1, H1, but"
        ):
            control_points_from(setting)


WRONG_CURVES = [
    (7, "expected curve I3, two or more points .x, y., but got 7"),
    ([], "expected curve I3, two or more points"),
    ([[0, 0]], "expected curve I3, two or more points"),
    ([[0, 0], [0.5], [1, 1]], "expected curve I3, two or more points"),
    ([[0, 0], 0.5, 0.5, [1, 1]], "expected curve I3, two or more points"),
    ([0, 0, 0.5, 1, 1], "expected curve I3, two or more points"),
    ([[0, 0], [0.5, 1.5], [1, 1]], "y of point 2 of curve I3: expected a number from 0 to 1 but got 1.5"),
    ([[0, 0], ["half", 0.5], [1, 1]], "x of point 2 of curve I3: expected a number from 0 to 1 but got 'half'"),
    ([[0, 0], [0.5, float("nan")], [1, 1]], "y of point 2 of curve I3: expected"),
    ([[0.1, 0], [1, 1]], r"expected curve I3 from \[0, 0\] to \[1, 1\]"),
    ([[0, 0.1], [1, 1]], r"expected curve I3 from \[0, 0\] to \[1, 1\]"),
    ([[0, 0], [0.9, 1]], r"expected curve I3 from \[0, 0\] to \[1, 1\]"),
    ([[0, 0], [1, 0.9]], r"expected curve I3 from \[0, 0\] to \[1, 1\]"),
    ([[0, 0], [0.5, 0.2], [0.5, 0.4], [1, 1]], r"after point 2, \[0.5, 0.2\], comes \[0.5, 0.4\]"),
    ([[0, 0], [0.5, 0.2], [0.4, 0.4], [1, 1]], r"after point 2, \[0.5, 0.2\], comes \[0.4, 0.4\]"),
    ([[0, 0], [0.5, 0.6], [0.7, 0.4], [1, 1]], r"rising x and y that never falls, but after point 2"),
]


def test_a_curve_that_will_not_do_is_named() -> None:
    for curve, message in WRONG_CURVES:
        with case(curve), pytest.raises(UserError, match=message):
            control_points_from([LINE, LINE, curve, LINE, LINE])


def test_the_denominator_counts_the_positive_itself() -> None:
    for curve in ([[0, 0], [0.6, 0], [1, 1]], [[0, 0], [0.2, 0], [0.5, 0], [1, 1]]):
        with pytest.raises(UserError, match=r"expected curve H1 above 0 at x = 0\.5"):
            control_points_from([LINE, LINE, LINE, LINE, curve])
        assert control_points_from([curve, LINE, LINE, LINE, LINE]).H2[1][1] == 0
    control_points_from([LINE, LINE, LINE, LINE, [[0, 0], [0.4, 0], [1, 1]]])


def test_curves_between_their_points() -> None:
    curve = control_points_from([BENT] * 5).I1
    values = torch.tensor([0, 0.125, 0.25, 0.3, 0.5, 0.75, 1], dtype=torch.float64, requires_grad=True)
    heights = interpolate(values, curve)
    xs, ys = zip(*curve, strict=True)
    assert heights.tolist() == pytest.approx(np.interp(values.tolist(), xs, ys).tolist(), abs=1e-15)
    heights.sum().backward()
    assert values.grad.tolist() == pytest.approx([3, 3, 0, 0, 0.5, 0.5, 0.5])
