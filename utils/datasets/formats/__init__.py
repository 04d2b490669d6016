"""Label formats. A new one is a file here and a line below; see :class:`utils.datasets.formats.base.LabelFormat`."""

from utils.datasets.formats.base import LABEL_FORMATS
from utils.datasets.formats.coco_json import CocoJson, check_annotations
from utils.datasets.formats.voc_xml import VocXml, check_folder
from utils.datasets.formats.yolo_txt import YoloTxt
from utils.parameters import Checked
from utils.registry import Info

LABEL_FORMATS.add(Info(name="yolo", build=YoloTxt))
LABEL_FORMATS.add(Info(name="voc", build=VocXml, parameters={"annotations": Checked(None, check_folder)}))
LABEL_FORMATS.add(Info(name="coco", build=CocoJson, parameters={"annotations": Checked(None, check_annotations)}))

__all__ = ["LABEL_FORMATS"]
