"""How long the stages of the work take."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Seconds spent in named sections, with work queued on a GPU counted where it was queued."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._last = 0.0

    def start(self) -> None:
        """Begin the next section."""
        self._last = self._now()

    def lap(self, section: str) -> None:
        """End a section and begin the next."""
        now = self._now()
        self.seconds[section] = self.seconds.get(section, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
