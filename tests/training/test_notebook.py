"""The training loop on a loader of one's own: the snippet of docs/training_loop.md, run as written, and its edges."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import build_model
from train import train_one_epoch
from utils.config.hyperparameters import Hyperparameters
from utils.criterion import Criterion
from utils.errors import DivergenceError, UserError
from utils.files import ROOT
from utils.structures import Batch
from utils.training.optim import ModelEMA, Schedule, build_optimizer

CPU = torch.device("cpu")
CFG = {
    "anchors": [[20, 30, 40, 60]],
    "backbone": [[-1, 1, "Conv", [8, 3, 4]], [-1, 1, "Conv", [8, 3, 2]]],
    "head": [[-1, 1, "Conv", [8, 3, 1]], [[2], 1, "Detect", ["nc", "anchors"]]],
}


def test_the_snippet_of_the_docs_runs_and_learns(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "training_loop.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    snippet += "\nassert history[2]['box'] < history[0]['box'], history"
    snippet += "\nassert ema.updates == 5, ema.updates"  # of six batches: the warm-up begins with a step for each
    file = tmp_path / "notebook.py"
    file.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{snippet}", encoding="utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{'box': ")


class Run:
    """What a loop needs, for a network of four rows that steps after each batch."""

    def __init__(self, lr0: float = 0.01, num_batches: int = 2) -> None:
        torch.manual_seed(0)
        hyp = Hyperparameters(lr0=lr0, warmup_epochs=0.0)
        self.model = build_model(CFG, nc=2)
        self.ema = ModelEMA(self.model)
        self.criterion = Criterion(self.model.anchors_px, self.model.stride, 2, 64, hyp)
        self.optimizer = build_optimizer(self.model, "SGD", hyp, 64)
        self.schedule = Schedule(hyp, 10, num_batches=num_batches, batch_size=64, cosine=False)
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)

    def epoch(self, loader: object, number: int = 0, **settings: object) -> tuple[dict[str, float], int]:
        parts = (self.model, self.criterion, loader, self.optimizer, self.schedule, self.scaler)
        return train_one_epoch(*parts, CPU, number, **settings)

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.6], [1, 0, 0.3, 0.4, 0.5, 0.5]])
    return [(torch.randint(0, 256, (2, 3, 64, 64), generator=generator).byte(), targets) for _ in range(count)]


def test_bytes_floats_records_and_a_generator_are_all_loaders() -> None:
    pairs = batches()
    loaders = {
        "bytes": pairs,
        "floats": [(images.float() / 255, targets) for images, targets in pairs],
        "records": [Batch(*pair, ("", ""), (None, None), (0, 1)) for pair in pairs],
        "generator": (pair for pair in pairs),
    }
    trained = {}
    for kind, loader in loaders.items():
        run = Run()
        losses, last_step = run.epoch(loader)
        assert last_step == 1, kind
        trained[kind] = (losses, run.weights())
    losses, weights = trained["bytes"]
    for kind, (other, moved) in trained.items():
        assert other == losses and all(map(torch.equal, weights, moved)), kind
    assert not all(map(torch.equal, weights, Run().weights()))


def test_the_average_follows_each_step_and_hooks_see_each_batch() -> None:
    run, seen = Run(), []
    run.epoch(batches(3), ema=run.ema, on_batch=lambda index, batch: seen.append((index, batch[0].shape[2])))
    assert run.ema.updates == 3 and seen == [(0, 64), (1, 64), (2, 64)]
    sizes = []
    run.model.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[2]))
    run.epoch(batches(2), 1, resize=lambda images, index: images[:, :, : 32 * (index + 1)])
    assert sizes == [32, 64] and run.ema.updates == 3


def test_steps_are_counted_across_epochs() -> None:
    """Batches of 32 images: every second makes a step, also where an epoch has three."""
    run = Run(num_batches=3)
    run.schedule = Schedule(run.schedule.hyp, 10, num_batches=3, batch_size=32, cosine=False)
    last_step, steps = -1, []
    for number in range(4):
        _, last_step = run.epoch(batches(3), number, last_step=last_step, ema=run.ema)
        steps.append((last_step, run.ema.updates))
    assert steps == [(1, 1), (5, 3), (7, 4), (11, 6)]


def test_gradients_scale_with_the_images_behind_each_input() -> None:
    steps = []
    for images_per_item in (1, 4):
        run = Run()
        run.optimizer.step = lambda: None
        run.optimizer.zero_grad = lambda: None
        run.epoch(batches(1), images_per_item=images_per_item)
        steps.append([parameter.grad for parameter in run.model.parameters()])
    directions = [torch.cat([grad.flatten() for grad in grads]) for grads in steps]
    # clipped to the same length where they are longer: compare directions, and lengths
    cosine = torch.nn.functional.cosine_similarity(*directions, dim=0)
    assert cosine > 0.999999
    small, large = (float(direction.norm()) for direction in directions)
    assert large == pytest.approx(min(4 * small, 10.0), rel=1e-4)


def test_what_stops_an_epoch() -> None:
    with pytest.raises(UserError, match="epoch 3: expected at least one batch from the loader but got none"):
        Run().epoch([], 2)
    images, targets = batches(1)[0]
    broken = [(images.float() * float("nan"), targets)]
    with pytest.raises(DivergenceError, match="epoch 1: expected a finite box loss but got nan"):
        Run().epoch(broken)
