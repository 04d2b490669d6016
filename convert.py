"""Convert a data set to another label format: ``python convert.py --data D.yaml --to coco --output FOLDER``.

Formats are YOLO txt, Pascal VOC, COCO JSON and rows of a text or CSV file. Without a data YAML:
``--from voc --source FOLDER``. ``--split`` splits anew. :func:`run` is the same from Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from utils.config.parser import CommandParser
from utils.conversion.options import ConvertKeywords, ConvertOptions

if __name__ == "__main__":  # flags first: --help and a wrong flag need none of the imports below, which take seconds
    GIVEN = CommandParser(ConvertOptions).given()

from utils.config.console import run_main
from utils.conversion.run import convert


def run(**options: Unpack[ConvertKeywords]) -> Path:
    """Convert a data set; the command line as a function.

    Args:
        options: see :class:`utils.conversion.options.ConvertOptions`, e.g. ``data="bccd.yaml"``, ``to="coco"``,
            ``output="bccd-coco"``.

    Returns:
        the data YAML of the output, for ``train.run``.

    Raises:
        UserError: an invalid option, an input that cannot be read, or an output that exists or lies in the input.
    """
    return convert(options)


if __name__ == "__main__":
    run_main(lambda: run(**GIVEN))
