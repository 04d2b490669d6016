"""Every hyper-parameter with its type, default and allowed interval; unknown names and bad values are errors.

The flat keys are the well-known ones of YOLOv5, so that its files load unchanged. ``loss`` and ``assigner`` are ours.
The defaults are those of ``data/hyps/hyp.scratch-low.yaml``.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

from utils.errors import UserError, unknown_name

INF = math.inf


def _number(default: float | None, low: float, high: float, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "meaning": meaning})


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"choices": choices, "meaning": meaning})


def _flag(default: bool, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"flag": True, "meaning": meaning})


def _text(default: str, meaning: str, block: bool = False) -> Any:
    """A name; with ``block`` it may come as a mapping with parameters."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "block": block})


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The ``loss`` block. ``box`` and ``score`` are checked against their registries when the criterion is built."""

    box: str | Mapping[str, Any] = _text(
        "ciou", "box loss: a registered name, or {name: ..., parameter: ...}", block=True
    )
    score: str | Mapping[str, Any] = _text(
        "bce", "score loss: a registered name, or {name: ..., parameter: ...}", block=True
    )
    objectness_target: str = _choice(
        "iou",
        ("iou", "box", "one"),
        "objectness target of a positive: its IoU, its box similarity (1 - box loss, as YOLOv5 does), or 1",
    )
    rank_on: str = _choice(
        "objectness",
        ("objectness", "joint"),
        "what a ranking loss sorts: objectness, or the log-odds of objectness times class probability",
    )
    rank_gain: float = _number(0.1, 0, INF, "weight of a ranking loss, not scaled by image size or classes")
    class_bce: str = _choice(
        "auto",
        ("auto", "on", "off"),
        "class cross-entropy beside a ranking loss; auto: on for rank_on objectness, off for joint",
    )
    delta: float = _number(0.5, 1e-6, INF, "half-width of the ranking step in logits")
    control_points: Any = dataclasses.field(
        default=None,
        metadata={
            "plain": True,
            "meaning": "parameterized_ap: five curves of [x, y] points, or a file that holds them",
        },
    )
    self_balance: bool = _flag(
        True, "a ranking loss sets the weight of the box part, which then is as large as the score part"
    )
    correlation: str = _choice(
        "none",
        ("none", "spearman", "pearson", "concordance"),
        "correlation between the scores of the positives, as rank_on says, and their IoUs, added to the score loss",
    )
    correlation_gain: float = _number(0.2, 0, INF, "weight of the correlation loss, not scaled by anything")
    regularization_strength: float = _number(1.0, 1e-12, INF, "softness of Spearman's ranks")
    regularization: str = _choice(
        "absolute",
        ("absolute", "relative"),
        "softness as it is (the paper), or in units that make ranks of scores of any number and spread",
    )
    global_rank: bool = _flag(False, "processes rank and count their scores together, as one process would")


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """A complete, validated set of hyper-parameters. Gains are as in the file, not scaled by levels or classes."""

    lr0: float = _number(0.01, 0, INF, "initial learning rate (SGD 0.01, Adam 0.001)")
    lrf: float = _number(0.01, 0, INF, "final learning rate as a fraction of lr0")
    momentum: float = _number(0.937, 0, 1, "SGD momentum, or Adam beta1")
    weight_decay: float = _number(0.0005, 0, INF, "weight decay of convolution weights")
    warmup_epochs: float = _number(3.0, 0, INF, "epochs of warm-up, fractions allowed")
    warmup_momentum: float = _number(0.8, 0, 1, "momentum at the start of warm-up")
    warmup_bias_lr: float = _number(0.1, 0, INF, "learning rate of biases at the start of warm-up")
    box: float = _number(0.05, 0, INF, "box loss gain")
    cls: float = _number(0.5, 0, INF, "class loss gain")
    cls_pw: float = _number(1.0, 0, INF, "weight of positives in the class loss")
    obj: float = _number(1.0, 0, INF, "objectness loss gain")
    obj_pw: float = _number(1.0, 0, INF, "weight of positives in the objectness loss")
    iou_t: float = _number(0.20, 0, 1, "accepted for old files; nothing reads it, in YOLOv5 neither")
    anchor_t: float = _number(4.0, 1, INF, "largest side ratio of object and anchor that still match")
    anchors: float | None = _number(
        None, 1, 100, "anchors per level, rounded: forces new anchors; null or 0 keeps the model's"
    )
    fl_gamma: float = _number(0.0, 0, INF, "focal loss gamma of old files: above 0 it turns score bce into focal")
    hsv_h: float = _number(0.015, 0, 1, "hue jitter, fraction")
    hsv_s: float = _number(0.7, 0, 1, "saturation jitter, fraction")
    hsv_v: float = _number(0.4, 0, 1, "value jitter, fraction")
    degrees: float = _number(0.0, 0, 180, "rotation, +/- degrees")
    translate: float = _number(0.1, 0, 1, "translation, +/- fraction of the image")
    scale: float = _number(0.5, 0, 1, "zoom, +/- gain; 1 is a zoom between 0 and 2")
    shear: float = _number(0.0, 0, 89, "shear, +/- degrees")
    perspective: float = _number(0.0, 0, 0.01, "perspective, +/- fraction")
    flipud: float = _number(0.0, 0, 1, "probability of an up-down flip")
    fliplr: float = _number(0.5, 0, 1, "probability of a left-right flip")
    mosaic: float = _number(1.0, 0, 1, "probability of a mosaic")
    mosaic9: float = _number(0.0, 0, 1, "fraction of the mosaics that are of nine images, not of four")
    mixup: float = _number(0.0, 0, 1, "probability of mixing a mosaic with a second one")
    copy_paste: float = _number(0.0, 0, 1, "fraction of a mosaic's polygons pasted mirrored; boxes stay as they are")
    label_smoothing: float = _number(0.0, 0, 1, "class targets move by half of this towards each other")
    assigner: str | Mapping[str, Any] = _text(
        "anchor_ratio", "which anchors are positive: a registered name, or {name: ..., parameter: ...}", block=True
    )
    loss: LossSettings = dataclasses.field(default_factory=LossSettings, metadata={"meaning": "the losses"})

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], where: str = "hyper-parameters") -> Hyperparameters:
        """Validate a mapping as read from YAML; keys it lacks take their defaults.

        Args:
            mapping: flat keys, plus ``assigner`` and the mapping ``loss``. An instance of this class passes through.
            where: file name for error messages.

        Raises:
            UserError: unknown key (the message lists the known ones), wrong type, or a value out of its interval.
        """
        if isinstance(mapping, cls):
            return mapping
        if not isinstance(mapping, Mapping):
            raise UserError(f"{where}: expected a mapping of hyper-parameters but got {type(mapping).__name__}")
        values = dict(mapping)
        block = values.pop("loss", None)
        block = {} if block is None else block
        loss = block if isinstance(block, LossSettings) else _validated(LossSettings, block, f"{where}: loss")
        return _validated(cls, {**values, "loss": loss}, where)

    def to_mapping(self) -> dict[str, Any]:
        """The complete settings as plain data; ``from_mapping`` gives an equal object back."""
        return dataclasses.asdict(self)


def _validated(kind: type, mapping: Mapping[str, Any], where: str) -> Any:
    if not isinstance(mapping, Mapping):
        raise UserError(f"{where}: expected a mapping but got {mapping!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for key, value in mapping.items():
        if key not in fields:
            raise unknown_name("key", key, fields, where)
        values[key] = _checked(fields[key], value, f"{where}: {key}")
    return kind(**values)


def _checked(field: dataclasses.Field, value: Any, where: str) -> Any:
    metadata = field.metadata
    if "low" in metadata:
        return _checked_number(value, metadata["low"], metadata["high"], field.default is None, where)
    if "plain" in metadata:
        return value
    if "flag" in metadata:
        if not isinstance(value, bool):
            raise UserError(f"{where}: expected true or false but got {value!r}")
        return value
    if "choices" in metadata:
        if isinstance(value, bool) and "on" in metadata["choices"]:  # YAML reads a bare on or off as true or false
            value = "on" if value else "off"
        if value not in metadata["choices"]:
            raise unknown_name(f"value of {field.name}", value, metadata["choices"], where)
        return value
    if isinstance(value, str | LossSettings):
        return value
    if not metadata.get("block"):
        raise UserError(f"{where}: expected a name but got {value!r}")
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise UserError(f"{where}: expected a name, or a mapping with 'name', but got {value!r}")
    return dict(value)


def _checked_number(value: Any, low: float, high: float, optional: bool, where: str) -> float | None:
    if value is None and optional:
        return None
    if isinstance(value, str):  # YAML reads 1e-3, without a point, as text
        try:
            value = float(value)
        except ValueError:
            raise UserError(f"{where}: expected a number but got {value!r}") from None
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise UserError(f"{where}: expected a number but got {value!r}")
    if optional and value == 0:
        return None
    if not low <= value <= high:
        raise UserError(f"{where}: expected a number from {low:g} to {high:g} but got {value:g}")
    return float(value)
