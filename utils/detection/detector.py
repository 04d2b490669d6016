"""The detector: a network with its thresholds, from images to results."""

from __future__ import annotations

import dataclasses
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.loading import load_networks
from utils.datasets.letterbox import letterbox
from utils.detection.result import Result
from utils.detection.sources import Frame, Source, frames_of
from utils.errors import UserError, unknown_name
from utils.inference import DEFAULT_IMAGE_SIZE, DetectionNetwork, Stopwatch, decoding_type, select_device
from utils.metrics import apply_class_calibrations
from utils.operating_points import choose_operating_point
from utils.postprocess import best_score, non_max_suppression, scale_boxes

log = logging.getLogger(__name__)


@dataclasses.dataclass(repr=False)
class Detector:
    """A network and the settings of its detections; set the attributes to change them.

    Images run one by one, so a result never depends on what else was given.

    Attributes:
        network: ``nn.Module`` in eval mode; images (B, 3, H, W) in [0, 1] to (B, N, 5 + C) decoded predictions.
        names: class index to name.
        classes: those to keep, by index or name; None keeps all.
        conf, iou, agnostic, multi_label, max_det: as in ``utils.postprocess.non_max_suppression``; ``conf`` is
            compared with scores as the network gives them.
        image_size: size of the longer side in pixels, or (height, width) to fit into.
        half: run the network in 16 bits (float16 on a GPU, else bfloat16).
        advice: what to do where nothing passes ``conf``; empty where that is no surprise.
        calibrations: maps from score to probability, one for each class, that scores go through before they are shown;
            None shows them as they are. See ``utils.operating_points``.
    """

    network: DetectionNetwork
    names: Mapping[int, str]
    conf: float | Sequence[float] = 0.25
    iou: float = 0.45
    classes: Sequence[int | str] | None = None
    agnostic: bool = False
    multi_label: bool = False
    max_det: int = 1000
    image_size: int | Sequence[int] = DEFAULT_IMAGE_SIZE
    half: bool = False
    calibrations: Sequence[Mapping[str, Any]] | None = None
    advice: str = ""

    def __repr__(self) -> str:
        """One line: what it detects, where, and from which score on."""
        network, device = type(self.network).__name__, next(self.network.parameters()).device
        conf = f"{self.conf:g}" if isinstance(self.conf, int | float) else "of each class"
        return f"Detector({network} of {len(self.names)} classes on {device}, {self.image_size} pixels, conf {conf})"

    def __call__(self, source: Source | Sequence[Source], imgsz: int | Sequence[int] | None = None) -> list[Result]:
        """Detect in every image of a source.

        Args:
            source: file, folder, pattern, list file, video (see ``utils.detection.sources``); (H, W, 3) or (H, W) uint8
                numpy array, BGR as OpenCV reads it; PIL image; (3, H, W) or (B, 3, H, W) tensor, RGB, uint8 or
                floating-point in [0, 1]; or a list of such.
            imgsz: image size for this call, see :attr:`image_size`.

        Raises:
            UserError: a source that does not exist or has another form, or a class that the network does not know.
        """
        results = list(self.stream(source, imgsz))
        if self.advice and results and not any(map(len, results)):
            best = max(result.best_score for result in results)
            warnings.warn(f"nothing passed; the highest score is {best:.3g}. {self.advice}", stacklevel=2)
        return results

    def stream(
        self, source: Source | Sequence[Source], imgsz: int | Sequence[int] | None = None, vid_stride: int = 1
    ) -> Iterator[Result]:
        """As calling, one result at a time: for long videos and cameras. Uses every ``vid_stride``-th frame."""
        classes = self._class_indices()
        shape_hw = self._input_shape(imgsz or self.image_size)
        for frame in frames_of(source, vid_stride):
            yield self._detect(frame, shape_hw, classes)

    @torch.no_grad()
    def _detect(self, frame: Frame, shape_hw: tuple[int, int], classes: Sequence[int] | None) -> Result:
        parameter = next(self.network.parameters())
        watch = Stopwatch(parameter.device)
        watch.start()
        boxed, geometry = letterbox(frame.image, shape_hw, auto=True, stride=int(max(self.network.stride)))
        rgb = torch.from_numpy(np.ascontiguousarray(boxed[..., ::-1]))
        images = rgb.permute(2, 0, 1)[None].to(parameter.device).float() / 255  # channels last, as the weights are
        watch.lap("preprocess")
        half_type = torch.float16 if parameter.device.type == "cuda" else torch.bfloat16
        with torch.autocast(parameter.device.type, half_type, enabled=self.half):
            raw = self.network.raw(images)
        predictions = self.network.decode([level.to(decoding_type(parameter.device)) for level in raw])
        watch.lap("inference")
        (found,) = non_max_suppression(
            predictions,
            conf_thres=self.conf,
            iou_thres=self.iou,
            classes=classes,
            agnostic=self.agnostic,
            multi_label=self.multi_label,
            max_det=self.max_det,
        )
        boxes, scores, labels = found._replace(boxes=scale_boxes(found.boxes, geometry))
        if self.calibrations is not None:
            probabilities = apply_class_calibrations(self.calibrations, scores.cpu().numpy(), labels.cpu().numpy())
            scores = torch.from_numpy(probabilities).to(boxes)
        rows = torch.cat((boxes, scores[:, None], labels[:, None].to(boxes)), dim=1).float().cpu()
        rows = rows[rows[:, 4].sort(descending=True, stable=True).indices]
        watch.lap("nms")
        return Result(
            path=frame.path,
            original_hw=frame.image.shape[:2],
            xyxy=rows,
            names=self.names,
            speed_ms={section: 1000 * seconds for section, seconds in watch.seconds.items()},
            best_score=best_score(predictions, classes, self.multi_label),
            number=frame.number,
            fps=frame.fps,
            pixels=frame.image,
        )

    def _class_indices(self) -> list[int] | None:
        """The classes to keep; None for all."""
        if self.classes is None:
            return None
        if not len(self.classes):
            raise UserError("classes: expected at least one class index, or None for all classes, but got none")
        by_name = {name: index for index, name in self.names.items()}
        found = []
        for entry in self.classes:
            index = by_name.get(entry) if isinstance(entry, str) else entry
            if index is None:
                raise unknown_name("class", entry, by_name)
            if index not in self.names:
                raise unknown_name("class index", index, [f"{known} ({name})" for known, name in self.names.items()])
            found.append(index)
        return found

    def _input_shape(self, size: int | Sequence[int]) -> tuple[int, int]:
        sides = [size, size] if isinstance(size, int) else list(size)
        sides = sides * 2 if len(sides) == 1 else sides
        if len(sides) != 2 or min(sides) < 1:
            raise UserError(f"imgsz: expected one size or height and width, in pixels, but got {size}")
        stride = int(max(self.network.stride))
        height, width = (math.ceil(side / stride) * stride for side in sides)
        return height, width


def load_detector(
    weights: str | Path | Sequence[str | Path],
    device: str | torch.device,
    conf: float | str,
    calibrate: str,
    augment: bool,
    cfg: str | Path | None = None,
) -> tuple[Detector, str]:
    """Load a checkpoint for detection, see ``detect.load``.

    Returns:
        The detector, and a line about its thresholds.
    """
    device = device if isinstance(device, torch.device) else select_device(device)
    files = [weights] if isinstance(weights, str | Path) else list(weights)
    network, contents = load_networks(files, device, augment, cfg or None)
    point = choose_operating_point(contents, files, conf, calibrate)
    size = contents[0].get("image_size") or DEFAULT_IMAGE_SIZE
    detector = Detector(
        network,
        network.names,
        point.conf,
        image_size=size,
        calibrations=point.calibrations,
        advice=point.advice,
    )
    log.info("%s", point.text)
    return detector, point.text
