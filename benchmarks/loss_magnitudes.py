"""How large each box loss and its gradient are at the start of training, relative to ciou: to choose a fair box gain.

python -m benchmarks.loss_magnitudes            # images of 640 pixels
python -m benchmarks.loss_magnitudes --img 320

Random objects of 1.5 to 55 % of the image's side, the anchors of YOLOv5, outputs of a fresh network (normal, deviation
0.3), double precision, seed 0: the same numbers everywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from utils.config.loading import load_hyperparameters
from utils.criterion.criterion import Criterion
from utils.files import ROOT

STRIDES = (8, 16, 32)
ANCHORS = torch.tensor(
    [
        [[10, 13], [16, 30], [33, 23]],
        [[30, 61], [62, 45], [59, 119]],
        [[116, 90], [156, 198], [373, 326]],
    ]
)
NUM_OBJECTS, NUM_IMAGES, NUM_CLASSES = 200, 4, 3


def scene(size: int) -> tuple[list[Tensor], Tensor]:
    """Raw outputs of three levels, and objects (M, 6)."""
    torch.manual_seed(0)
    sides = torch.exp(torch.rand(NUM_OBJECTS, 2) * 3.6 - 4.2)
    image = torch.randint(NUM_IMAGES, (NUM_OBJECTS, 1))
    label = torch.randint(NUM_CLASSES, (NUM_OBJECTS, 1))
    targets = torch.cat((image, label, torch.rand(NUM_OBJECTS, 2), sides), dim=1).double()
    shapes = [(NUM_IMAGES, ANCHORS.shape[1], size // stride, size // stride, 5 + NUM_CLASSES) for stride in STRIDES]
    return [0.3 * torch.randn(*shape, dtype=torch.float64) for shape in shapes], targets


def magnitude(setting: str | Mapping[str, Any], size: int) -> tuple[float, float]:
    """Mean loss over the positives, and the norm of the gradient of the box part with respect to the raw boxes."""
    raw, targets = scene(size)
    raw = [level.requires_grad_() for level in raw]
    criterion = Criterion(ANCHORS, STRIDES, NUM_CLASSES, size, {"loss": {"box": setting}, "obj": 0, "cls": 0})
    losses: list[Tensor] = []
    criterion.box_loss.register_forward_hook(lambda module, arguments, output: losses.append(output))
    slopes = torch.autograd.grad(criterion(raw, targets).total, raw)
    slope = torch.cat([level[..., :4].flatten() for level in slopes]).norm()
    return losses[0].mean().item(), slope.item()


def rows(size: int) -> list[str]:
    """One line of a Markdown table for each preset of a box loss."""
    presets = [path.name for path in sorted((ROOT / "data" / "hyps").glob("hyp.*.yaml"))]
    losses = {name: load_hyperparameters(name).loss for name in presets}
    settings = {name: loss.box for name, loss in losses.items() if loss.score == "bce"}
    ciou = magnitude("ciou", size)
    lines = ["| preset | loss | times ciou | gradient, times ciou |", "|---|---|---|---|"]
    for name, setting in settings.items():
        if setting != "ciou" or name == "hyp.ciou.yaml":
            loss, slope = magnitude(setting, size)
            lines.append(f"| {name} | {loss:.3f} | {loss / ciou[0]:.2f} | {slope / ciou[1]:.2f} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--img", type=int, default=640, help="side of the images in pixels")
    print("\n".join(rows(parser.parse_args().img)))


if __name__ == "__main__":
    main()
