"""Look for mistakes in a data set, without changing it.

    python check.py --data bccd.yaml --img 320

From Python: ``check.run(data=...)`` returns the report.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from pathlib import Path
from typing import Unpack

from utils.config.parser import CommandParser
from utils.inspection.options import CheckKeywords, CheckOptions

if __name__ == "__main__":  # flags first: --help and a wrong flag need none of the imports below, which take seconds
    GIVEN = CommandParser(CheckOptions).given()

import numpy as np

from models.loading import model_from_weights, new_model
from utils.config.console import run_main
from utils.config.loading import load_hyperparameters
from utils.criterion.build import anchor_ratio_limit
from utils.datasets import read_data_yaml
from utils.errors import UserError
from utils.files import find_file, increment_path, write_text_atomically
from utils.inspection.examine import Examination
from utils.inspection.page import page
from utils.inspection.report import AnchorCheck, Report
from utils.training.anchors import anchor_fit

DEFAULT_SIZE = 640

log = logging.getLogger(__name__)


def run(**options: Unpack[CheckKeywords]) -> Report:
    """Inspect a data set, and write the page about it.

    Args:
        options: see :class:`utils.inspection.options.CheckOptions`, e.g. ``data="bccd.yaml"``, ``imgsz=320``.

    Returns:
        Report: counts and findings; ``report.exit_code`` is that of the command line.

    Raises:
        UserError: an invalid option or file, or a data set of which nothing can be read.
    """
    asked = CheckOptions.of(options)
    description = read_data_yaml(find_file(asked.data, "data file", ("data",)))
    limit = anchor_ratio_limit(load_hyperparameters(asked.hyp))
    image_size = asked.imgsz or description.defaults.get("imgsz") or DEFAULT_SIZE
    examination = Examination(description, image_size)
    sizes = examination.objects["train"].network_sizes(image_size)
    anchors = _anchors(asked, description.names, sizes, limit) if len(sizes) else None
    target = _page_file(asked)
    report = dataclasses.replace(examination.report(anchors), page=target)
    _write(target, page(report, examination))
    if asked.json is not None:
        _write(Path(asked.json), json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n")
    log.info("%s", report)
    log.info("the page with pictures is %s", target)
    return report


def _anchors(asked: CheckOptions, names: tuple[str, ...], sizes: np.ndarray, limit: float) -> AnchorCheck:
    """How the anchors of the model fit objects of these sizes (n, 2), pixels."""
    model = model_from_weights(asked.weights, names) if asked.weights else new_model(asked.cfg, names)
    fit = anchor_fit(sizes, model.anchors_px, limit)
    pairs = model.anchors_px.reshape(-1, 2).tolist()
    return AnchorCheck(
        Path(asked.weights or asked.cfg).name, tuple((width, height) for width, height in pairs), limit, *fit
    )


def _page_file(asked: CheckOptions) -> Path:
    if asked.html is not None:
        return Path(asked.html)
    return increment_path(asked.project, asked.name, asked.exist_ok) / "report.html"


def _write(path: Path, text: str) -> None:
    try:
        write_text_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def main() -> None:
    """The command line: the exit status says whether something was found."""
    sys.exit(run(**GIVEN).exit_code)


if __name__ == "__main__":
    run_main(main)
