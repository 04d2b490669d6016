"""Errors that a user can act on, and the one wording for an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A wrong setting, flag, name, path or file. Commands print its message alone, without a traceback."""


class ContradictionError(UserError):
    """Settings that are right one by one, but not together."""


class ForeignCheckpointError(UserError):
    """A checkpoint of another program where one of this program is needed."""


class DivergenceError(UserError):
    """The numbers of a training are no longer finite; other settings may help."""


def unknown_name(kind: str, name: object, known: Iterable[str], where: str = "") -> UserError:
    """Build the error for a name that does not exist.

    Args:
        kind: what the name stands for, e.g. ``"box loss"``.
        name: what was found.
        known: every name that would have been accepted.
        where: file (and line) that holds the name, or empty.

    Returns:
        UserError: ``<where>: unknown <kind> 'ciuo'. Known: ciou, diou. Did you mean 'ciou'?``
    """
    names = sorted(str(entry) for entry in known)
    lower = {entry.lower(): entry for entry in names}
    near = [lower[entry] for entry in difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)]
    message = f"unknown {kind} {str(name)!r}. Known: {', '.join(names) or 'none'}."
    if near:
        message += f" Did you mean {near[0]!r}?"
    return UserError(f"{where}: {message}" if where else message)
