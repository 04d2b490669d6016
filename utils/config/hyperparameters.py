"""Every hyper-parameter with its type, default and allowed interval. Unknown names and invalid values are errors.

The flat keys are the well-known ones of YOLOv5, so that its files load unchanged. ``loss`` and ``assigner`` are ours.
The defaults are those of ``data/hyps/hyp.scratch-low.yaml``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from utils.config.schema import Anything, Named, OnOffChoice, OptionalNumber, SettingError, setting
from utils.errors import UserError, unknown_name
from utils.parameters import Choice, Flag, Number


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The ``loss`` block. ``box`` and ``score`` are checked against their registries when the criterion is built."""

    box: str | Mapping[str, Any] = setting(Named("ciou"), "box loss: a registered name, or {name: ..., parameter: ...}")
    score: str | Mapping[str, Any] = setting(
        Named("bce"), "score loss: a registered name, or {name: ..., parameter: ...}"
    )
    objectness_target: str = setting(
        Choice("iou", ("iou", "box", "one")),
        "objectness target of a positive: its IoU, its box similarity (1 - box loss, as YOLOv5 does), or 1",
    )
    rank_on: str = setting(
        Choice("objectness", ("objectness", "joint")),
        "what a ranking loss sorts: objectness, or the log-odds of objectness times class probability",
    )
    rank_gain: float = setting(Number(0.1, 0), "weight of a ranking loss, not scaled by image size or classes")
    class_bce: str = setting(
        OnOffChoice("auto", ("auto", "on", "off")),
        "class cross-entropy beside a ranking loss; auto: on with rank_on objectness, off with joint",
    )
    delta: float = setting(Number(0.5, 1e-6), "half-width of the ranking step in logits")
    control_points: Any = setting(
        Anything(None), "parameterized_ap: five curves of [x, y] points, or a file that holds them"
    )
    self_balance: bool = setting(Flag(True), "with a ranking loss, scale the box part to the size of the score part")
    correlation: str = setting(
        Choice("none", ("none", "spearman", "pearson", "concordance")),
        "correlation loss between the positives' scores (see rank_on) and their IoUs, added to the score loss",
    )
    correlation_gain: float = setting(Number(0.2, 0), "weight of the correlation loss, not scaled further")
    regularization_strength: float = setting(Number(1.0, 1e-12), "softness of Spearman's ranks")
    regularization: str = setting(
        Choice("absolute", ("absolute", "relative")),
        "softness as given (the paper), or relative to the number and spread of the scores",
    )
    global_rank: bool = setting(Flag(False), "rank the scores of all processes together, as a single process would")


