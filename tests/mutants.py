"""Small faults in losses, criterion and assigners, and the tests that must notice each of them.

``python -m tests.mutants`` makes a copy of the repository, puts one fault after another into it, and runs the tests
named beside it: they must fail. ``--only NAME ...`` runs those whose names begin so, ``--jobs 2`` two at a time. A
fault that survives is printed last, and the exit status is 1: a test is missing. Not part of the test suite, which only
checks that the table fits the code.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".git", "runs", "datasets", "__pycache__", ".*_cache", "*.pt", "venv", ".venv", "docs")
PASSED, FAILED = 0, 1  # exit statuses of pytest; others say that it could not even begin

BOX, RANKING, LOSSES, CRITERION, ASSIGNERS = (
    "utils/losses/box/",
    "utils/losses/ranking/",
    "utils/losses/",
    "utils/criterion/",
    "utils/assigners/",
)
VALUES, GRADIENTS, UNITS, EVERY_BOX, PUBLIC, WIOU = (
    "tests/losses/test_box_loss_values.py",
    "tests/losses/test_box_loss_gradients.py",
    "tests/losses/test_box_loss_units.py",
    "tests/losses/test_box_losses.py",
    "tests/test_public_errors.py",
    "tests/losses/test_wiou.py",
)
LOOPS, WINDOW, SORTING, STEPS, PAP, CORRELATION, SCORES = (
    "tests/losses/test_ranking_losses.py",
    "tests/losses/test_ranking_window.py",
    "tests/losses/test_ranking_sorting.py",
    "tests/losses/test_step_sums.py",
    "tests/losses/test_parameterized_ap.py",
    "tests/losses/test_correlation.py",
    "tests/losses/test_elementwise.py",
)
WHOLE, RANKED, CORRELATED, JOINT, PROCESSES = (
    "tests/criterion/test_criterion.py",
    "tests/criterion/test_ranking.py",
    "tests/criterion/test_correlation.py",
    "tests/criterion/test_joint_score.py",
    "tests/criterion/test_global_rank.py",
)
RATIO, ATSS, BEST, TABLES, MODELS = (
    "tests/assigners/test_anchor_ratio.py",
    "tests/assigners/test_atss.py",
    "tests/assigners/test_best_iou.py",
    "tests/test_boxes.py",
    "tests/models/test_models.py",
)


class Mutant(NamedTuple):
    """One fault.

    Attributes:
        name: of the thing, and what is wrong with it.
        file: below the root of the repository.
        original: a text that stands in the file exactly once.
        replacement: what takes its place.
        tests: file or node that must fail.
    """

    name: str
    file: str
    original: str
    replacement: str
    tests: str

    def mutated(self, text: str) -> str:
        """The text of the file with the fault."""
        if text.count(self.original) != 1:
            raise ValueError(f"{self.name}: expected once in {self.file}: {self.original!r}")
        return text.replace(self.original, self.replacement)


NO_GRAD, WITH_GRAD = "with torch.no_grad():", "with torch.enable_grad():"

MUTANTS = (
    # box losses: geometry
    Mutant("iou: union without the intersection", BOX + "geometry.py", " - intersection + eps", " + eps", VALUES),
    Mutant(
        "iou: overlap of boxes apart",
        BOX + "geometry.py",
        "sides.overlap_w.clamp(min=0) *",
        "sides.overlap_w *",
        VALUES,
    ),
    Mutant(
        "diou: half the distance",
        BOX + "geometry.py",
        ".sum(dim=1) / 4 / diagonal",
        ".sum(dim=1) / 8 / diagonal",
        VALUES,
    ),
    Mutant(
        "geometry: enclosing width of the overlap",
        BOX + "geometry.py",
        "enclosing_w=torch.maximum(px2, tx2) - torch.minimum(px1, tx1)",
        "enclosing_w=torch.maximum(px2, tx2) - torch.maximum(px1, tx1)",
        VALUES,
    ),
    Mutant(
        "siou: exponent of the height",
        BOX + "geometry.py",
        "(1 - torch.exp(-height_error)).pow(theta)",
        "(1 - torch.exp(-height_error))",
        VALUES,
    ),
    # box losses: what makes each of them itself
    Mutant("giou: no penalty", BOX + "giou.py", "return iou - (enclosing - union) / enclosing", "return iou", VALUES),
    Mutant(
        "giou: by the union", BOX + "giou.py", "(enclosing - union) / enclosing", "(enclosing - union) / union", VALUES
    ),
    Mutant(
        "diou: no penalty", BOX + "diou.py", "return iou - centre_distance", "return iou - 0 * centre_distance", VALUES
    ),
    Mutant("ciou: no aspect term", BOX + "ciou.py", " - alpha * v", "", VALUES),
    Mutant("ciou: trade-off attached", BOX + "ciou.py", NO_GRAD, WITH_GRAD, GRADIENTS),
    Mutant("ciou: factor of the angle", BOX + "ciou.py", "return 4 / math.pi**2", "return 2 / math.pi**2", VALUES),
    Mutant("eiou: no width term", BOX + "eiou.py", "return width + height", "return height", VALUES),
    Mutant(
        "eiou: height by the enclosing width",
        BOX + "eiou.py",
        "height = (sides.pred_h - sides.target_h).square() / (sides.enclosing_h",
        "height = (sides.pred_h - sides.target_h).square() / (sides.enclosing_w",
        VALUES,
    ),
    Mutant("focal_eiou: weight inverted", BOX + "eiou.py", "[0].pow(gamma)", "[0].rsub(1).pow(gamma)", VALUES),
    Mutant("focal_eiou: weight attached", BOX + "eiou.py", NO_GRAD, WITH_GRAD, GRADIENTS),
    Mutant("siou: half the angle", BOX + "siou.py", "angle = 2 * offset", "angle = offset", VALUES),
    Mutant("siou: angle of x alone", BOX + "siou.py", "torch.exp((angle - 2) * y)", "torch.exp(-2 * y)", VALUES),
    Mutant("siou: no shape cost", BOX + "siou.py", " + shape_cost(width, height, theta)) / 2", ") / 2", VALUES),
    Mutant("siou: nothing under the angle", BOX + "siou.py", "(square.sum(dim=1) + eps)", "square.sum(dim=1)", PUBLIC),
    Mutant(
        "sca: overlap without sign",
        BOX + "sca.py",
        "overlap_x = sides.overlap_w /",
        "overlap_x = sides.overlap_w.clamp(min=0) /",
        VALUES,
    ),
    Mutant(
        "sca: one corner", BOX + "sca.py", "(top_left + bottom_right) / diagonal", "2 * top_left / diagonal", VALUES
    ),
    Mutant(
        "alpha_iou: power of the IoU", BOX + "alpha_iou.py", "similarity = iou.pow(alpha)", "similarity = iou", VALUES
    ),
    Mutant(
        "alpha_iou: power of the distance",
        BOX + "alpha_iou.py",
        "centre_distance_ratio(pred, target, sides, eps).pow(alpha)",
        "centre_distance_ratio(pred, target, sides, eps)",
        VALUES,
    ),
    Mutant("alpha_iou: power of the aspect", BOX + "alpha_iou.py", "(beta * v).pow(alpha)", "(beta * v)", VALUES),
    Mutant("alpha_iou: trade-off attached", BOX + "alpha_iou.py", NO_GRAD, WITH_GRAD, GRADIENTS),
    Mutant(
        "alpha_iou: power of the empty share",
        BOX + "alpha_iou.py",
        "_enclosing_share(sides, union, eps).pow(alpha)",
        "_enclosing_share(sides, union, eps)",
        VALUES,
    ),
    Mutant("mpdiou: height of the image", BOX + "mpdiou.py", "(width**2 + height**2)", "(2 * width**2)", VALUES),
    Mutant(
        "mpdiou: size of the image ignored",
        BOX + "mpdiou.py",
        "self.image_size if context.image_wh is None else context.image_wh",
        "self.image_size",
        UNITS,
    ),
    Mutant("nwd: side term", BOX + "nwd.py", "sides.sum(dim=1) / 4", "sides.sum(dim=1) / 2", VALUES),
    Mutant("nwd: root of 0", BOX + "nwd.py", " + eps**2).sqrt()", ").sqrt()", EVERY_BOX),
    Mutant("nwd: in cells", BOX + "nwd.py", "    pixels=True,", "    pixels=False,", UNITS),
    Mutant(
        "shape_iou: weights swapped",
        BOX + "shape_iou.py",
        "hh * square[:, 0] + ww * square[:, 1]",
        "ww * square[:, 0] + hh * square[:, 1]",
        VALUES,
    ),
    Mutant("shape_iou: shape unweighted", BOX + "shape_iou.py", "hh * width, ww * height", "width, height", VALUES),
    Mutant("shape_iou: no scale", BOX + "shape_iou.py", ".pow(scale)", "", VALUES),
    Mutant(
        "piou: sides of the prediction",
        BOX + "piou.py",
        "(boxes_to_centres(target)[1] + eps)",
        "(boxes_to_centres(pred)[1] + eps)",
        VALUES,
    ),
    Mutant("piou: no square", BOX + "piou.py", "eps).square()) - 1", "eps)) - 1", VALUES),
    Mutant("piou2: attention", BOX + "piou.py", "torch.exp(-x.square())", "torch.exp(-x)", VALUES),
    Mutant(
        "piou2: attention detached",
        BOX + "piou.py",
        "x = lam * torch.exp(-edge_error(pred, target, eps))",
        "x = lam * torch.exp(-edge_error(pred, target, eps)).detach()",
        GRADIENTS,
    ),
    Mutant(
        "interp_iou: second IoU", BOX + "interp_iou.py", "iou + iou_of(between, target, eps) - 1", "2 * iou - 1", VALUES
    ),
    Mutant("interp_iou: share attached", BOX + "interp_iou.py", "1 - iou.detach()", "1 - iou", GRADIENTS),
    Mutant("l1: squares", BOX + "l1.py", ".abs().mean(dim=1)", ".square().mean(dim=1)", VALUES),
    Mutant("smooth_l1: beta", BOX + "l1.py", "beta=beta, reduction", "beta=1.0, reduction", VALUES),
    Mutant("gcd: quarter of the sides", BOX + "gcd.py", ".square() / 4\n", ".square()\n", VALUES),
    Mutant(
        "gcd: sides of the target alone",
        BOX + "gcd.py",
        "squares / (pred_sides + eps).square() +",
        "squares / (target_sides + eps).square() +",
        VALUES,
    ),
    Mutant(
        "gcd: square of the distance",
        BOX + "gcd.py",
        "(squared_distance + eps**2).sqrt()",
        "(squared_distance + eps**2)",
        VALUES,
    ),
    Mutant(
        "inner: prediction not scaled",
        BOX + "wrappers.py",
        "iou_of(scaled(pred), scaled(target), eps)",
        "iou_of(pred, scaled(target), eps)",
        VALUES,
    ),
    Mutant(
        "wrappers: IoU not taken out",
        BOX + "wrappers.py",
        "difference = iou_of(pred, target, eps) - ",
        "difference = -",
        VALUES,
    ),
    Mutant("focaler: no limits", BOX + "wrappers.py", "(u - d)).clamp(0, 1)", "(u - d))", VALUES),
    Mutant(
        "wrappers: context not passed on",
        BOX + "wrappers.py",
        "target, eps, context) + difference",
        "target, eps, BoxContext()) + difference",
        UNITS,
    ),
    Mutant(
        "units: stride of x alone", BOX + "base.py", "pred * stride, target * stride", "pred * stride, target", UNITS
    ),
    # Wise-IoU and its running mean
    Mutant(
        "wiou: no distance factor",
        BOX + "wiou.py",
        "torch.exp(squared_offset / ",
        "torch.exp(0 * squared_offset / ",
        VALUES,
    ),
    Mutant("wiou: diagonal attached", BOX + "wiou.py", "squared_diagonal.detach()", "squared_diagonal", PUBLIC),
    Mutant("wiou: gain of version 2", BOX + "wiou.py", "outlier.sqrt()", "outlier", VALUES),
    Mutant("wiou: gain of version 3", BOX + "wiou.py", "(outlier - self.delta)", "outlier", VALUES),
    Mutant("wiou: gain attached", BOX + "wiou.py", "own = iou_loss.detach()", "own = iou_loss", WIOU),
    Mutant("wiou: mean moves in evaluation", BOX + "wiou.py", "if self.training and torch", "if torch", WIOU),
    Mutant("wiou: mean of its own momentum", BOX + "wiou.py", "step = self.momentum * ", "step = ", WIOU),
    Mutant(
        "wiou: mean no buffer",
        BOX + "wiou.py",
        'self.register_buffer("mean_iou_loss", torch.ones(()))',
        "self.mean_iou_loss = torch.ones(())",
        WIOU,
    ),
    Mutant(
        "wiou: waits in a step of its own",
        BOX + "wiou.py",
        "all_reduce_sum(total) if across_processes else total",
        "all_reduce_sum(total)",
        PROCESSES,
    ),
    # elementwise score losses
    Mutant("focal: exponent", LOSSES + "elementwise.py", "miss.pow(gamma)", "miss", SCORES),
    Mutant(
        "focal: balance",
        LOSSES + "elementwise.py",
        "targets * alpha + (1 - targets) * (1 - alpha)",
        "targets * alpha + (1 - targets)",
        SCORES,
    ),
    Mutant(
        "focal: weight of positives",
        LOSSES + "elementwise.py",
        "miss.pow(gamma) * binary_cross_entropy(logits, targets, weight)",
        "miss.pow(gamma) * binary_cross_entropy(logits, targets, None)",
        SCORES,
    ),
    Mutant("qfocal: exponent", LOSSES + "elementwise.py", ".abs().pow(beta)", ".abs()", SCORES),
    Mutant(
        "varifocal: alpha",
        LOSSES + "elementwise.py",
        "alpha * logits.sigmoid().pow(gamma)",
        "logits.sigmoid().pow(gamma)",
        SCORES,
    ),
    Mutant(
        "varifocal: weight of the target",
        LOSSES + "elementwise.py",
        "torch.where(targets > 0, targets, alpha",
        "torch.where(targets > 0, 1.0, alpha",
        SCORES,
    ),
    Mutant("mal: weight attached", LOSSES + "elementwise.py", "logits.detach().sigmoid()", "logits.sigmoid()", SCORES),
    Mutant(
        "mal: power of the target",
        LOSSES + "elementwise.py",
        "targets.pow(gamma), torch.zeros_like",
        "targets, torch.zeros_like",
        SCORES,
    ),
    # ranking losses
    Mutant(
        "rs: rank",
        RANKING + "rank_sort.py",
        "rank = count + false_positives",
        "rank = count + 0.5 + false_positives",
        LOOPS,
    ),
    Mutant(
        "rs: denominator of the target",
        RANKING + "rank_sort.py",
        "(total - total_lower) / (count - count_lower)",
        "(total - total_lower) / count",
        LOOPS,
    ),
    Mutant(
        "rs: nothing for the lower",
        RANKING + "rank_sort.py",
        "lower.spread(share / num) - sorting_error / num",
        "-sorting_error / num",
        LOOPS,
    ),
    Mutant(
        "rs: gradient of the negatives",
        RANKING + "rank_sort.py",
        "1 / (rank * num), sorting_gradient",
        "1 / (count * num), sorting_gradient",
        LOOPS,
    ),
    Mutant(
        "rs: equal IoUs in a block",
        RANKING + "sorting.py",
        "ious[:, None, :] >= ious[:, :, None]",
        "ious[:, None, :] > ious[:, :, None]",
        LOOPS,
    ),
    Mutant(
        "rs: equal IoUs across blocks",
        RANKING + "sorting.py",
        "torch.where(half.tied_high, untied, every)",
        "every",
        SORTING,
    ),
    Mutant(
        "rs: spread across blocks",
        RANKING + "sorting.py",
        "torch.where(half.tied_low, untied, every)",
        "every",
        SORTING,
    ),
    Mutant("ap: itself", RANKING + "ap.py", ".value + 0.5 + false_positives", ".value + false_positives", LOOPS),
    Mutant("ap: not interpolated", RANKING + "ap.py", "error[order].cummin(dim=0).values", "error[order]", LOOPS),
    Mutant(
        "ap: gradient of the negatives",
        RANKING + "ap.py",
        "least / (false_positives * num), 0",
        "least / num, 0",
        LOOPS,
    ),
    Mutant(
        "alrp: itself",
        RANKING + "alrp.py",
        "rank = count + 0.5 + false_positives",
        "rank = count + false_positives",
        LOOPS,
    ),
    Mutant(
        "alrp: its own error",
        RANKING + "alrp.py",
        "(total - own_error / 2 + false_positives)",
        "(total + false_positives)",
        LOOPS,
    ),
    Mutant(
        "alrp: equal scores", RANKING + "alrp.py", "(above[first] + above[behind] + weights) / 2", "above[first]", LOOPS
    ),
    Mutant("alrp: perfectly ranked", RANKING + "alrp.py", "torch.where(wrong, -error, 0)", "-error", LOOPS),
    Mutant(
        "alrp: gradient of the errors",
        RANKING + "alrp.py",
        "_hard_sums(-scores, 1 / (rank * num))",
        "_hard_sums(scores, 1 / (rank * num))",
        LOOPS,
    ),
    Mutant(
        "ranking: place of the step",
        RANKING + "examples.py",
        "Windows(scores - delta, 2 * delta)",
        "Windows(scores, 2 * delta)",
        LOOPS,
    ),
    Mutant(
        "ranking: negatives below the lowest",
        RANKING + "examples.py",
        "scores.min() - delta if",
        "scores.min() if",
        LOOPS,
    ),
    Mutant("ranking: ignored as negatives", RANKING + "examples.py", "(labels == 0) &", "(labels <= 0) &", LOOPS),
    Mutant(
        "ranking: negatives of the others",
        RANKING + "examples.py",
        "false_positives = distributed.all_reduce_sum(false_positives)",
        "false_positives = false_positives + 0",
        PROCESSES,
    ),
    Mutant(
        "ranking: positives of the others",
        RANKING + "examples.py",
        "own = torch.cat(parts), slice(first, first",
        "own = torch.cat(parts), slice(0, 0",
        PROCESSES,
    ),
    Mutant(
        "windows: distances of the gaps",
        RANKING + "window.py",
        "totals[1] + gaps * _shift(weight)",
        "totals[1]",
        WINDOW,
    ),
    Mutant(
        "windows: beyond the window", RANKING + "window.py", "beyond = 2 * self.width", "beyond = self.width", WINDOW
    ),
    Mutant(
        "windows: slope of squares",
        RANKING + "window.py",
        "2 * (ramp - above) / self.width",
        "2 * ramp / self.width",
        WINDOW,
    ),
    Mutant(
        "windows: spread of squares",
        RANKING + "window.py",
        "2 * rising + steepest * gaps",
        "rising + steepest * gaps",
        WINDOW,
    ),
    Mutant(
        "steps: slope of the thresholds",
        RANKING + "step_sums.py",
        "(-grad * slope).to(weights.dtype)",
        "(grad * slope).to(weights.dtype)",
        STEPS,
    ),
    Mutant(
        "steps: sigmoid's slope", RANKING + "step_sums.py", "steepness = step * (1 - step)", "steepness = step", STEPS
    ),
    Mutant(
        "parameterized_ap: true as false",
        RANKING + "parameterized_ap.py",
        "1 - functions.truth(ious)",
        "functions.truth(ious)",
        PAP,
    ),
    Mutant(
        "parameterized_ap: weight",
        RANKING + "parameterized_ap.py",
        "functions.weight(positive_ious) * false",
        "functions.earning(positive_ious) * false",
        PAP,
    ),
    Mutant(
        "parameterized_ap: reach",
        RANKING + "parameterized_ap.py",
        "thresholds.detach().min() - functions.reach",
        "thresholds.detach().min()",
        PAP,
    ),
    Mutant(
        "parameterized_ap: factor of the IoU",
        RANKING + "parameterized_ap.py",
        "(2 * ious - 1).sigmoid()",
        "ious.sigmoid()",
        PAP,
    ),
    # correlation losses
    Mutant(
        "concordance: means",
        LOSSES + "correlation.py",
        "variances + (x.mean() - y.mean()).square()",
        "variances",
        CORRELATION,
    ),
    Mutant(
        "concordance: P for P - 1",
        LOSSES + "correlation.py",
        "(x_centred * y_centred).sum() / (len(x) - 1)",
        "(x_centred * y_centred).mean()",
        CORRELATION,
    ),
    Mutant(
        "pearson: deviation of x",
        LOSSES + "correlation.py",
        "(_standardise(x) * _standardise(y))",
        "(_centre(x) * _standardise(y))",
        CORRELATION,
    ),
    Mutant(
        "spearman: means of the runs", LOSSES + "correlation.py", "(ordered - means[run_of])", "ordered", CORRELATION
    ),
    Mutant("spearman: strength in the gradient", LOSSES + "correlation.py", " / ctx.strength", "", CORRELATION),
    Mutant(
        "spearman: relative strength",
        LOSSES + "correlation.py",
        "strength * RELATIVE_STRENGTH / len(values)",
        "strength * RELATIVE_STRENGTH",
        CORRELATION,
    ),
    # criterion
    Mutant("classes: smoothing", CRITERION + "class_loss.py", "1 - label_smoothing / 2", "1 - label_smoothing", WHOLE),
    Mutant("classes: sum for mean", CRITERION + "class_loss.py", ".mean(dim=1)", ".sum(dim=1)", WHOLE),
    Mutant("objectness: objects of one anchor add up", CRITERION + "elementwise.py", '"amax")', '"sum")', WHOLE),
    Mutant("objectness: sum over images", CRITERION + "elementwise.py", ".sum() / batch", ".sum()", WHOLE),
    Mutant("objectness: positives ignored", CRITERION + "elementwise.py", "ignore & ~positive", "ignore", BEST),
    Mutant(
        "objectness: share of a process",
        CRITERION + "elementwise.py",
        "objectness / world_size() if together",
        "objectness if together",
        PROCESSES,
    ),
    Mutant(
        "box: one mean for all levels",
        CRITERION + "matches.py",
        "else count)[level]",
        "else count).sum().expand(len(level))",
        WHOLE,
    ),
    Mutant("gains: image size", CRITERION + "build.py", "(image_size / SIDE) ** 2", "(image_size / SIDE)", WHOLE),
    Mutant("gains: number of classes", CRITERION + "build.py", "hyp.cls * num_classes / CLASSES", "hyp.cls", WHOLE),
    Mutant(
        "gains: balance of three levels", CRITERION + "build.py", "{3: (4.0, 1.0, 0.4)}", "{3: (4.0, 1.0, 0.25)}", WHOLE
    ),
    Mutant(
        "matches: worst object of an anchor",
        CRITERION + "matches.py",
        "argsort(descending=True, stable=True)",
        "argsort(stable=True)",
        RANKED,
    ),
    Mutant(
        "matches: counts of the others",
        CRITERION + "matches.py",
        "all_reduce_sum(count) if global_counts else count",
        "count",
        PROCESSES,
    ),
    Mutant(
        "ranking part: poor boxes as background", CRITERION + "ranking.py", "quality.clamp(min=1e-6)", "quality", RANKED
    ),
    Mutant(
        "ranking part: ignored as background",
        CRITERION + "ranking.py",
        "ignore[..., None], -1.0)",
        "ignore[..., None], 0.0)",
        RANKED,
    ),
    Mutant(
        "ranking part: boxes by their scores",
        CRITERION + "ranking.py",
        "logits.sigmoid() if self.ranking_loss",
        "torch.ones_like(box_loss) if self.ranking_loss",
        RANKED,
    ),
    Mutant(
        "ranking part: scaled box error",
        CRITERION + "ranking.py",
        "(box_loss - low) / (high - low)",
        "box_loss - low",
        RANKED,
    ),
    Mutant(
        "ranking part: class of the positive",
        CRITERION + "ranking.py",
        "position * num_classes + matches.classes",
        "position * num_classes",
        RANKED,
    ),
    Mutant(
        "ranking part: weights of the others",
        CRITERION + "ranking.py",
        "all_reduce_sum(weight.sum()).clamp",
        "weight.sum().clamp",
        PROCESSES,
    ),
    Mutant("self-balance: ratio", CRITERION + "self_balance.py", "return score / box", "return box / score", RANKED),
    Mutant(
        "self-balance: counts in evaluation",
        CRITERION + "self_balance.py",
        "if self.training:",
        "if self is not None:",
        RANKED,
    ),
    Mutant(
        "self-balance: sums go on",
        CRITERION + "self_balance.py",
        "self.score_sum.zero_()",
        "self.score_sum.abs_()",
        RANKED,
    ),
    Mutant(
        "self-balance: means of the others",
        CRITERION + "self_balance.py",
        "all_reduce_sum(sums) if across_processes else sums",
        "sums",
        PROCESSES,
    ),
    Mutant(
        "joint score: gradient of the objectness",
        CRITERION + "joint_score.py",
        " - objectness.sigmoid() * to_classes.sum(dim=-1, keepdim=True)",
        "",
        JOINT,
    ),
    Mutant(
        "joint score: product alone",
        CRITERION + "joint_score.py",
        "-functional.logsigmoid(objectness) - classes, -objectness",
        "-classes, -objectness",
        JOINT,
    ),
    Mutant("correlation part: joint score", CRITERION + "correlation.py", "if self.joint:", "if False:", CORRELATED),
    Mutant(
        "correlation part: own gradient",
        CRITERION + "correlation.py",
        "everyone[rank()] = scores",
        "everyone[rank()] = scores.detach().requires_grad_()",
        PROCESSES,
    ),
    Mutant(
        "criterion: total of the batch",
        CRITERION + "criterion.py",
        "parts.values()) * len(flat)",
        "parts.values())",
        WHOLE,
    ),
    Mutant(
        "criterion: target of 1",
        CRITERION + "criterion.py",
        "return torch.ones_like(matches.iou)",
        "return matches.iou",
        WHOLE,
    ),
    Mutant(
        "criterion: box similarity as target",
        CRITERION + "criterion.py",
        "return similarity.clamp(0, 1)",
        "return matches.iou",
        WHOLE,
    ),
    Mutant(
        "criterion: size of the image",
        CRITERION + "criterion.py",
        "table.level_grid[0] * self.strides[0]",
        "table.level_grid[0].flip(0) * self.strides[0]",
        UNITS,
    ),
    Mutant(
        "criterion: evaluation moves the state",
        CRITERION + "criterion.py",
        "        self.eval()\n",
        "        self.train()\n",
        PROCESSES,
    ),
    Mutant(
        "criterion: waits when nobody said so",
        CRITERION + "criterion.py",
        "across_processes = self._must_join()",
        "across_processes = self.training",
        PROCESSES,
    ),
    Mutant(
        "processes: gradient of a share",
        "utils/distributed.py",
        "(share - share.detach()) * world_size()",
        "(share - share.detach())",
        PROCESSES,
    ),
    Mutant(
        "processes: gradient of a shared value",
        "utils/distributed.py",
        "(value - value.detach()) * world_size()",
        "(value - value.detach())",
        PROCESSES,
    ),
    # anchors and assigners
    Mutant("anchors: centre of a box", "utils/boxes.py", "scaled[..., :2] - 0.5", "scaled[..., :2]", WHOLE),
    Mutant(
        "anchors: tables of inference mode",
        "utils/boxes.py",
        "torch.inference_mode(False)",
        "torch.inference_mode(torch.is_inference_mode_enabled())",
        TABLES,
    ),
    Mutant("anchor_ratio: limit itself", ASSIGNERS + "anchor_ratio.py", "< self.anchor_t", "<= self.anchor_t", RATIO),
    Mutant(
        "anchor_ratio: one direction", ASSIGNERS + "anchor_ratio.py", "torch.maximum(ratio, 1 / ratio)", "ratio", RATIO
    ),
    Mutant(
        "anchor_ratio: beyond the border",
        ASSIGNERS + "anchor_ratio.py",
        "(centre % 1 < 0.5) & (centre > 1)",
        "(centre % 1 < 0.5)",
        RATIO,
    ),
    Mutant(
        "anchor_ratio: neighbours",
        ASSIGNERS + "anchor_ratio.py",
        "torch.stack((right, down), dim=1)",
        "torch.stack((down, right), dim=1)",
        RATIO,
    ),
    Mutant("atss: mean alone", ASSIGNERS + "atss.py", "threshold = mean + ", "threshold = mean + 0 * ", ATSS),
    Mutant("atss: biased deviation", ASSIGNERS + "atss.py", "(count - 1).clamp(min=1)", "count", ATSS),
    Mutant(
        "atss: centres outside", ASSIGNERS + "atss.py", "near.exists & near.inside & fits", "near.exists & fits", ATSS
    ),
    Mutant(
        "atss: worst object of an anchor",
        ASSIGNERS + "atss.py",
        "iou.sort(descending=True, stable=True)",
        "iou.sort(stable=True)",
        ATSS,
    ),
    Mutant(
        "best_iou: positives ignored", ASSIGNERS + "best_iou.py", "ignore.new_zeros(())", "ignore.new_ones(())", BEST
    ),
    Mutant("best_iou: nearest cell", ASSIGNERS + "best_iou.py", ".floor()", ".round()", BEST),
    Mutant(
        "best_iou: area for shape",
        ASSIGNERS + "best_iou.py",
        "torch.minimum(sizes1[:, None], sizes2).prod(dim=-1)",
        "torch.minimum(sizes1.prod(dim=-1)[:, None], sizes2.prod(dim=-1))",
        BEST,
    ),
    Mutant(
        "assigners: first anchor of the level",
        ASSIGNERS + "base.py",
        "return table.level_offset[level] + ",
        "return ",
        RATIO,
    ),
)


def run(mutant: Mutant, folder: Path) -> tuple[int, str]:
    """Exit status of the tests with the fault in a copy of the repository, and what they printed at the end."""
    file = folder / mutant.file
    text = file.read_text(encoding="utf-8")
    file.write_text(mutant.mutated(text), encoding="utf-8")
    try:
        return run_tests([mutant.tests], folder)
    finally:
        file.write_text(text, encoding="utf-8")


def run_tests(tests: Iterable[str], folder: Path) -> tuple[int, str]:
    """Exit status of pytest in a copy of the repository, and the end of its output."""
    # no bytecode: a file that changes twice in a second could be taken for its former self
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def main() -> None:
    """Run the table and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="beginnings of names; all without it")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if mutant.name.startswith(tuple(options.only))]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            copy = Path(scratch) / str(number)
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            folders.put(copy)
        status, output = run_tests(sorted({mutant.tests for mutant in chosen}), Path(scratch) / "0")
        if status != PASSED:
            sys.exit(f"the tests fail without any fault:\n{output}")
        print(f"{len(chosen)} faults; without them the tests pass", flush=True)

        def work(mutant: Mutant) -> tuple[int, str]:
            folder = folders.get()
            try:
                return run(mutant, folder)
            finally:
                folders.put(folder)

        survivors, broken = [], []
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, (status, output) in zip(chosen, pool.map(work, chosen), strict=True):
                print("caught  " if status == FAILED else "SURVIVED" if status == PASSED else "BROKEN  ", mutant.name)
                if status == PASSED:
                    survivors.append(mutant.name)
                elif status != FAILED:
                    broken.append(f"{mutant.name}: {output}")
                sys.stdout.flush()
    caught = len(chosen) - len(survivors) - len(broken)
    print(f"{caught} of {len(chosen)} caught in {(time.monotonic() - began) / 60:.1f} minutes")
    if survivors or broken:
        sys.exit("\n".join(["survived:", *survivors, "could not be run:", *broken]))


if __name__ == "__main__":
    main()
