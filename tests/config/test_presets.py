"""The hyper-parameter files that come with the program."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.config.yaml_files import load_yaml
from utils.criterion.build import check_loss_settings
from utils.files import ROOT
from utils.losses import BOX_LOSSES, SCORE_LOSSES

PRESETS = sorted((ROOT / "data" / "hyps").glob("*.yaml"))
LOW = load_hyperparameters("hyp.scratch-low.yaml")
# A file that names the default, so that every box loss has one; it is the only key that says nothing new.
RESTATED = {"hyp.ciou.yaml": {"loss.box"}}


def flat(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the loss block with their prefix."""
    block = {f"loss.{key}": value for key, value in (mapping.get("loss") or {}).items()}
    return {key: value for key, value in mapping.items() if key != "loss"} | block


def differences(name: str | Path, base: Hyperparameters = LOW) -> dict[str, Any]:
    """Keys of a preset that differ from those of the base."""
    usual = flat(base.to_mapping())
    return {key: value for key, value in flat(load_hyperparameters(name).to_mapping()).items() if value != usual[key]}


def test_every_preset_loads_says_what_it_is_for_and_its_losses_can_be_built():
    assert len(PRESETS) > 30
    for path in PRESETS:
        assert path.read_text().startswith("# "), path.name
        assert load_hyperparameters(path, validate=check_loss_settings) == load_hyperparameters(path), path.name


def test_every_preset_holds_only_what_differs_from_its_base():
    for path in PRESETS:
        own = load_yaml(path)
        base = own.pop("base", None)
        assert (base is None) == (path.name == "hyp.scratch-low.yaml"), path.name
        if base is not None:
            changed = differences(path, load_hyperparameters(path.parent / base))
            assert set(flat(own)) == set(changed) | RESTATED.get(path.name, set()), path.name


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


def test_every_box_loss_has_a_preset_that_changes_nothing_else():
    for name in BOX_LOSSES:
        setting = {"name": name} | BOX_PARAMETERS[name] if name in BOX_PARAMETERS else name
        expected = {} if name == LOW.loss.box else {"loss.box": setting}
        assert differences(f"hyp.{name.replace('_', '-')}.yaml") == expected, name


def test_every_score_loss_has_a_preset():
    for name in set(SCORE_LOSSES) - {LOW.loss.score}:
        preset = {"parameterized_ap": "pap-published"}.get(name, name)
        changed = differences(f"hyp.{preset}.yaml")
        expected = {"name": "focal", "gamma": 1.5} if name == "focal" else name
        assert changed["loss.score"] == expected, name
        assert SCORE_LOSSES.entry(name).ranking or set(changed) == {"loss.score"}, f"{name} changes nothing else"


def test_familiar_presets_differ_from_the_default_as_documented():
    medium = {"lrf": 0.1, "cls": 0.3, "obj": 0.7, "scale": 0.9, "mixup": 0.1}
    colour, shape = ("hsv_h", "hsv_s", "hsv_v"), ("translate", "scale")
    documented = {
        "hyp.scratch-low.yaml": {},
        "hyp.scratch-med.yaml": medium,
        "hyp.scratch-high.yaml": medium | {"copy_paste": 0.1},
        "hyp.yolov5.yaml": {"loss.objectness_target": "box"},
        "hyp.atss.yaml": {"assigner": "atss"},
        "hyp.best-iou.yaml": {"assigner": "best_iou", "obj": 16.0, "cls": 1.0, "loss.objectness_target": "one"},
        "hyp.no-augmentation.yaml": {"lrf": 0.1, "cls": 0.3, "obj": 0.7}
        | dict.fromkeys((*colour, *shape, "fliplr", "mosaic"), 0.0),
    }
    for name, expected in documented.items():
        assert differences(name) == expected, name


def test_no_augmentation_leaves_no_augmentation():
    hyp = load_hyperparameters("hyp.no-augmentation.yaml")
    colour, shape = ("hsv_h", "hsv_s", "hsv_v"), ("degrees", "translate", "scale", "shear", "perspective")
    mixing = ("flipud", "fliplr", "mosaic", "mosaic9", "mixup", "copy_paste")
    assert {getattr(hyp, name) for name in (*colour, *shape, *mixing)} == {0}


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
