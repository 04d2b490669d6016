"""Pictures with coloured rectangles, and a network that reads them off the pixels: right answers by design."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor, nn

from models import build_model
from models.network import Network
from utils.checkpoint import save_checkpoint

NAMES = ("red", "green", "blue")
SCORES = (0.9, 0.8, 0.7)  # of the oracle, by class
# Height, width, and rows of class, left, top, right, bottom in pixels; one object of a class at most.
SCENES = {
    "1": (120, 200, [(0, 20, 30, 90, 80), (2, 120, 10, 180, 110)]),
    "2": (200, 120, [(1, 10, 100, 60, 190)]),
    "3": (64, 64, []),
    "street": (150, 150, [(0, 5, 5, 45, 145), (1, 60, 20, 140, 60), (2, 60, 80, 100, 140)]),
}


def paint(name: str) -> np.ndarray:
    """One of the scenes as (H, W, 3) uint8 BGR."""
    height, width, rows = SCENES[name]
    image = np.zeros((height, width, 3), np.uint8)
    for index, left, top, right, bottom in rows:
        image[top:bottom, left:right, 2 - index] = 255
    return image


def boxes_of(name: str) -> np.ndarray:
    """(n, 5) rows of left, top, right, bottom, class, ordered by class."""
    rows = np.array(SCENES[name][2], dtype=float).reshape(-1, 5)
    return np.concatenate((rows[:, 1:], rows[:, :1]), axis=1)


class OracleNetwork(Network):
    """Finds the bounds of each colour in its input: one prediction a class, of score 0 where the colour is absent."""

    stride = (8, 16, 32)
    nc = len(NAMES)

    def __init__(self) -> None:
        super().__init__()
        self.names = dict(enumerate(NAMES))
        self.parameter = nn.Parameter(torch.zeros(1))

    def raw(self, images: Tensor) -> list[Tensor]:
        # The border of the letterbox is grey in all channels: a colour is bright in its own and dark in the others.
        return [torch.stack([self._rows(image) for image in images])]

    def decode(self, raw: list[Tensor]) -> Tensor:
        return raw[0]

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.raw(images))

    def _rows(self, image: Tensor) -> Tensor:
        rows = torch.zeros(self.nc, 5 + self.nc)
        for index in range(self.nc):
            others = [other for other in range(self.nc) if other != index]
            y, x = torch.nonzero((image[index] > 0.5) & (image[others] < 0.2).all(dim=0), as_tuple=True)
            if len(x):
                left, top, right, bottom = x.min(), y.min(), x.max() + 1, y.max() + 1
                size = torch.stack(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))
                rows[index, :4], rows[index, 4], rows[index, 5 + index] = size, 1.0, SCORES[index]
        return rows


def write_data_set(folder: Path) -> Path:
    """The scenes as a YOLO data set, all of them its val split; returns the data YAML."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for name, (height, width, rows) in SCENES.items():
        cv2.imwrite(str(folder / "images" / f"{name}.png"), paint(name))
        lines = [
            f"{index} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}\n"
            for index, x1, y1, x2, y2 in rows
        ]
        (folder / "labels" / f"{name}.txt").write_text("".join(lines))
    data = {"path": str(folder), "train": "images", "val": "images", "names": list(NAMES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(data))
    return folder / "data.yaml"


def write_checkpoint(path: Path, data: Path | None = None, nc: int = 3) -> Path:
    """An untrained yolov5n that detects plenty, of all classes: lively features, and objectness near one half."""
    torch.manual_seed(0)
    model = build_model("yolov5n.yaml", nc=nc).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of the one batch that follows; the initial ones let all signal die
    with torch.no_grad():
        pictures = [cv2.resize(paint(name), (128, 128))[..., ::-1] / 255 for name in SCENES]
        model(torch.tensor(np.stack(pictures), dtype=torch.float32).permute(0, 3, 1, 2))
        for level in model.head.m:
            level.bias.zero_()
            level.weight.normal_(0, 0.03)
    names = dict(enumerate(NAMES[:nc]))
    options = {"data": str(data)} if data else {}
    content = {"model": model.state_dict(), "cfg": model.cfg, "names": names, "image_size": 128, "opt": options}
    save_checkpoint(path, content)
    return path
