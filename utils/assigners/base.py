"""The registry of assigners. An assigner chooses anchors for objects; it knows nothing of losses.

An entry's ``settings`` names the hyper-parameters that its builder takes.
"""

from __future__ import annotations

from utils.registry import Registry

ASSIGNERS = Registry("assigner")
