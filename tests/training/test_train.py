"""Training as a user meets it, on four painted pictures and a network of five rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import detect
import train
import val
from models.loading import new_model
from tests.painted_objects import NAMES
from tests.training.conftest import Trained
from tests.training_runs import interrupted_run, results, same_weights
from utils.checkpoint import load_checkpoint
from utils.config.parser import CommandParser
from utils.errors import DivergenceError, UserError
from utils.training.log import COLUMNS
from utils.training.options import TrainOptions
from utils.training.resolve import complete_options
from utils.training.session import should_stop


def test_a_run_leaves_what_it_promises(trained: Trained) -> None:
    done, folder = trained.done, trained.done.save_dir
    present = {path.name for path in folder.iterdir()}
    assert {"opt.yaml", "hyp.yaml", "results.csv", "results.png", "labels.jpg", "weights"} <= present
    assert {"train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"} <= present
    assert {"PR_curve.png", "F1_curve.png", "confusion_matrix.png", "reliability_diagram.png"} <= present
    assert {path.name for path in (folder / "weights").iterdir()} == {"last.pt", "best.pt", "epoch0.pt", "epoch2.pt"}

    table = results(folder)
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS and list(table["epoch"]) == [0, 1, 2]
    undefined_without_hits = [f"metrics/oLRP_{part}" for part in ("localisation", "false_positive")]
    assert table.drop(columns=["metrics/precision", "metrics/recall", *undefined_without_hits]).notna().all().all()
    opt, hyp = (yaml.safe_load((folder / name).read_text()) for name in ("opt.yaml", "hyp.yaml"))
    assert opt["batch_size"] == 2 and hyp["loss"]["box"] == "ciou" and hyp["lr0"] == 0.01

    for path in (done.best, done.last):
        content = torch.load(path, weights_only=True)
        assert content["epoch"] == -1 and "optimizer" not in content
        assert content["names"] == dict(enumerate(NAMES))
    assert done.epochs == 3 and done.minutes > 0 and 0 <= done.metrics.map <= 1


def test_best_checkpoint_validates_and_detects(trained: Trained, tmp_path: Path) -> None:
    done = trained.done
    again = val.evaluate(
        weights=done.best, batch_size=4, workers=0, plots=False, project=tmp_path / "val", device="cpu"
    )
    assert again.metrics.map == done.metrics.map and again.metrics.map50 == done.metrics.map50
    pictures = str(Path(trained.options["data"]).parent / "images")
    found = detect.predict(weights=done.best, source=pictures, project=tmp_path / "d", device="cpu")
    assert len(found) == 4
    points = torch.load(done.best, weights_only=True)["operating_points"]
    expected = [None if np.isnan(value) else value for value in again.metrics.lrp.threshold.tolist()]
    assert (points["thresholds"], points["measured"]["task"]) == (expected, "val")


def test_equal_seeds_give_equal_runs_with_any_number_of_workers(trained: Trained, options: dict) -> None:
    first = trained.done
    second, other = (train.run(**options | change) for change in ({"workers": 2, "cache": "ram"}, {"seed": 1}))
    assert results(first.save_dir).equals(results(second.save_dir))
    assert same_weights(first.last, second.last) and same_weights(first.best, second.best)
    assert not same_weights(first.last, other.last)


def test_a_training_leaves_the_global_generators_alone(options: dict) -> None:
    before, deterministic = torch.random.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    train.run(**options | {"epochs": 1})
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.are_deterministic_algorithms_enabled() == deterministic


def test_a_resumed_run_equals_one_that_never_stopped(options: dict) -> None:
    """Interrupted while gradients wait for their optimiser step, which the checkpoint must keep."""
    options |= {"epochs": 6, "set": ["warmup_epochs=1"]}
    whole = train.run(**options)
    last = interrupted_run(options, after=4)
    assert load_checkpoint(last)["gradients"], "the interruption should hit an accumulation"
    resumed = train.run(resume=str(last))
    assert resumed.save_dir == last.parent.parent and resumed.epochs == 6
    assert results(resumed.save_dir).equals(results(whole.save_dir))
    assert same_weights(resumed.last, whole.last) and same_weights(resumed.best, whole.best)
    assert resumed.fitness == whole.fitness


def test_resume_refuses_what_it_cannot_do(trained: Trained, tmp_path: Path) -> None:
    done = trained.done
    with pytest.raises(UserError, match=r"last.pt: this run is finished; .* start a new run with --weights"):
        train.run(resume=str(done.last))
    with pytest.raises(UserError, match=r"--resume continues a run with its own settings: epochs cannot change"):
        train.run(resume=str(done.last), epochs=7)
    with pytest.raises(UserError, match="unknown checkpoint file"):
        train.run(resume=str(tmp_path / "none.pt"))
    for folder in (done.save_dir, done.save_dir / "weights"):
        with pytest.raises(UserError, match=r"last.pt: this run is finished"):
            train.run(resume=folder)
    with pytest.raises(UserError, match=r"expected a last\.pt, or the folder of a run, but it holds"):
        train.run(resume=tmp_path)


def test_habits_of_yolov5_are_answered(options: dict) -> None:
    with pytest.raises(UserError, match="--batch-size: expected a whole number of at least 1 but got -1: finding a"):
        train.run(**options | {"batch_size": -1})
    with pytest.raises(UserError, match=r"unknown data file 'nope.yaml'. Known: VOC.yaml, .*shapes.yaml") as caught:
        train.run(**options | {"data": "nope.yaml"})
    assert "hyp." not in str(caught.value) and "yolov5n" not in str(caught.value)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="device: expected one of cpu but got '0,1'; there is no CUDA GPU here"):
            train.run(**options | {"device": "0,1"})


def test_fine_tuning_takes_over_what_fits(trained: Trained, options: dict, caplog: pytest.LogCaptureFixture) -> None:
    done = trained.done
    caplog.set_level("INFO")
    del options["cfg"]
    one = train.run(**options | {"weights": str(done.best), "single_cls": True, "freeze": [3], "epochs": 1})
    before, after = load_checkpoint(done.best)["model"], load_checkpoint(one.last)["model"]
    assert f"weights: {done.best} give" in caplog.text
    assert load_checkpoint(one.last)["names"] == {0: "object"}
    assert after["model.4.m.0.bias"].shape == (2 * 6,) and before["model.4.m.0.bias"].shape == (2 * 8,)
    assert torch.equal(after["model.0.conv.weight"], before["model.0.conv.weight"]), "row 0 is frozen"
    assert not torch.equal(after["model.3.conv.weight"], before["model.3.conv.weight"]), "row 3 is not"


def test_data_yaml_brings_defaults_and_a_flag_overrides_them(options: dict, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data = Path(options["data"])
    data.write_text(data.read_text() + "defaults: {epochs: 2, img: 96}\n")
    del options["epochs"]
    done = train.run(**options)
    saved = yaml.safe_load((done.save_dir / "opt.yaml").read_text())
    assert saved["epochs"] == 2 and saved["imgsz"] == 64
    assert "data.yaml: epochs 2\n" in caplog.text.replace("INFO", "")
    data.write_text(data.read_text().replace("epochs", "epoch"))
    with pytest.raises(UserError, match=r"data.yaml: defaults: .*unknown option 'epoch'.*Did you mean 'epochs'"):
        train.run(**options)


def test_epochs_of_a_data_yaml_are_for_its_hyper_parameters() -> None:
    suggested = {"hyp": "hyp.rs.yaml", "epochs": 16, "imgsz": 160}
    assert complete_options({}, suggested, "set.yaml").epochs == 16
    other = complete_options({"hyp": "hyp.iou.yaml"}, suggested, "set.yaml")
    assert (other.hyp, other.epochs, other.imgsz) == ("hyp.iou.yaml", TrainOptions.epochs, 160)
    assert complete_options({"hyp": "hyp.iou.yaml", "epochs": 7}, suggested, "set.yaml").epochs == 7
    assert complete_options({"hyp": "hyp.iou.yaml"}, {"epochs": 16}, "set.yaml").epochs == 16


def test_early_stopping(options: dict) -> None:
    """With a learning rate of 0 nothing improves after the first epoch; a plateau is not an improvement."""
    frozen = ["lr0=0", "warmup_epochs=0", "weight_decay=0"]
    done = train.run(**options | {"epochs": 30, "patience": 2, "set": frozen})
    assert done.epochs <= 6
    assert done.best.exists() and load_checkpoint(done.best)["best_epoch"] == done.epochs - 3


def test_when_to_stop() -> None:
    """Best epoch 4; patience counts the epochs after it, and 0 is for ever."""
    stops = [[should_stop(epoch, 4, patience) for epoch in range(4, 9)] for patience in (0, 1, 3)]
    assert stops == [[False] * 5, [False, True, True, True, True], [False, False, False, True, True]]


def test_nosave_and_noval(options: dict) -> None:
    done = train.run(**options | {"nosave": True, "noval": True})
    assert results(done.save_dir)["metrics/mAP_0.5"].notna().tolist() == [False, False, True]
    assert same_weights(done.best, done.last)


CHANGES = {
    "AdamW": {"optimizer": "AdamW", "set": ["lr0=0.001"]},
    "cosine": {"cos_lr": True},
    "multi-scale": {"multi_scale": True},
    "rectangular": {"rect": True},
    "bf16": {"amp": "bf16"},
    "preset": {"hyp": "hyp.sca.yaml"},
    "smoothing": {"label_smoothing": 0.1},
    "focal": {"set": ["loss.score=focal"]},
    "mixup": {"set": ["mixup=1"]},
    "mosaic of nine": {"set": ["mosaic9=1"]},
    "image weights": {"image_weights": True},
    "quad": {"quad": True},
    "anchors": {"set": ["anchors=3"]},
    "one": {"set": ["loss.objectness_target=one"]},
    "accumulation": {"batch_size": 16},
    "warm-up": {"set": ["warmup_epochs=3"]},
}


def test_each_option_changes_the_run(options: dict) -> None:
    """Every knob does something: the trained weights differ from those without it."""
    options |= {"amp": "off", "set": ["warmup_epochs=0"], "batch_size": 64, "noval": True}  # a step in each epoch
    plain = load_checkpoint(train.run(**options).last)["model"]["model.0.conv.weight"]
    states = {}
    for change, given in CHANGES.items():
        done = train.run(**options | given | {"set": [*options["set"], *given.get("set", [])]})
        assert results(done.save_dir)["train/box_loss"].between(1e-6, 10).all(), change
        states[change] = load_checkpoint(done.last)
        weight = states[change]["model"]["model.0.conv.weight"]
        assert torch.isfinite(weight).all() and not torch.equal(weight, plain), change
    assert states["preset"]["hyp"]["loss"]["box"] == "sca"
    assert torch.tensor(states["anchors"]["cfg"]["anchors"]).shape == (2, 6)


WRONG = {
    "option": ({"batchsize": 4}, r"unknown option 'batchsize'.*Did you mean 'batch_size'"),
    "batch": ({"batch_size": 0}, "--batch-size: expected a whole number of at least 1 but got 0"),
    "loss": ({"set": ["loss.box=siouu"]}, "unknown box loss 'siouu'"),
    "hyp": ({"set": ["lr=1"]}, "unknown key 'lr'"),
    "hyp file": ({"hyp": "hyp.scaa.yaml"}, r"unknown hyper-parameter file.*Did you mean 'hyp.sca.yaml'"),
    "data": ({"data": "bcd.yaml"}, r"unknown data file 'bcd.yaml'.*Did you mean 'bccd.yaml'"),
    "cfg": ({"cfg": "yolov3-tini.yaml"}, r"unknown model YAML.*Did you mean 'yolov3-tiny.yaml'"),
    "device": ({"device": "7"}, "device: expected one of"),
    "freeze": ({"freeze": [99]}, "--freeze: expected rows from 0 to 4 but got 99"),
    "weights": ({"weights": "best.onnx"}, "--weights: expected a .pt checkpoint"),
    "number": ({"epochs": "many"}, "expected a whole number of at least 1 but got 'many'"),
}


def test_wrong_settings(options: dict) -> None:
    for case, (change, message) in WRONG.items():
        with pytest.raises(UserError, match=message):
            train.run(**options | change)
        assert not Path(options["project"]).exists(), f"{case}: a mistake leaves no folder behind"


def test_a_loss_that_is_not_finite_ends_the_run(options: dict) -> None:
    with pytest.raises(DivergenceError, match=r"epoch 1: expected a finite box loss but got (inf|nan)"):
        train.run(**options | {"set": ["box=1e39"]})


def test_wrong_class_in_a_label_names_the_line(options: dict, tmp_path: Path) -> None:
    label = tmp_path / "set/labels/2.txt"
    label.write_text(label.read_text() + "7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UserError, match=r"2\.txt:2: .*class"):
        train.run(**options)


def test_command_line_prints_one_message(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, str(root / "train.py"), "--data", "shape.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown data file 'shape.yaml'.")
    assert "Traceback" not in done.stderr and not any(tmp_path.iterdir())


def test_help_shows_the_defaults(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        CommandParser(train.TrainOptions).given(["--help"])
    page = " ".join(capsys.readouterr().out.split())
    assert "number of epochs (default: 100)" in page and "image size, pixels (default: 640)" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "validating"),
    [
        ([], {"noval": True}),
        (["loss={score: alrp, box: giou, rank_on: joint, rank_gain: 1.0, global_rank: true}"], {}),
    ],
    ids=["bce", "alrp ranked globally"],
)
def test_two_processes_equal_one_where_their_batches_do(
    options: dict, tmp_path: Path, loss: list[str], validating: dict
) -> None:
    """Twice the same picture, without augmentation: each process sees what one process sees, batch statistics too.

    Then gradients, averaged over two processes and counted for both, are those of one process up to rounding.
    """
    for path in (tmp_path / "set").glob("*/*"):
        if path.stem != "1":
            path.unlink()
    for path in list((tmp_path / "set").glob("*/1.*")):
        (path.parent / f"2{path.suffix}").write_bytes(path.read_bytes())
    plain = ["mosaic=0", "hsv_h=0", "hsv_s=0", "hsv_v=0", "translate=0", "scale=0", "fliplr=0"]
    options |= {"set": [*plain, "warmup_epochs=0", *loss], "batch_size": 64, "amp": "off"}  # steps each epoch
    options |= validating
    one = train.run(**options)
    flags = [part for name, value in options.items() for part in _flag(name, value)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(Path(__file__).resolve().parents[2] / "train.py"), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path(options["project"]).iterdir()) == ["exp", "exp2"]
    states = [load_checkpoint(one.last.parents[2] / folder / "weights/last.pt")["model"] for folder in ("exp", "exp2")]
    names = [name for name in states[0] if name.endswith(("weight", "bias"))]
    torch.manual_seed(0)
    start = new_model(options["cfg"], ("a", "b", "c")).state_dict()
    moved, apart = (
        max(float((states[0][name] - other[name]).abs().max()) for name in names) for other in (start, states[1])
    )
    assert moved > 1e-4 and apart < 1e-3 * moved


def _flag(name: str, value: object) -> list[str]:
    if value is True:
        return ["--" + name]
    return ["--" + name.replace("_", "-"), *map(str, value if isinstance(value, list) else [value])]
