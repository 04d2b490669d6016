"""Where derived files go: a folder of this program, never the user's data."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$YOLO_CACHE_DIR``, else ``yolo-losses`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. It need not exist yet."""
    chosen = os.environ.get("YOLO_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "yolo-losses"
