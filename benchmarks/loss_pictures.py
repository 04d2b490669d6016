"""Draw each box loss, and the slope that training sees, over shift, scale and aspect ratio of a box.

python -m benchmarks.loss_pictures              # all losses, to docs/images
python -m benchmarks.loss_pictures ciou siou    # some

The target is 40 x 20 pixels. Shift moves a box of its size along its diagonal, in units of its sides; scale multiplies
both sides of a box on its centre; aspect widens such a box and flattens it by the same factor. Blue: the loss. Orange:
its slope with respect to shift, and to the logarithm of the factors. Grey: the same of ciou.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import torch
from PIL import Image
from torch import Tensor

from utils.losses import BOX_LOSSES, BoxContext, box_loss

matplotlib.use("Agg")
from matplotlib import pyplot

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIDES = torch.tensor([40.0, 20.0], dtype=torch.float64)
CENTRE = torch.tensor([300.0, 200.0], dtype=torch.float64)
CONTEXT = BoxContext(image_wh=(640, 640))
BLUE, ORANGE, GREY = "#1f5fa8", "#d9731a", "#b0b0b0"
NUM_COLOURS = 48  # pictures of a few kilobytes
# losses in pixels are drawn with the parameters that their presets take
PARAMETERS: dict[str, dict[str, Any]] = {"l1": {"normalise": True}, "smooth_l1": {"beta": 0.1, "normalise": True}}


def box(centre: Tensor, sides: Tensor) -> Tensor:
    """(N, 4) ``xyxy`` from (N, 2) centres and sides."""
    return torch.cat((centre - sides / 2, centre + sides / 2), dim=1)


def shifted(t: Tensor) -> Tensor:
    """Boxes (N, 4) of the target's size, moved by t of its sides."""
    return box(CENTRE + t[:, None] * SIDES, SIDES.expand(len(t), 2))


def scaled(t: Tensor) -> Tensor:
    """Boxes (N, 4) on the target's centre, with sides e^t as long."""
    return box(CENTRE.expand(len(t), 2), SIDES * t.exp()[:, None])


def stretched(t: Tensor) -> Tensor:
    """Boxes (N, 4) on the target's centre and of its area, e^t wider and flatter."""
    return box(CENTRE.expand(len(t), 2), SIDES * torch.stack((t.exp(), (-t).exp()), dim=1))


FACTORS = (0.25, 0.5, 1, 2, 4)
SWEEPS = {"shift": (shifted, 2.0), "scale": (scaled, 1.4), "aspect": (stretched, 1.4)}


def curves(name: str, sweep: str, steps: int = 401) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, loss and slope, each (steps,), of a loss over a sweep."""
    make, reach = SWEEPS[sweep]
    position = torch.linspace(-reach, reach, steps, dtype=torch.float64).requires_grad_()
    target = box(CENTRE[None], SIDES[None]).expand(steps, 4)
    loss = box_loss(name, **PARAMETERS.get(name, {})).eval()(make(position), target, context=CONTEXT)
    (slope,) = torch.autograd.grad(loss.sum(), position)
    return position.detach(), loss.detach(), slope


def draw(name: str, folder: Path) -> Path:
    """Write the picture of one loss: values above, slopes below."""
    figure, axes = pyplot.subplots(2, len(SWEEPS), figsize=(6.6, 3.0), dpi=100, sharex="col")
    for (above, below), sweep in zip(axes.T, SWEEPS, strict=True):
        position, loss, slope = curves(name, sweep)
        if name != "ciou":
            _, ciou, ciou_slope = curves("ciou", sweep)
            above.plot(position, ciou, color=GREY, linewidth=1)
            below.plot(position, ciou_slope, color=GREY, linewidth=1)
        above.plot(position, loss, color=BLUE, linewidth=1.6)
        below.plot(position, slope, color=ORANGE, linewidth=1.3)
        above.set_title(sweep, fontsize=8)
        above.set_ylim(bottom=min(0, loss.min().item()))
        for axis in (above, below):
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.25)
        if sweep != "shift":
            below.set_xticks(torch.tensor(FACTORS).log().tolist(), [f"{factor:g}" for factor in FACTORS])
    axes[0, 0].set_ylabel("loss", fontsize=8)
    axes[1, 0].set_ylabel("slope", fontsize=8)
    figure.suptitle(name, fontsize=9, x=0.02, ha="left", fontweight="bold")
    figure.tight_layout(pad=0.5)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"loss_{name}.png"
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
    Image.open(path).convert("RGB").quantize(NUM_COLOURS).save(path, optimize=True)
    return path


def main() -> None:
    """Draw the named losses, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="box losses; none for all")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go")
    options = parser.parse_args()
    for name in options.names or BOX_LOSSES.names():
        print(draw(name, options.folder))


if __name__ == "__main__":
    main()
