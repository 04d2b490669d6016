"""Label formats. A new one is a file here and a line below; see :class:`utils.datasets.formats.base.LabelFormat`."""

from utils.datasets.formats.base import LABEL_FORMATS
from utils.datasets.formats.coco_json import CocoJson, check_annotations
from utils.datasets.formats.rows import (
    BOXES,
    UNITS,
    Rows,
    check_columns,
    check_image_name,
    check_places,
    check_separator,
)
from utils.datasets.formats.voc_xml import VocXml, check_folder
from utils.datasets.formats.yolo_txt import YoloTxt
from utils.parameters import Checked, Choice
from utils.registry import Info

LABEL_FORMATS.add(Info(name="yolo", build=YoloTxt))
LABEL_FORMATS.add(Info(name="voc", build=VocXml, parameters={"annotations": Checked(None, check_folder)}))
LABEL_FORMATS.add(Info(name="coco", build=CocoJson, parameters={"annotations": Checked(None, check_annotations)}))
LABEL_FORMATS.add(
    Info(
        name="rows",
        build=Rows,
        parameters={
            "columns": Checked(None, check_columns),
            "units": Choice(UNITS[0], UNITS),
            "box": Choice(None, tuple(BOXES)),
            "first_class": Choice(None, (0, 1)),
            "separator": Checked(None, check_separator),
            "annotations": Checked(None, check_places),
            "image_name": Checked("{stem}", check_image_name),
        },
    )
)

__all__ = ["LABEL_FORMATS"]
