"""The network: rows of a model YAML, run in order, with a head that decodes in eval mode.

``python -m models.yolo --cfg yolov3-tiny.yaml`` prints a summary.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.architecture import build_layers, read_architecture, set_activation
from models.head import Detect
from models.layers import Conv
from models.network import Network

STRIDE_PROBE = 128  # pixels; a multiple of every stride in use


class DetectionModel(Network):
    """A YOLO detector built from YAML.

    Args:
        cfg: name or path of a model YAML, or its mapping.
        nc: number of classes; replaces the YAML's.

    Attributes:
        model: one module per YAML row; parameters are named ``model.<row>....``
        cfg: the mapping it was built from, plain data.
        sources: which rows each module reads; -1 for the previous one.
        nc, names, stride: number of classes, their names by index, strides in pixels.
    """

    def __init__(self, cfg: str | Path | Mapping[str, Any], nc: int) -> None:
        super().__init__()
        self.cfg = {**read_architecture(cfg), "nc": nc}
        self.nc = nc
        self.in_channels = self.cfg.get("ch", 3)
        self.names = {index: f"class{index}" for index in range(nc)}
        self.model, self.sources, self._save = build_layers(self.cfg, self.in_channels)
        if self.cfg.get("activation"):
            set_activation(self, self.cfg["activation"])
        self._measure_strides()
        self.head.initialise_biases()

    @property
    def head(self) -> Detect:
        """The detection head, the last row."""
        head = self.model[-1]
        assert isinstance(head, Detect)  # build_layers sees to it
        return head

    @property
    def stride(self) -> tuple[int, ...]:
        """Pixels per cell of the L levels, finest first."""
        return self.head.stride

    @property
    def anchors_px(self) -> Tensor:
        """(L, A, 2) anchor widths and heights in pixels."""
        return self.head.anchors_px

    @property
    def anchors_missing(self) -> bool:
        """Whether the YAML only says how many anchors there are, so that they must be computed from data."""
        return isinstance(self.cfg["anchors"], int)

    def set_anchors_px(self, anchors_px: Tensor) -> None:
        """Replace the anchors, (L, A, 2) pixels; ``cfg`` then holds them too."""
        self.head.set_anchors_px(anchors_px)
        self.cfg["anchors"] = [level.flatten().tolist() for level in self.anchors_px]

    def raw(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [0, 1] to raw outputs, L x (B, A, H, W, 5 + C); in any mode."""
        outputs: list[Any] = []
        x: Any = images
        for index, (layer, source) in enumerate(zip(self.model, self.sources, strict=True)):
            if isinstance(source, list):
                x = [x if row == -1 else outputs[row] for row in source]
            elif source != -1:
                x = outputs[source]
            x = layer(x)
            outputs.append(x if index in self._save else None)
        return x

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Raw outputs to (B, N, 5 + C): x, y, w, h in pixels, objectness and class probabilities."""
        return self.head.decode(raw)

    def forward(self, images: Tensor) -> list[Tensor] | Tensor:
        """Images (B, 3, H, W) in [0, 1] to raw outputs when training, to decoded predictions in eval mode."""
        raw = self.raw(images)
        return raw if self.training else self.decode(raw)

    def fuse(self) -> DetectionModel:
        """Fold batch norms into their convolutions, in place; for inference only."""
        for module in self.modules():
            if isinstance(module, Conv):
                module.fuse()
        return self

    def to_channels_last(self) -> DetectionModel:
        """Store convolution weights channels last, which CPUs with bf16 units and GPUs with tensor cores prefer."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def _measure_strides(self) -> None:
        """Run a small image through the network, and bring the anchors into the order of the levels."""
        self.eval()  # batch statistics stay untouched
        with torch.no_grad():
            raw = self.raw(torch.zeros(1, self.in_channels, STRIDE_PROBE, STRIDE_PROBE))
        self.train()
        self.head.stride = tuple(STRIDE_PROBE // level.shape[2] for level in raw)
        anchors = self.head.anchors
        area = anchors.prod(dim=2).mean(dim=1)
        if (area[-1] - area[0]) * (self.head.stride[-1] - self.head.stride[0]) < 0:
            anchors = anchors.flip(0)
        self.head.anchors.copy_(anchors / anchors.new_tensor(self.head.stride)[:, None, None])


def build_model(cfg: str | Path | Mapping[str, Any], nc: int = 80) -> DetectionModel:
    """Build a detector with fresh weights.

    Args:
        cfg: name (``yolov3-tiny.yaml``) or path of a model YAML, or its mapping.
        nc: number of classes C, at least 1.

    Returns:
        nn.Module; in eval mode ``model(images)`` gives (B, N, 5 + C): x, y, w, h in pixels, objectness and class
        probabilities, level by level, anchor, row, column.

    Raises:
        UserError: unknown file, key, module or activation; the message lists the known ones.
    """
    return DetectionModel(cfg, nc)


def count_gflops(model: DetectionModel, image_size: int = 640) -> float:
    """Billions of floating-point operations (two per multiply-add) for one square image, by thop."""
    import thop  # lazily: it takes its time, and training does not depend on it

    network = copy.deepcopy(model).float().cpu().eval()
    probe = torch.zeros(1, model.in_channels, max(model.stride), max(model.stride))
    macs, _ = thop.profile(network, inputs=(probe,), verbose=False)
    return 2 * macs / 1e9 * (image_size / max(model.stride)) ** 2


def describe(model: DetectionModel, name: str = "model") -> str:
    """One line: layers, parameters, GFLOPs at 640 pixels."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    layers = sum(1 for _ in model.modules())
    return f"{name}: {layers} modules, {parameters:,} parameters, {count_gflops(model):.1f} GFLOPs at 640 pixels"


def main() -> None:
    """Print the rows of a network and its size."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cfg", default="yolov5n.yaml", help="model YAML, name or path")
    parser.add_argument("--nc", type=int, default=80, help="number of classes")
    options = parser.parse_args()
    model = build_model(options.cfg, options.nc)
    print(f"{'row':>4} {'from':>14} {'parameters':>12}  module")
    for index, (layer, source) in enumerate(zip(model.model, model.sources, strict=True)):
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        kind = layer[0] if isinstance(layer, nn.Sequential) else layer
        times = f" x{len(layer)}" if isinstance(layer, nn.Sequential) else ""
        print(f"{index:>4} {source!s:>14} {parameters:>12,}  {type(kind).__name__}{times}")
    print(describe(model, options.cfg))


if __name__ == "__main__":
    main()
