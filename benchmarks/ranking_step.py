"""What a ranking loss costs in a training step: its time as a share of the step, and its memory.

python -m benchmarks.ranking_step                                    # yolov5n, 640 pixels, 16 images, 14 objects each
python -m benchmarks.ranking_step --classes 80 --hyps hyp.rs.yaml    # 32 million joint scores

A step is forward, loss, backward and optimiser on random images; the network is timed with the gradients of its outputs
given. The loss, forward and backward down to the raw outputs, is timed alone, on outputs of a fresh network. Rows take
turns, repeat by repeat; times are medians. Memory is the highest resident size during the loss above that before it, in
a process of its own (on a GPU that of the allocator); the gradient of the raw outputs is part of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.ranking_speed import memory_of, seconds
from models import build_model
from models.yolo import DetectionModel
from utils.config.loading import load_hyperparameters
from utils.criterion.criterion import Criterion
from utils.inference import autocast_type, select_device

HYPS = ("hyp.scratch-low.yaml", "hyp.rs.yaml", "hyp.alrp.yaml", "hyp.ap.yaml")


class Setting(NamedTuple):
    """Network and batch."""

    model: DetectionModel
    images: Tensor
    targets: Tensor
    autocast: torch.dtype | None

    def forward(self) -> list[Tensor]:
        """Raw outputs."""
        device = self.images.device.type
        with torch.autocast(device, self.autocast, enabled=self.autocast is not None):
            return self.model.raw(self.images)


def build(options: argparse.Namespace) -> Setting:
    """The same weights, images and objects in each run; objects are small and large as in photographs."""
    torch.manual_seed(0)
    device = select_device(options.device)
    model = build_model(options.cfg, nc=options.classes).to(device).train()
    model.to_channels_last()
    images = torch.rand(options.batch_size, 3, options.imgsz, options.imgsz, device=device)
    num = options.batch_size * options.objects
    image = torch.arange(options.batch_size).repeat_interleave(options.objects)[:, None]
    label = torch.randint(options.classes, (num, 1))
    sides = torch.exp(torch.rand(num, 2) * 3.0 - 3.7)  # 2.5 to 50 % of the image
    targets = torch.cat((image, label, torch.rand(num, 2), sides), dim=1).to(device)
    return Setting(
        model,
        images.contiguous(memory_format=torch.channels_last),
        targets,
        autocast_type("auto", device),
    )


def network_step(setting: Setting, gradients: list[Tensor], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Forward, backward from given gradients of the outputs, and the optimiser."""

    def run() -> None:
        torch.autograd.backward(setting.forward(), gradients)
        optimizer.step()
        optimizer.zero_grad()

    return run


def loss_step(criterion: Criterion, raw: list[Tensor], targets: Tensor) -> Callable[[], None]:
    """Loss and its gradient with respect to the raw outputs."""

    def run() -> None:
        for level in raw:
            level.grad = None
        criterion(raw, targets).total.backward()

    return run


def criterion_of(hyp: str, setting: Setting, options: argparse.Namespace) -> Criterion:
    """The criterion of a hyper-parameter file."""
    model = setting.model
    return Criterion(model.anchors_px, model.stride, options.classes, options.imgsz, load_hyperparameters(hyp)).to(
        setting.images.device
    )


def measure_memory(hyp: str, options: argparse.Namespace) -> int:
    """Bytes that a first step of the loss takes, its gradient included; runs in a process of its own."""
    setting = build(options)
    criterion = criterion_of(hyp, setting, options)
    size, batch, num_anchors = options.imgsz, options.batch_size, setting.model.anchors_px.shape[1]
    raw = [
        torch.randn(batch, num_anchors, size // stride, size // stride, 5 + options.classes).to(setting.images.device)
        for stride in setting.model.stride
    ]
    for level in raw:
        level[..., 4:] -= 5.0  # few objects
    small = [level[:1, :, :8, :8].clone().requires_grad_() for level in raw]
    loss_step(criterion, small, setting.targets[: options.objects])()  # libraries and threads are not the loss's own
    return memory_of(
        loss_step(criterion, [level.requires_grad_() for level in raw], setting.targets), raw[0].device.type
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", default="yolov5n.yaml")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--hyps", nargs="+", default=HYPS)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--objects", type=int, default=14, help="objects an image")
    parser.add_argument("--device", default="", help="cpu, 0; none is the first GPU, else the CPU")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    memory = {}
    for hyp in options.hyps:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[hyp] = pool.apply(measure_memory, (hyp, options))
    setting = build(options)
    device = setting.images.device.type
    raw = [level.detach().requires_grad_() for level in setting.forward()]
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=0.0, momentum=0.9, nesterov=True)
    runs = {"network": network_step(setting, [torch.ones_like(level) / level.numel() for level in raw], optimizer)}
    for hyp in options.hyps:
        runs[hyp] = loss_step(criterion_of(hyp, setting, options), raw, setting.targets)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            times[name].append(1000 * seconds(run, device))
    network = statistics.median(times.pop("network"))

    scores = sum(level[..., 0].numel() for level in raw)
    print(
        f"{options.cfg}, {options.classes} classes, {options.batch_size} images of {options.imgsz} pixels, "
        f"{len(setting.targets)} objects, {scores:,} anchors, {device}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; network alone {network:.0f} ms"
    )
    print("| settings | loss, ms | share of the step | extra MB |")
    print("|---|---|---|---|")
    for name, values in times.items():
        own = statistics.median(values)
        print(f"| {name} | {own:.1f} | {own / (own + network):.1%} | {memory[name] / 1e6:.0f} |")


if __name__ == "__main__":
    main()
