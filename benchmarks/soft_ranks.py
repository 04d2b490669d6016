"""The constant of `regularization: relative`: a larger one leaves more values a gradient, a smaller one ranks better.

python -m benchmarks.soft_ranks

Random scores and IoUs as a detector has them, 20 to 3000 values, ten draws each, seed 0: the same numbers everywhere.
For each constant c: the share of values that are pooled with others (the rest is ranked exactly and has no gradient),
and Pearson's correlation of the soft ranks with the ranks. The last column is the correlation of the values themselves
with their ranks: what Spearman's correlation becomes once all values are pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.stats import rankdata

from utils.losses.correlation import RELATIVE_STRENGTH, soft_rank

CONSTANTS = (1.0, 1.5, 2.0, 2.5, 3.0, 5.0)
COUNTS = (20, 100, 500, 3000)
NUM_DRAWS = 10


def scores(generator: np.random.Generator, count: int, mean: float, deviation: float) -> np.ndarray:
    """Sigmoids (count,) of normal logits."""
    return 1 / (1 + np.exp(-generator.normal(mean, deviation, count)))


SETS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "scores, logits 0 ± 1": partial(scores, mean=0, deviation=1),
    "scores near 0.01, logits -4.6 ± 0.3": partial(scores, mean=-4.6, deviation=0.3),
    "scores near 0.01, logits -4.6 ± 1": partial(scores, mean=-4.6, deviation=1),
    "scores near 1, logits 3 ± 2": partial(scores, mean=3, deviation=2),
    "IoUs, beta(6, 3)": lambda generator, count: generator.beta(6, 3, count),
    "uniform": lambda generator, count: generator.random(count),
}


def pooled_and_faithful(values: np.ndarray, constant: float) -> tuple[float, float]:
    """Share of the values whose soft rank is not exactly their rank, and the correlation of soft ranks with ranks."""
    ranks = rankdata(values) - (len(values) + 1) / 2
    soft = soft_rank(torch.from_numpy(values), constant / RELATIVE_STRENGTH, regularization="relative").numpy()
    return (soft != ranks).mean(), np.corrcoef(soft, ranks)[0, 1]


def rows() -> list[str]:
    """Lines of a Markdown table."""
    lines = [
        "| values | P | " + " | ".join(f"c = {c:g}" for c in CONSTANTS) + " | values |",
        "|---" * (len(CONSTANTS) + 3) + "|",
    ]
    for name, draw in SETS.items():
        for count in COUNTS:
            generator = np.random.default_rng(0)
            draws = [draw(generator, count) for _ in range(NUM_DRAWS)]
            cells = []
            for constant in CONSTANTS:
                pooled, faithful = np.mean([pooled_and_faithful(values, constant) for values in draws], axis=0)
                cells.append(f"{pooled:.0%}, {faithful:.4f}")
            plain = np.mean([np.corrcoef(values, rankdata(values))[0, 1] for values in draws])
            lines.append(f"| {name} | {count} | {' | '.join(cells)} | {plain:.4f} |")
    return lines


if __name__ == "__main__":
    print(__doc__, *rows(), sep="\n")
