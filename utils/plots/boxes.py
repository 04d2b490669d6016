"""Boxes on images, and batches as grids of images."""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from utils.boxes import xywh_to_xyxy
from utils.errors import UserError
from utils.structures import Detections

NUM_PLOTTED_BATCHES = 3  # of training and of validation
_GOLDEN_RATIO = 0.618033988749895


def class_colour(index: int) -> tuple[int, int, int]:
    """Colour of a class, BGR in 0..255; neighbours in number are far apart in hue."""
    hue = (0.02 + index * _GOLDEN_RATIO) % 1
    saturation, value = ((0.85, 0.95), (0.60, 1.0), (0.95, 0.70))[index // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray | Tensor,
    texts: Sequence[str] = (),
    classes: Sequence[int] | np.ndarray | Tensor = (),
    line_thickness: int | None = None,
) -> np.ndarray:
    """Draw boxes with their texts. Lines and letters grow with the image, and texts stay inside it.

    Args:
        image: (H, W, 3) uint8, BGR; not changed.
        boxes: (n, 4) ``xyxy`` pixels.
        texts: n texts, an empty one is not drawn; or none at all.
        classes: n class numbers for the colours; or none at all, for one colour.
        line_thickness: pixels; None chooses by image size.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    height, width = image.shape[:2]
    # an untrained network's boxes reach far beyond the image: a line along its border says so, a tag stays inside
    limit = np.array([width, height, width, height]) - 1
    corners = np.clip(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), 0, limit)
    texts = list(texts) or [""] * len(corners)
    numbers = [int(number) for number in classes] or [0] * len(corners)
    thickness = line_thickness or max(1, round(min(image.shape[:2]) / 250))
    font = _font(max(10, round(min(image.shape[:2]) / 40)))
    # Pillow takes the channels as they come: with colours in BGR the image need not be converted.
    picture = Image.fromarray(np.ascontiguousarray(image))
    pen = ImageDraw.Draw(picture)
    rows = list(zip(np.round(corners).astype(int).tolist(), texts, map(class_colour, numbers), strict=True))
    for (x1, y1, x2, y2), _, colour in rows:
        pen.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=colour, width=thickness)
    for (x1, y1, _, _), text, colour in reversed(rows):  # best score first: its text comes to lie on top
        if text:
            _draw_text(pen, text, (x1, y1), colour, font, picture.size)
    return np.array(picture)


def score_text(score: float) -> str:
    """A score for a picture, as people write it: 0.87, 0.0072, and from 1e-4 down ``<0.0001``."""
    if score >= 0.01 or score <= 0:
        return f"{score:.2f}"
    return f"{score:.4f}" if score >= 0.0001 else "<0.0001"


def _draw_text(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """Write a text on its own ground above ``corner``, or below it where there is no room above."""
    margin = max(1, round(font.size / 8))
    width, height = math.ceil(pen.textlength(text, font)) + 2 * margin, sum(font.getmetrics())
    left = max(0, min(corner[0], size[0] - width))
    top = corner[1] - height if corner[1] >= height else max(0, min(corner[1], size[1] - height))
    pen.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    blue, green, red = colour
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
    pen.text((left + margin, top), text, fill=ink, font=font)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: more than ASCII, and nothing to download."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def plot_batch(
    images: Tensor,
    targets: Tensor | Sequence[Detections],
    path: str | Path,
    names: Mapping[int, str],
    paths: Sequence[str] | None = None,
    max_images: int = 16,
    conf_thres: float | Sequence[float] = 0.25,
    beside: Tensor | None = None,
) -> None:
    """Save a batch as a grid of images with labels or detections.

    Args:
        images: (B, 3, H, W) uint8, RGB.
        targets: (M, 6) rows of image, class, x, y, w, h (``xywhn``); or B detections in input pixels.
        path: image file to write.
        names: class number to name.
        paths: B files that the images came from, for their titles.
        max_images: only the first ones are shown.
        conf_thres: detections with a lower score are not shown; one number, or one for each class.
        beside: labels like ``targets``, drawn on a copy of each image on its left.
    """
    sides = [targets] if beside is None else [beside, targets]
    shown = images[:max_images].cpu().permute(0, 2, 3, 1).flip(-1).numpy()
    num_images, height, width = shown.shape[:3]
    columns = math.ceil(math.sqrt(num_images / len(sides)))
    side = max(height, width)
    zoom = min(1920 / (columns * len(sides) * side), max(1.0, 320 / side))  # small ones grow, or texts would cover them
    cell_h, cell_w = max(1, round(height * zoom)), max(1, round(width * zoom))
    gap = 2
    step_h, step_w = cell_h + gap, len(sides) * cell_w + gap
    rows = math.ceil(num_images / columns)
    canvas = np.full((rows * step_h + gap, columns * step_w + gap, 3), 255, np.uint8)
    for index, image in enumerate(shown):
        small = cv2.resize(image, (cell_w, cell_h), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
        drawn = [_annotated(small, boxes, index, names, conf_thres, (height, width)) for boxes in sides]
        if paths is not None:
            drawn[0] = _with_title(drawn[0], Path(paths[index]).name)
        top, left = (place * step + gap for place, step in zip(divmod(index, columns), (step_h, step_w), strict=True))
        canvas[top : top + cell_h, left : left + len(sides) * cell_w] = np.concatenate(drawn, axis=1)
    write_image(path, canvas)


def _annotated(
    image: np.ndarray,
    targets: Tensor | Sequence[Detections],
    index: int,
    names: Mapping[int, str],
    conf_thres: float | Sequence[float],
    input_hw: tuple[int, int],
) -> np.ndarray:
    """The resized ``image``, of number ``index`` in its batch, with its boxes."""
    boxes, classes, texts = _boxes_of(targets, index, names, conf_thres)
    height, width = image.shape[:2]
    scale = (width, height) if isinstance(targets, Tensor) else (width / input_hw[1], height / input_hw[0])
    return draw_boxes(image, boxes * np.tile(scale, 2), texts, classes)


def _boxes_of(
    targets: Tensor | Sequence[Detections], index: int, names: Mapping[int, str], conf_thres: float | Sequence[float]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Boxes (n, 4) ``xyxy`` in the unit of the targets, classes (n,) and texts of one image."""
    if isinstance(targets, Tensor):
        own = targets[targets[:, 0] == index].detach().cpu().float()
        classes = own[:, 1].long().numpy()
        return xywh_to_xyxy(own[:, 2:6]).numpy(), classes, [class_name(names, number) for number in classes]
    boxes, scores, classes = (column.cpu().numpy() for column in targets[index])
    thresholds = np.asarray(conf_thres, dtype=np.float64)
    kept = scores >= (thresholds[classes] if thresholds.ndim else thresholds)
    boxes, scores, classes = boxes[kept], scores[kept], classes[kept]
    texts = [f"{class_name(names, number)} {score_text(score)}" for number, score in zip(classes, scores, strict=True)]
    return boxes, classes, texts


