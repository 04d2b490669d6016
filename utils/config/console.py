"""What a command says: messages, progress bars, and how it ends."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils import distributed
from utils.errors import UserError
from utils.files import ROOT


def run_main(function: Callable[[], Any]) -> None:
    """Run a command, with its messages on the console.

    A :class:`UserError` is printed as one ``error:`` message and exits with 2; Ctrl-C exits with 130. If the reader of
    the output goes away (``| head``), the command ends silently with 141, as a shell would report it.
    """
    setup_logging()
    try:
        function()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed goes there
        sys.exit(141)


class _ConsoleHandler(logging.Handler):
    """Plain messages to stdout, warnings to stderr, above a progress bar and never through it."""

    def emit(self, record: logging.LogRecord) -> None:
        serious = record.levelno >= logging.WARNING
        stream = sys.stderr if serious else sys.stdout
        prefix = f"{record.levelname.lower()}: " if serious else ""
        tqdm.write(prefix + self.format(record), file=stream)
        stream.flush()

    def filter(self, record: logging.LogRecord) -> bool:
        """Libraries get a word in only when something is wrong, processes beside the main one only with errors."""
        own = _is_own(record.pathname)
        least = logging.ERROR if not distributed.is_main() else logging.NOTSET if own else logging.WARNING
        return record.levelno >= least


@functools.cache
def _is_own(pathname: str) -> bool:
    """Whether a source file belongs to this program, also where it was reached by ``..`` or through a link."""
    path = Path(pathname).resolve()
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts


def setup_logging() -> None:
    """Show this program's messages on the console. For commands only; calling it again has no effect."""
    root = logging.getLogger()
    if not any(isinstance(handler, _ConsoleHandler) for handler in root.handlers):
        root.addHandler(_ConsoleHandler())
        root.setLevel(logging.INFO)


@contextlib.contextmanager
def shown_messages(quiet: bool = False) -> Iterator[None]:
    """Show this program's messages for a while, as a notebook wants them: where the caller has set up no logging.

    Args:
        quiet: warnings and errors alone, and no progress bars.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    if not handlers:
        setup_logging()
    if quiet:
        root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = [handler for handler in root.handlers if handler in handlers]


def progress_bar(iterable: Iterable, total: int | None = None, desc: str = "") -> tqdm:
    """A bar with rate and time left; silent where stderr is no terminal, and in all processes but the main one."""
    return tqdm(iterable, total=total, desc=desc, disable=_is_quiet(), dynamic_ncols=True)


def images_bar(total: int | None, desc: str = "", show: bool = True) -> tqdm:
    """A bar that counts images: images a second and time left; ``update(n)`` it, and close it or use ``with``.

    Args:
        total: images in all, None where that is not known.
        desc: text before the bar.
        show: False for a silent one.
    """
    return tqdm(total=total, desc=desc, unit="img", disable=not show or _is_quiet(), dynamic_ncols=True)


def _is_quiet() -> bool:
    silenced = not logging.getLogger().isEnabledFor(logging.INFO) and bool(logging.getLogger().handlers)
    return silenced or not (sys.stderr.isatty() and distributed.is_main())
