"""Entry points of ``torch.hub``: ``torch.hub.load(FOLDER, "custom", path="best.pt", source="local")``.

``FOLDER`` is the folder of this file. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

dependencies = ["torch", "torchvision", "numpy", "cv2", "yaml", "PIL"]


def custom(path: str | Path, device: str = "cpu", **settings: Any) -> Any:
    """A detector from a checkpoint, of this program or of YOLOv5 or YOLOv3.

    Args:
        path: checkpoint file. Code in it is never run.
        device: ``cpu``, ``0``, ``mps``.
        settings: further arguments of ``detect.load``, e.g. ``conf_thres``.

    Returns:
        detect.Detector: call it with paths, folders, arrays, PIL images, or lists of them.
    """
    import detect  # here, so that torch.hub can list the entry points of this file without loading the program

    return detect.load(path, device=device, **settings)
