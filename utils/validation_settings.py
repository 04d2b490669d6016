"""What val.py measures: which data at which size, and whether the network fits them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.config import find_file
from utils.datasets import DataDescription
from utils.errors import UserError, unknown_name
from utils.image_size import DEFAULT_IMAGE_SIZE, fitting_image_size
from utils.setting_checks import check_counts

log = logging.getLogger(__name__)

SPLIT_TASKS = ("train", "val", "test")
TASKS = (*SPLIT_TASKS, "speed", "study")
SAFE_CONF_THRES = 0.001
STUDY_SIZES = tuple(range(256, 1536 + 128, 128))  # YOLOv5's


def check_task(task: str, conf_thres: float) -> None:
    """Refuse an unknown task; warn of a threshold that spoils the metrics.

    Raises:
        UserError: unknown task.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if conf_thres > SAFE_CONF_THRES and task != "speed":
        log.warning("conf-thres %g is above %g: it cuts the curve, AP comes out too low", conf_thres, SAFE_CONF_THRES)


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


def image_sizes(
    imgsz: int | Sequence[int] | None, task: str, checkpoint: Mapping[str, Any], stride: int
) -> tuple[int, ...]:
    """The sizes to validate at, multiples of the stride: one, or several for the task ``study``.

    Args:
        imgsz: those asked for; None takes that of the training (else 640), or the sizes of a study.
        task: of val.py.
        checkpoint: content of the weights file.
        stride: largest stride of the network, in pixels.

    Raises:
        UserError: a size below 1, none, or several for a task that takes one.
    """
    if imgsz is None and task == "study":
        return STUDY_SIZES
    if imgsz is not None:
        sizes = [imgsz] if isinstance(imgsz, int) else list(imgsz)
        if not sizes or (len(sizes) > 1 and task != "study"):
            raise UserError(f"--imgsz: expected one size, or several with --task study, but got {imgsz}")
        for size in sizes:
            check_counts(imgsz=size)
        return tuple(dict.fromkeys(fitting_image_size(size, stride) for size in sizes))
    trained = checkpoint.get("image_size")
    size = fitting_image_size(trained or DEFAULT_IMAGE_SIZE, stride)
    log.info("image size: %d, %s", size, "as in training" if trained else "the default")
    return (size,)
