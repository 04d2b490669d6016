"""What the registries know of a loss."""

from __future__ import annotations

from dataclasses import dataclass

from utils.registry import Info

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class LossInfo(Info):
    """One registered loss.

    Attributes:
        formula: the loss in one line of text, for tables.
        range: smallest and largest value with the default parameters (the upper end may be a supremum).
        paper: authors, title, venue, and arXiv number or DOI.
        ranking: whether it compares the scores of a batch with one another.
    """

    formula: str
    range: Range
    paper: str
    ranking: bool = False
