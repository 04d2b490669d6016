"""The ranking losses as their papers write them: one positive after the other, errors shared out over pairs.

All take logits (N,) and targets (N,), > 0 positive, 0 background, -1 ignored, and return values with their updates.
``prune`` leaves out negatives below every window, as the papers' code does for speed; nothing may depend on it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def step(difference: Tensor, delta: float) -> Tensor:
    """H(x): 0 up to -delta, 1 from delta on, linear between."""
    return (difference / (2 * delta) + 0.5).clamp(0, 1)


def split(logits: Tensor, targets: Tensor, delta: float, prune: bool) -> tuple[Tensor, Tensor]:
    """Places of the positives and of the negatives."""
    positives, negatives = (targets > 0).nonzero()[:, 0], (targets == 0).nonzero()[:, 0]
    if prune and len(positives):
        negatives = negatives[logits[negatives] >= logits[positives].min() - delta]
    return positives, negatives


def rank_sort_loop(
    logits: Tensor, targets: Tensor, delta: float, prune: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ranking and sorting error, and their updates (N,): arXiv:2107.11669, equations 6 to 11."""
    positives, negatives = split(logits, targets, delta, prune)
    ious = targets[positives]
    errors, updates = logits.new_zeros(2, len(positives)), logits.new_zeros(2, len(logits))
    negative_updates, positive_updates = logits.new_zeros(len(negatives)), logits.new_zeros(2, len(positives))
    for i, score in enumerate(logits[positives]):
        above, false_positives = step(logits[positives] - score, delta), step(logits[negatives] - score, delta)
        rank = above.sum() + false_positives.sum()
        errors[0, i] = false_positives.sum() / rank
        better = above * (ious >= ious[i])
        current, target = (above * (1 - ious)).sum() / above.sum(), (better * (1 - ious)).sum() / better.sum()
        errors[1, i] = current - target
        if false_positives.sum() > 0:
            positive_updates[0, i] -= errors[0, i]
            negative_updates += errors[0, i] * false_positives / false_positives.sum()
        worse = above * (ious < ious[i])
        if worse.sum() > 0:
            positive_updates[1, i] -= errors[1, i]
            positive_updates[1] += errors[1, i] * worse / worse.sum()
    updates[0, negatives] = negative_updates
    updates[:, positives] = positive_updates
    num = max(len(positives), 1)
    return errors[0].sum() / num, errors[1].sum() / num, updates[0] / num, updates[1] / num


def ap_loop(logits: Tensor, labels: Tensor, delta: float, prune: bool = False) -> tuple[Tensor, Tensor]:
    """1 - interpolated AP and its update (N,): arXiv:2008.07294, algorithm 1."""
    positives, negatives = split(logits, labels, delta, prune)
    update, losses, best = torch.zeros_like(logits), [], logits.new_zeros(())
    for i in positives[logits[positives].argsort()]:
        above, false_positives = step(logits[positives] - logits[i], delta), step(logits[negatives] - logits[i], delta)
        true_positives = 1 + above.sum() - 0.5  # itself counts 1, and step counts it as 0.5
        rank = true_positives + false_positives.sum()
        shares = false_positives / rank
        precision = true_positives / rank
        if precision < best:
            shares = shares * (1 - best) / (1 - precision)
        best = torch.maximum(best, precision)
        losses.append(1 - best)
        update[i] -= 1 - best
        update[negatives] += shares
    num = max(len(positives), 1)
    return logits.new_tensor(losses).sum() / num, update / num


def alrp_loop(
    logits: Tensor, labels: Tensor, errors: Tensor, delta: float, prune: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both parts, the update (N,) and d localisation / d errors (P,): arXiv:2009.13592, equations 7 to 13."""
    positives, negatives = split(logits, labels, delta, prune)
    update, by_error = torch.zeros_like(logits), torch.zeros_like(errors)
    classification, localisation, num = logits.new_zeros(()), logits.new_zeros(()), max(len(positives), 1)
    for i, score in enumerate(logits[positives]):
        above, false_positives = step(logits[positives] - score, delta), step(logits[negatives] - score, delta)
        above[i] = 0
        rank = 1 + above.sum() + false_positives.sum()
        classification += false_positives.sum() / rank / num
        higher = (logits[positives] > score).to(errors) + 0.5 * (logits[positives] == score).to(errors)
        higher[i] = 1
        localisation += (higher * errors).sum() / rank / num
        by_error += higher / rank / num
        if false_positives.sum() > 1e-5:
            error = ((above * errors).sum() + false_positives.sum()) / rank / num
            update[positives[i]] -= error
            update[negatives] += error * false_positives / false_positives.sum()
    return classification, localisation, update, by_error
