"""Sums over all pairs of samples and windows without forming the pairs: the primitive of every ranking loss.

A window i covers the scores from ``low_i`` to ``high_i = low_i + width_i``. Its ramp rises through it from 0 to 1,

    r_i(n) = clamp((n - low_i) / width_i, 0, 1),

so that the step H(n - s) = clamp((n - s) / (2 delta) + 0.5, 0, 1) of the ranking losses is the ramp of the window
[s - delta, s + delta). The 2P edges of P windows cut the axis into 2P + 1 buckets, in each of which a sum of ramps is
one polynomial. Samples are dropped into their buckets (binary search, O(M log P)), and what is left is O(P log P).

Two sums are offered for samples n_j, weights w and a power of 1 or 2:

    ``sums``    for each window, over the samples:  sum_j w_j r_i(n_j)^power
    ``spread``  for each sample, over the windows:  sum_i w_i r_i(n_j)^power

Precision: everything is accumulated in float64 (float32 on MPS, which has no float64), on distances to the bucket's
lower edge, and from the end where the sums are smallest. Stretches of the axis that no window covers are cut out. The
relative error is of the order eps * (covered length / width)^power, wherever the scores lie.

Shapes: M samples, P windows, and any leading dimensions ``...``, each with an axis of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 1 << 16  # samples converted to float64 at a time: a few MB for any M


class RampSums(NamedTuple):
    """Sums of ramps, one for each window.

    Attributes:
        value: (..., P) sum_j w_j r_i(n_j)^power.
        slope: (..., P) sum_j w_j d/dn r_i(n_j)^power, the change of value as the samples rise, or the window falls.
    """

    value: Tensor
    slope: Tensor


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """The widest float that a device can add up in."""
    return torch.float32 if device.type == "mps" else torch.float64


class Windows:
    """P windows [low_i, low_i + width_i), sorted for lookups. Nothing here has a gradient.

    Args:
        low: (..., P) lower edges, any float type.
        width: above 0: one for all, or (P,), which is not checked, to avoid a round trip to the host.

    Raises:
        ValueError: the one width is not above 0.
    """

    def __init__(self, low: Tensor, width: float | Tensor) -> None:
        if not isinstance(width, Tensor) and not width > 0:
            raise ValueError(f"Expected windows of a width above 0 but got {width}")
        self.width = width
        self.num = low.shape[-1]
        low = low.detach().to(accumulation_dtype(low.device))
        edges, order = torch.cat((low, low + width), dim=-1).sort(dim=-1)
        self._edges = edges.contiguous()
        # where each window's two edges stand among all
        places = torch.arange(2 * self.num, device=low.device).expand_as(order)
        self._at = torch.empty_like(order).scatter_(-1, order, places)
        # bucket b lies above edge b - 1; the first, below all edges, counts nowhere
        covered = torch.where(order < self.num, 1, -1).cumsum(dim=-1) > 0
        self._covered = functional.pad(covered, (1, 0))
        self._anchors = functional.pad(edges, (1, 0))
        # of each bucket, 0 where no window lies over it: these stretches change no difference within a window
        self._gaps = torch.where(covered, functional.pad(edges.diff(dim=-1), (0, min(self.num, 1))), 0)

    def locate(self, values: Tensor) -> Tensor:
        """Bucket of each sample: how many edges lie at or below it.

        Args:
            values: (..., M), any float type.

        Returns:
            (..., M) int32 from 0 to 2P, to be passed on where the same samples are summed more than once.
        """
        buckets = torch.empty(values.shape, dtype=torch.int32, device=values.device)
        for start in range(0, values.shape[-1], CHUNK):
            part = values[..., start : start + CHUNK].detach().to(self._edges.dtype).contiguous()
            buckets[..., start : start + CHUNK] = _num_at_or_below(self._edges, part)
        return buckets

    @torch.no_grad()
    def sums(
        self, values: Tensor, weights: Tensor | None = None, *, power: int = 1, buckets: Tensor | None = None
    ) -> RampSums:
        """For each window the sum over the samples, sum_j w_j r_i(n_j)^power, and its slope.

        Args:
            values: (..., M) samples n, any float type.
            weights: (..., M) w, any sign; leading dimensions may come in front of those of ``values``, and then come
                in front of the result's too; None counts.
            power: 1 or 2.
            buckets: what ``locate`` returned for these samples.

        Returns:
            RampSums: value and slope (..., P), float64 (float32 on MPS).
        """
        _check_power(power)
        totals = self._moments(values, weights, power, buckets)[..., 1:]  # nothing below the first edge counts
        at = self._at.expand(*totals.shape[1:-1], -1)
        gaps, low, high = self._gaps, at[..., : self.num], at[..., self.num :]
        # from each edge up: the weight, and the weighted distances to the edge
        weight = _suffix_sum(totals[0])
        distance = _suffix_sum(totals[1] + gaps * _shift(weight))
        above, ramp = weight.gather(-1, high), (distance.gather(-1, low) - distance.gather(-1, high)) / self.width
        if power == 1:
            return RampSums(ramp, (weight.gather(-1, low) - above) / self.width)
        square = _suffix_sum(totals[2] + gaps * (2 * _shift(distance) + gaps * _shift(weight)))
        # beyond the window (n - low)^2 - (n - high)^2 = width^2 + 2 width (n - high), of which width^2 belongs here
        beyond = 2 * self.width * distance.gather(-1, high)
        value = (square.gather(-1, low) - square.gather(-1, high) - beyond) / self.width**2
        return RampSums(value, 2 * (ramp - above) / self.width)

    @torch.no_grad()
    def spread(
        self,
        values: Tensor,
        weights: Tensor,
        *,
        power: int = 1,
        slope: bool = False,
        buckets: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """For each sample the sum over the windows, sum_i w_i r_i(n_j)^power, or its derivative with respect to n_j.

        Args:
            values: (..., M) samples n, any float type.
            weights: (..., P) w, any sign, as many dimensions as ``values``.
            power: 1 or 2.
            slope: the derivative in place of the sum.
            buckets: what ``locate`` returned for these samples.
            dtype: of the result; None is the type of ``values``.

        Returns:
            (..., M).
        """
        _check_power(power)
        table = self._polynomials(weights, power)
        result = torch.empty(values.shape, dtype=dtype or values.dtype, device=values.device)
        for part, bucket, distance in self._parts(values, buckets):
            terms = [_look_up(coefficient, bucket) for coefficient in table]
            if slope:
                terms = [degree * term for degree, term in enumerate(terms)][1:]
            total = terms.pop()
            while terms:
                total = total * distance + terms.pop()
            result[..., part] = total
        return result

    def _parts(self, values: Tensor, buckets: Tensor | None) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Chunks of the samples: where, buckets (int64), and distances above the buckets' lower edges."""
        for start in range(0, values.shape[-1], CHUNK):
            part = slice(start, start + CHUNK)
            chunk = values[..., part].detach().to(self._edges.dtype)
            bucket = (self.locate(chunk) if buckets is None else buckets[..., part]).long()
            yield part, bucket, chunk - _look_up(self._anchors, bucket)

    def _moments(self, values: Tensor, weights: Tensor | None, power: int, buckets: Tensor | None) -> Tensor:
        """(power + 1, ..., 2P + 1) sums of w, w d and w d^2 in each bucket, d the distance to its lower edge.

        Distances count where a window lies over the bucket; elsewhere samples stand at the edge.
        """
        lead = values.shape[:-1] if weights is None else weights.shape[:-1]
        num_buckets = 2 * self.num + 1
        totals = torch.zeros((power + 1, *lead, num_buckets), dtype=self._edges.dtype, device=values.device)
        rows = torch.arange(lead.numel(), device=values.device).mul_(num_buckets).view(*lead, 1)
        for part, bucket, distance in self._parts(values, buckets):
            term = torch.ones_like(distance) if weights is None else weights[..., part].detach().to(distance.dtype)
            index = (bucket + rows).flatten()  # one dimension: deterministic on every device that can be
            for moment in totals:
                moment.view(-1).scatter_add_(0, index, term.flatten())
                term = term * distance
        totals[1:] = torch.where(self._covered, totals[1:], 0)
        return totals

    def _polynomials(self, weights: Tensor, power: int) -> list[Tensor]:
        """Coefficients of 1, d (and d^2) in each bucket of sum_i w_i r_i(n)^power, each (..., 2P + 1)."""
        slopes = weights.detach().to(self._edges.dtype) / self.width
        bends = slopes / self.width ** (power - 1)
        edges, gaps, covered = torch.zeros_like(self._edges), self._gaps, self._covered[..., 1:]
        steepest = edges.scatter(-1, self._at, torch.cat((bends, -bends), dim=-1)).cumsum(dim=-1)
        steepest = torch.where(covered, steepest, 0)
        risen = _before(steepest * gaps)
        if power == 1:
            table = [risen, steepest]
        else:
            closed = edges.scatter(-1, self._at, torch.cat((torch.zeros_like(slopes), slopes), dim=-1))
            rising = torch.where(covered, risen - closed.cumsum(dim=-1), 0)  # w_i r_i(edge) / width_i, of those inside
            table = [_before(gaps * (2 * rising + steepest * gaps)), 2 * rising, steepest]
        return [functional.pad(coefficient, (1, 0)) for coefficient in table]


