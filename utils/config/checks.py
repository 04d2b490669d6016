"""Checks of flags."""

from __future__ import annotations

import logging

from utils.errors import UserError

log = logging.getLogger(__name__)


def check_fractions(**settings: float) -> None:
    """Refuse settings, named like the flags with underscores, that do not lie in [0, 1].

    Raises:
        UserError: names the flag, what was expected and what was found.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')}: expected a number from 0 to 1 but got {value:g}")


def warn_without(needed: str, is_on: bool, **settings: object) -> None:
    """Warn of settings, named like the flags with underscores, that have no effect without another flag.

    Args:
        needed: that other flag, ``--save-txt``.
        is_on: whether it is given.
        **settings: those that need it; those that are off (false or 0) are skipped.
    """
    for name, value in settings.items():
        if value and not is_on:
            log.warning("--%s does nothing without %s", name.replace("_", "-"), needed)
