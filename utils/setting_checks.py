"""Checks of numeric flags."""

from __future__ import annotations

from utils.errors import UserError


def check_fractions(**settings: float) -> None:
    """Refuse settings, named like the flags with underscores, that do not lie in [0, 1].

    Raises:
        UserError: names the flag, what was expected and what was found.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')}: expected a number from 0 to 1 but got {value:g}")


def check_counts(**settings: int) -> None:
    """Refuse settings, named like the flags with underscores, below 1.

    Raises:
        UserError: names the flag, what was expected and what was found.
    """
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')}: expected a whole number from 1 on but got {value}")
