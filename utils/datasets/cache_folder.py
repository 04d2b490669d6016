"""Where derived files go: a folder of this program, never the user's data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def cache_folder() -> Path:
    """``$YOLO_CACHE_DIR``, else ``yolo-losses`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. It need not exist yet."""
    chosen = os.environ.get("YOLO_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolo-losses"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that another process sees either nothing or all of it.

    Args:
        path: the file; its folder is created.
        write: called with the opened temporary file.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
