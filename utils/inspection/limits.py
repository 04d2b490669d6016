"""From where on something is a finding."""

from __future__ import annotations

SMALLEST_SIDE = 3.0  # pixels at the size of the network's input; augmentation drops objects of 2 pixels
EXTREME_ASPECT = 20.0
SAME_BOX_IOU = 0.9
OVERHANG_PIXELS = 2.0  # less is a matter of counting pixels from 0 or 1, or of rounding ...
OVERHANG_SHARE = 0.005  # ... to three digits, in units of the image's side
SUFFICIENT_RECALL = 0.98  # of the anchors; below it training looks for better ones
MIXED_SIZES = 4.0