def _check_power(power: int) -> None:
    if power not in (1, 2):
        raise ValueError(f"Expected power 1 or 2 but got {power}")


def _num_at_or_below(edges: Tensor, values: Tensor) -> Tensor:
    """(..., M) int32: how many of the sorted edges (..., E) each of the values (..., M) reaches."""
    if values.dim() > 1 or values.device.type != "cpu":
        return torch.searchsorted(edges, values, right=True, out_int32=True)
    # binary search of all values at once: no branch mispredictions, several times faster on a CPU
    step = 1 << len(edges).bit_length()
    edges = functional.pad(edges, (0, step - len(edges)), value=torch.nan)  # no sample reaches it
    found = torch.zeros(values.shape, dtype=torch.int32)
    while step := step // 2:
        found.add_(edges[step - 1 :].index_select(0, found) <= values, alpha=step)
    return found


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    """(..., M) elements of each row of a table (..., E)."""
    return table.index_select(0, index) if index.dim() == 1 else table.gather(-1, index)  # the former is faster


def _suffix_sum(values: Tensor) -> Tensor:
    """Sum of an element and all behind it, along the last dimension."""
    return values.flip(-1).cumsum(dim=-1).flip(-1)


def _before(values: Tensor) -> Tensor:
    """Sum of all elements in front of an element, along the last dimension."""
    return functional.pad(values.cumsum(dim=-1), (1, 0))[..., :-1]


def _shift(values: Tensor) -> Tensor:
    """The next element of each, 0 behind the last."""
    return functional.pad(values, (0, 1))[..., 1:]
