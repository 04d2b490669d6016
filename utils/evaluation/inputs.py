"""What val.py measures: which data, at which size, and whether the network fits them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.config.checks import warn_without
from utils.datasets import DataDescription
from utils.errors import UserError
from utils.evaluation.options import SPLIT_TASKS, ValOptions
from utils.evaluation.pycocotools_check import check_pycocotools
from utils.files import find_file
from utils.inference import DEFAULT_IMAGE_SIZE, fitting_image_size

log = logging.getLogger(__name__)

SAFE_CONF_THRES = 0.001
STUDY_SIZES = tuple(range(256, 1536 + 128, 128))  # YOLOv5's


def check_options(options: ValOptions) -> None:
    """Refuse options that contradict each other before anything is loaded; warn of those that spoil metrics.

    Raises:
        UserError: two options that cannot be together.
    """
    if options.conf_thres > SAFE_CONF_THRES and options.task != "speed":
        given = options.conf_thres
        log.warning("conf-thres %g is above %g: it cuts the curve, so AP comes out too low", given, SAFE_CONF_THRES)
    warn_without("--save-txt", options.save_txt, save_conf=options.save_conf)
    if options.task in SPLIT_TASKS:
        _check_storable(options)
        if options.coco_api:
            check_pycocotools()
    else:
        names = ("save_txt", "save_json", "coco_api", "save_thresholds")
        warn_without("--task train, val or test", False, **{name: getattr(options, name) for name in names})


def _check_storable(options: ValOptions) -> None:
    if options.save_thresholds and len(options.weights) > 1:
        raise UserError("--save-thresholds: expected one checkpoint to store them in but got several")
    if options.save_thresholds and options.conf_thres > SAFE_CONF_THRES:
        raise UserError(f"--save-thresholds: expected no --conf-thres to cut the curve but got {options.conf_thres:g}")


def data_file(data: str | Path | None, checkpoint: Mapping[str, Any], weights: str | Path) -> Path:
    """The data file to use: the one given, else the one that the checkpoint names.

    Raises:
        UserError: no such file, or none is named.
    """
    if data is not None:
        return find_file(data, "data file", ("data",))
    named = (checkpoint.get("opt") or {}).get("data")
    if not named:
        raise UserError(f"--data: expected a data YAML, since {weights} names none")
    try:
        found = find_file(named, "data file", ("data",))
    except UserError as error:
        raise UserError(f"--data: expected a data YAML, since the one that {weights} names is gone: {error}") from None
    log.info("data: %s, as in training", found)
    return found


def check_classes(
    description: DataDescription, weights_names: Mapping[int, str], single_cls: bool, weights: str | Path
) -> None:
    """The network must know as many classes as the data, in the same order, unless all count as one.

    Raises:
        UserError: it does not.
    """
    if single_cls:
        return
    ours, theirs = list(description.names), list(weights_names.values())
    if len(theirs) != len(ours):
        raise UserError(
            f"{description.file}: expected {len(theirs)} classes as in {weights} "
            f"({', '.join(theirs)}) but found {len(ours)} ({', '.join(ours)})"
            + ("; --single-cls takes all classes as one" if len(theirs) == 1 else "")
        )
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise UserError(f"{description.file}: expected the classes in the order {theirs} of {weights} but found {ours}")
    if ours != theirs:
        log.warning("class names of the data, %s, differ from those of the weights, %s", ours, theirs)


def image_sizes(imgsz: Sequence[int] | None, task: str, checkpoint: Mapping[str, Any], stride: int) -> tuple[int, ...]:
    """The sizes to validate at, multiples of the stride: one, or several for the task ``study``.

    Args:
        imgsz: the sizes asked for; None takes the training size (else 640), or the sizes of a study.
        task: of val.py.
        checkpoint: content of the weights file.
        stride: largest stride of the network, in pixels.

    Raises:
        UserError: several sizes for a task that takes one.
    """
    if imgsz is None and task == "study":
        return STUDY_SIZES
    if imgsz is not None:
        if len(imgsz) > 1 and task != "study":
            raise UserError(f"--imgsz: expected one size, or several with --task study, but got {list(imgsz)}")
        return tuple(dict.fromkeys(fitting_image_size(size, stride) for size in imgsz))
    trained = checkpoint.get("image_size")
    size = fitting_image_size(trained or DEFAULT_IMAGE_SIZE, stride)
    log.info("image size: %d, %s", size, "as in training" if trained else "the default")
    return (size,)