@dataclasses.dataclass(frozen=True)
class _LossBlock:
    """The ``loss`` block, a mapping; None stands for an empty one."""

    default: LossSettings

    def check(self, value: Any) -> LossSettings:
        """Settings of the block. Raises SettingError with the key in the block."""
        if isinstance(value, LossSettings):
            return value
        return LossSettings(**_checked(LossSettings, {} if value is None else value, ("loss",)))


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """A complete, validated set of hyper-parameters. Gains are as in the file, not scaled by levels or classes."""

    lr0: float = setting(Number(0.01, 0), "initial learning rate (SGD 0.01, Adam 0.001)")
    lrf: float = setting(Number(0.01, 0), "final learning rate as a fraction of lr0")
    momentum: float = setting(Number(0.937, 0, 1), "SGD momentum, or Adam beta1")
    weight_decay: float = setting(Number(0.0005, 0), "weight decay of convolution weights")
    warmup_epochs: float = setting(Number(3.0, 0), "epochs of warm-up, fractions allowed")
    warmup_momentum: float = setting(Number(0.8, 0, 1), "momentum at the start of warm-up")
    warmup_bias_lr: float = setting(Number(0.1, 0), "learning rate of biases at the start of warm-up")
    box: float = setting(Number(0.05, 0), "box loss gain")
    cls: float = setting(Number(0.5, 0), "class loss gain")
    cls_pw: float = setting(Number(1.0, 0), "weight of positives in the class loss")
    obj: float = setting(Number(1.0, 0), "objectness loss gain")
    obj_pw: float = setting(Number(1.0, 0), "weight of positives in the objectness loss")
    iou_t: float = setting(Number(0.20, 0, 1), "accepted from YOLOv5 files; unused, there and here")
    anchor_t: float = setting(Number(4.0, 1), "largest side ratio at which object and anchor still match")
    anchors: float | None = setting(
        OptionalNumber(None, 1, 100), "anchors per level, rounded: forces new anchors; null or 0 keeps the model's"
    )
    fl_gamma: float = setting(Number(0.0, 0), "focal loss gamma of old files: above 0 it turns score bce into focal")
    hsv_h: float = setting(Number(0.015, 0, 1), "hue jitter, fraction")
    hsv_s: float = setting(Number(0.7, 0, 1), "saturation jitter, fraction")
    hsv_v: float = setting(Number(0.4, 0, 1), "value jitter, fraction")
    degrees: float = setting(Number(0.0, 0, 180), "rotation, +/- degrees")
    translate: float = setting(Number(0.1, 0, 1), "translation, +/- fraction of the image")
    scale: float = setting(Number(0.5, 0, 1), "zoom, +/- gain; 1 is a zoom between 0 and 2")
    shear: float = setting(Number(0.0, 0, 89), "shear, +/- degrees")
    perspective: float = setting(Number(0.0, 0, 0.01), "perspective, +/- fraction")
    flipud: float = setting(Number(0.0, 0, 1), "probability of an up-down flip")
    fliplr: float = setting(Number(0.5, 0, 1), "probability of a left-right flip")
    mosaic: float = setting(Number(1.0, 0, 1), "probability of a mosaic")
    mosaic9: float = setting(Number(0.0, 0, 1), "fraction of mosaics made of nine images instead of four")
    mixup: float = setting(Number(0.0, 0, 1), "probability of mixing a mosaic with a second one")
    copy_paste: float = setting(
        Number(0.0, 0, 1), "fraction of a mosaic's polygons pasted mirrored; boxes stay as they are"
    )
    label_smoothing: float = setting(Number(0.0, 0, 1), "class targets become e/2 and 1 - e/2")
    assigner: str | Mapping[str, Any] = setting(
        Named("anchor_ratio"), "which anchors are positive: a registered name, or {name: ..., parameter: ...}"
    )
    loss: LossSettings = setting(_LossBlock(LossSettings()), "the losses")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any] | Hyperparameters, where: str = "hyper-parameters") -> Self:
        """Validate a mapping as read from YAML; keys it lacks take their defaults.

        Args:
            mapping: flat keys, plus ``assigner`` and the mapping ``loss``. An instance of this class passes through.
            where: file name for error messages.

        Raises:
            SettingError: unknown key (the message lists the known ones), wrong type, or a value out of its interval.
        """
        if isinstance(mapping, cls):
            return mapping
        try:
            return cls(**_checked(cls, mapping, ()))
        except SettingError as error:
            raise SettingError(f"{where}: {error}", error.key) from None

    def to_mapping(self) -> dict[str, Any]:
        """The complete settings as plain data; ``from_mapping`` gives an equal object back."""
        return dataclasses.asdict(self)


def check_settings(mapping: Mapping[str, Any]) -> Hyperparameters:
    """As :meth:`Hyperparameters.from_mapping`, with errors that name the key alone."""
    return Hyperparameters(**_checked(Hyperparameters, mapping, ()))


def _checked(settings: type, mapping: object, parents: tuple[str, ...]) -> dict[str, Any]:
    """The values of a block, each checked by its kind.

    Args:
        settings: dataclass of the block.
        mapping: of keys to values.
        parents: names of the blocks around it.
    """
    block = ".".join(parents)
    if not isinstance(mapping, Mapping):
        what = f"{block}: expected a mapping" if parents else "expected a mapping of hyper-parameters"
        raise SettingError(f"{what} but got {mapping!r}", parents)
    kinds = {field.name: field.metadata["kind"] for field in dataclasses.fields(settings)}
    values = {}
    for name, value in mapping.items():
        key = (*parents, str(name))
        if name not in kinds:
            raise SettingError(str(unknown_name("key", name, kinds, block)), key)
        try:
            values[name] = kinds[name].check(value)
        except SettingError:
            raise
        except UserError as error:
            raise SettingError(f"{'.'.join(key)}: {error}", key) from None
    return values
