"""Words that flags offer and the code behind them reads; here, so that ``--help`` need not wait for that code."""

from __future__ import annotations

AMP_CHOICES = ("auto", "off", "bf16", "fp16")  # network arithmetic
OPTIMIZERS = ("SGD", "Adam", "AdamW")
CALIBRATIONS = ("none", "isotonic", "platt")  # maps from score to probability
AUTO = "auto"  # in place of a threshold: the best of each class, as stored in the checkpoint
