"""Correlation losses: the scores of the positives should order, or equal, the IoUs of their boxes.

Kahraman, Oksuz, Kalkan and Akbas, "Correlation Loss: Enforcing Correlation between Classification and Localization",
AAAI 2023, arXiv:2301.01019. Soft ranks: Blondel, Teboul, Berthet and Djolonga, "Fast Differentiable Sorting and
Ranking", ICML 2020, arXiv:2002.08871. P: positives of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from utils.errors import UserError, unknown_name

REGULARIZATIONS = ("absolute", "relative")
# In standard deviations / P. The least that keeps most gradients alive: of 20 to 3000 scores or IoUs as detectors have
# them, 66 to 88 % are pooled (1.0: 35 to 74 %), and the soft ranks correlate with the ranks by at least 0.926, or 0.996
# unless most values crowd at one end (the values themselves: 0.741 and 0.950). From 5.0 on (nearly) all are one run,
# which is Pearson's correlation again. `python -m benchmarks.soft_ranks` prints the table.
RELATIVE_STRENGTH = 2.0


def correlation_loss(
    scores: Tensor,
    ious: Tensor,
    kind: str,
    *,
    regularization_strength: float = 1.0,
    regularization: str = "absolute",
) -> Tensor:
    """One minus the correlation of scores and IoUs, computed in float32 or wider, outside autocast.

    ======================  ===================================================================================
    ``pearson``             r = sum of (x - mean x)(y - mean y) / (P sd x sd y): arXiv:2301.01019, section 4
    ``concordance``         2 r sd_x sd_y / (var_x + var_y + (mean_x - mean_y)^2), deviations over P - 1:
                            Lin, Biometrics 45 (1989); scores should *equal* the IoUs
    ``spearman``            r of the soft ranks of x and y: arXiv:2002.08871, equation 6 (quadratic), see
                            :func:`soft_rank`
    ======================  ===================================================================================

    Where a correlation is undefined (fewer than two values, or all scores or all IoUs equal) the loss is 0 with a
    gradient of zero. Both arguments receive gradients; the paper detaches the IoUs.

    Args:
        scores: (P,) of any range; probabilities in the paper.
        ious: (P,) in [0, 1].
        kind: ``spearman`` | ``pearson`` | ``concordance``.
        regularization_strength: > 0, how soft the ranks are. Other kinds than ``spearman`` ignore it.
        regularization: ``absolute``: the strength as it is. With the paper's 1.0 and values in [0, 1] soft ranks are
            the values themselves but for a constant, and Spearman equals Pearson. ``relative``: the strength times
            ``RELATIVE_STRENGTH`` * standard deviation / P, for scores and IoUs each their own, so that ranks are ranks
            whatever the number and the range of the values.

    Returns:
        scalar in [0, 2], up to rounding; NaN if an argument holds one.

    Raises:
        UserError: unknown kind or regularization; a strength that is not a positive number.
        ValueError: not two vectors of one length.
    """
    if kind not in CORRELATIONS:
        raise unknown_name("correlation", kind, CORRELATIONS)
    check_regularization(regularization_strength, regularization)
    if scores.ndim != 1 or scores.shape != ious.shape:
        raise ValueError(
            f"Expected scores and ious of one shape (P,) but got {tuple(scores.shape)} and {tuple(ious.shape)}"
        )
    with torch.autocast(scores.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(scores.dtype, ious.dtype), torch.float32)
        scores, ious = scores.to(dtype), ious.to(dtype)
        if len(scores) < 2:
            return 0 * (scores.sum() + ious.sum())
        undefined = (scores == scores[0]).all() | (ious == ious[0]).all()
        if kind == "spearman":
            scores, ious = (
                soft_rank(values, regularization_strength, regularization=regularization) for values in (scores, ious)
            )
        coefficient = CORRELATIONS[kind](scores, ious)
        return torch.where(undefined, torch.zeros_like(coefficient), 1 - coefficient)


def check_regularization(strength: Any, regularization: Any) -> None:
    """Check what shapes the soft ranks.

    Raises:
        UserError: unknown regularization; a strength that is not a positive number.
    """
    if regularization not in REGULARIZATIONS:
        raise unknown_name("regularization", regularization, REGULARIZATIONS)
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength < math.inf:
        raise UserError(f"expected regularization_strength, a number above 0, but got {strength!r}")


def soft_rank(values: Tensor, strength: float = 1.0, *, regularization: str = "absolute") -> Tensor:
    """Differentiable ranks, less their mean (P + 1) / 2: the projection of values / strength onto the permutahedron.

    The smaller the strength the closer to ranks; values further apart than the strength are ranked exactly, and have no
    gradient. Runs of values that lie closer are pooled: within a run, ranks grow linearly with the values. Quadratic
    regularisation of arXiv:2002.08871, equation 6, by the isotonic regression of its proposition 3.

    Args:
        values: (P,) with P >= 1, float32 or wider.
        strength: > 0.
        regularization: ``absolute`` or ``relative``, as for :func:`correlation_loss`.

    Returns:
        (P,) between -(P - 1) / 2 for the least value and (P - 1) / 2 for the greatest; the sum is 0.
    """
    if regularization == "relative":
        values, strength = _standardise(values), strength * RELATIVE_STRENGTH / len(values)
    ranks: Tensor = _SoftRank.apply(values, strength)
    return ranks


class _SoftRank(torch.autograd.Function):
    """Projection onto the permutahedron. The isotonic regression runs on the host, forward only."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        from scipy.optimize import isotonic_regression  # imported late: it takes a second and only this loss needs it

        host = values.detach().cpu().double().numpy() / strength
        count = len(host)
        order = np.argsort(-host, kind="stable")
        with np.errstate(invalid="ignore"):  # values that are not finite become NaN here
            descending = host[order] - host[order[0]]
            bounds = isotonic_regression(descending - np.arange(count, 0, -1), increasing=False).blocks
            sizes = np.diff(bounds)
            inside = descending - np.repeat(np.add.reduceat(descending, bounds[:-1]) / sizes, sizes)
        # the mean rank of a run is exact in floating point; added last, it does not round small values away
        places = (count - bounds[:-1] - bounds[1:]) / 2
        ranks = np.empty(count)
        ranks[order] = inside + np.repeat(places, sizes)
        run_of = np.repeat(np.arange(len(sizes)), sizes)
        ctx.strength = strength
        ctx.save_for_backward(*(torch.from_numpy(index).to(values.device) for index in (order, run_of, sizes)))
        return torch.from_numpy(ranks).to(values.dtype).to(values.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        order, run_of, sizes = ctx.saved_tensors
        ordered = grad[order]
        means = torch.zeros_like(sizes, dtype=grad.dtype).index_add(0, run_of, ordered) / sizes
        grad_values = torch.empty_like(grad)
        grad_values[order] = (ordered - means[run_of]) / ctx.strength
        return grad_values, None


def _centre(values: Tensor) -> Tensor:
    """Values less their mean; exactly 0 for equal ones, and precise where all lie close together."""
    shifted = values - values[0].detach()
    return shifted - shifted.mean()


def _standardise(values: Tensor) -> Tensor:
    """Values less their mean, in standard deviations; 0 for equal ones."""
    centred = _centre(values)
    peak = centred.detach().abs().max()
    centred = centred / torch.where(peak == 0, 1, peak)  # squares of tiny values would be 0
    variance = centred.square().mean()
    return centred / torch.where(variance == 0, 1, variance).sqrt()


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation coefficient; 0 where one of the two is constant."""
    return (_standardise(x) * _standardise(y)).mean()


def _concordance(x: Tensor, y: Tensor) -> Tensor:
    """Concordance coefficient: Lin (1989), with deviations over P - 1, of which r sd_x sd_y is the covariance."""
    x_centred, y_centred = _centre(x), _centre(y)
    covariance = (x_centred * y_centred).sum() / (len(x) - 1)
    variances = (x_centred.square().sum() + y_centred.square().sum()) / (len(x) - 1)
    distance = variances + (x.mean() - y.mean()).square()
    return 2 * covariance / torch.where(distance == 0, 1, distance)


CORRELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "spearman": _pearson,
    "pearson": _pearson,
    "concordance": _concordance,
}
