"""Ranking losses: differentiable by their papers' own updates, exact, without the matrix of all pairs."""
