"""The hyper-parameter files that come with the program."""

from __future__ import annotations

import dataclasses
import textwrap

import pytest

from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.config.yaml_files import load_yaml
from utils.criterion.build import build_losses, check_loss_settings
from utils.files import ROOT
from utils.losses import BOX_LOSSES, SCORE_LOSSES

PRESETS = sorted((ROOT / "data" / "hyps").glob("*.yaml"))
LOW = load_hyperparameters("hyp.scratch-low.yaml")


def differences(name: str) -> dict[str, object]:
    """Keys of a preset that differ from the default, those of the loss block with their prefix."""
    hyp = load_hyperparameters(name)
    flat = {key: value for key, value in hyp.to_mapping().items() if key != "loss" and value != getattr(LOW, key)}
    block = {f"loss.{key}": value for key, value in dataclasses.asdict(hyp.loss).items()}
    return flat | {key: value for key, value in block.items() if value != getattr(LOW.loss, key[5:])}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_every_preset_loads_and_its_losses_can_be_built(path):
    hyp = load_hyperparameters(path)
    build_losses(hyp)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_every_preset_says_what_it_is_for_and_holds_only_what_differs_from_its_base(path):
    assert path.read_text().startswith("# ")
    own = load_yaml(path)
    base = own.pop("base", None)
    assert (base is None) == (path.name == "hyp.scratch-low.yaml")
    if base:
        assert (path.parent / base).is_file()


def test_the_default_file_states_the_defaults():
    assert Hyperparameters() == LOW
    written = set(load_yaml(ROOT / "data" / "hyps" / "hyp.scratch-low.yaml"))
    assert {field.name for field in dataclasses.fields(Hyperparameters)} - written <= {"anchors", "label_smoothing"}


# parameters in the preset of a loss, where its name alone would not do
BOX_PARAMETERS = {
    "nwd": {"constant": 12.8},
    "shape_iou": {"scale": 0.0},
    "l1": {"normalise": True},
    "smooth_l1": {"beta": 0.1, "normalise": True},
    "inner": {"of": "ciou", "ratio": 0.7},
    "focaler": {"of": "ciou", "d": 0.0, "u": 0.95},
}


@pytest.mark.parametrize("name", BOX_LOSSES.names())
def test_every_box_loss_has_a_preset_that_changes_nothing_else(name):
    setting = {"name": name} | BOX_PARAMETERS[name] if name in BOX_PARAMETERS else name
    expected = {} if name == LOW.loss.box else {"loss.box": setting}
    assert differences(f"hyp.{name.replace('_', '-')}.yaml") == expected


RANKING = [name for name in SCORE_LOSSES if SCORE_LOSSES.entry(name).ranking]


@pytest.mark.parametrize("name", RANKING)
def test_every_ranking_loss_has_a_preset(name):
    preset = {"parameterized_ap": "pap-published"}.get(name, name)
    assert differences(f"hyp.{preset}.yaml")["loss.score"] == name


@pytest.mark.parametrize("name", sorted({*SCORE_LOSSES.names()} - {LOW.loss.score, "focal", *RANKING}))
def test_every_score_loss_has_a_preset_that_changes_nothing_else(name):
    assert differences(f"hyp.{name}.yaml") == {"loss.score": name}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hyp.scratch-low.yaml", {}),
        ("hyp.scratch-med.yaml", {"lrf": 0.1, "cls": 0.3, "obj": 0.7, "scale": 0.9, "mixup": 0.1}),
        (
            "hyp.scratch-high.yaml",
            {"lrf": 0.1, "cls": 0.3, "obj": 0.7, "scale": 0.9, "mixup": 0.1, "copy_paste": 0.1},
        ),
        ("hyp.focal.yaml", {"loss.score": {"name": "focal", "gamma": 1.5}}),
        ("hyp.yolov5.yaml", {"loss.objectness_target": "box"}),
        ("hyp.atss.yaml", {"assigner": "atss"}),
        (
            "hyp.best-iou.yaml",
            {"assigner": "best_iou", "obj": 16.0, "cls": 1.0, "loss.objectness_target": "one"},
        ),
    ],
)
def test_familiar_presets_differ_from_the_default_as_documented(name, expected):
    assert differences(name) == expected


def test_no_augmentation_leaves_no_augmentation():
    hyp = load_hyperparameters("hyp.no-augmentation.yaml")
    colour, shape = ("hsv_h", "hsv_s", "hsv_v"), ("degrees", "translate", "scale", "shear", "perspective")
    mixing = ("flipud", "fliplr", "mosaic", "mixup", "copy_paste")
    assert {getattr(hyp, name) for name in (*colour, *shape, *mixing)} == {0}
    assert (hyp.obj, hyp.cls, hyp.lrf) == (0.7, 0.3, 0.1)


def test_voc_is_the_evolved_set():
    hyp = load_hyperparameters("hyp.VOC.yaml")
    assert (hyp.lr0, hyp.momentum, hyp.anchor_t, hyp.anchors, hyp.hsv_v) == (0.00334, 0.74832, 3.3744, 3, 0.27739)
    assert (hyp.obj_pw, hyp.cls_pw, hyp.mosaic, hyp.fliplr) == (0.67198, 0.5, 0.85834, 0.5)


def test_a_file_of_yolov5_loads_unchanged(tmp_path):
    """The keys and spellings of its files and of the hyp.yaml that its runs leave behind."""
    text = """
        lr0: 0.01
        lrf: 0.1
        momentum: 0.937
        weight_decay: 0.0005
        warmup_epochs: 3.0
        warmup_momentum: 0.8
        warmup_bias_lr: 0.1
        box: 0.05
        cls: 0.3
        cls_pw: 1.0
        obj: 0.7
        obj_pw: 1.0
        iou_t: 0.20
        anchor_t: 4.0
        anchors: 0
        fl_gamma: 0.0
        hsv_h: 0.015
        hsv_s: 0.7
        hsv_v: 0.4
        degrees: 0.0
        translate: 0.1
        scale: 0.9
        shear: 0.0
        perspective: 0.0
        flipud: 0.0
        fliplr: 0.5
        mosaic: 1.0
        mixup: 0.1
        copy_paste: 0.1
        label_smoothing: 0.0
    """
    (tmp_path / "hyp.yaml").write_text(textwrap.dedent(text))
    assert load_hyperparameters(tmp_path / "hyp.yaml") == load_hyperparameters("hyp.scratch-high.yaml")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_every_preset_is_consistent_for_the_trainer(path):
    assert load_hyperparameters(path, validate=check_loss_settings) == load_hyperparameters(path)
