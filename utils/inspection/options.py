"""The options of check.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Required, TypedDict

from utils.config.options import Options, option, required, switch
from utils.config.schema import Text, Whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Options of an inspection in full."""

    command: ClassVar[str] = "check.py"
    purpose: ClassVar[str] = "Look for mistakes in a data set. Exit status: 0 clean, 1 findings, 2 unusable."

    data: str = required(Text(), "data YAML")
    imgsz: int | None = option(
        Whole(None, 32),
        "image size of the training, pixels (default: that of the data YAML, or 640)",
        aliases=("--img", "--img-size"),
    )
    cfg: str = option(Text("yolov5n.yaml"), "model YAML whose anchors are compared with the objects")
    weights: str = option(Text(""), "checkpoint whose anchors are taken instead")
    hyp: str = option(Text("hyp.scratch-low.yaml"), "hyper-parameter YAML; says which anchors fit")
    json: str | None = option(Text(None), "write the report as JSON, too", metavar="FILE")
    html: str | None = option(Text(None), "where to write the page (default: report.html in the run folder)")
    project: str = option(Text("runs/check"), "folder that holds the run folders")
    name: str = option(Text("exp"), "name of the run folder")
    exist_ok: bool = switch("write into an existing run folder")


class CheckKeywords(TypedDict, total=False):
    """Keywords of ``check.run``; see :class:`CheckOptions`."""

    data: Required[str | Path]
    imgsz: int | None
    cfg: str | Path
    weights: str | Path
    hyp: str | Path
    json: str | Path | None
    html: str | Path | None
    project: str | Path
    name: str
    exist_ok: bool