def class_name(names: Mapping[int, str], number: int) -> str:
    """The name of a class, or its number where it has none."""
    return str(names.get(int(number), int(number)))


def _with_title(image: np.ndarray, title: str) -> np.ndarray:
    """The image with a file name in white on dark grey in its lower left corner, cut to its width."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    font = _font(max(9, round(min(image.shape[:2]) / 45)))
    height = sum(font.getmetrics())
    fits = max(1, int(image.shape[1] / max(1.0, pen.textlength(title, font)) * len(title)) - 1)
    text = title if pen.textlength(title, font) < image.shape[1] - 4 else f"…{title[-fits + 1 :]}"
    bottom = image.shape[0] - 1
    pen.rectangle((0, bottom - height, math.ceil(pen.textlength(text, font)) + 4, bottom), fill=(40, 40, 40))
    pen.text((2, bottom - height), text, fill=(255, 255, 255), font=font)
    return np.array(picture)


def write_image(path: str | Path, image: np.ndarray) -> Path:
    """Write an image; its folder is made where missing.

    Args:
        path: a suffix that cannot be written becomes ``.jpg``.
        image: (H, W, 3) uint8, BGR.

    Returns:
        The file.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path) if cv2.haveImageWriter(str(path)) else Path(path).with_suffix(".jpg")
    # Encoded here: ``imwrite`` fails silently, and on some systems with every path beyond ASCII.
    encoded, content = cv2.imencode(path.suffix, image)
    if not encoded:
        raise UserError(f"{path}: cannot be written as an image")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path
