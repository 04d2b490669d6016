"""The commands as a user meets them: their flags, their keywords from Python, and how soon --help answers."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import check
import convert
import detect
import search
import study
import train
import val
from utils.config.choices import CALIBRATIONS
from utils.config.options import Options
from utils.config.parser import CommandParser
from utils.conversion.options import ConvertKeywords, ConvertOptions
from utils.detection.options import DetectKeywords, DetectOptions
from utils.detection.sources import Source
from utils.evaluation.options import ValKeywords, ValOptions
from utils.files import ROOT
from utils.inspection.options import CheckKeywords, CheckOptions
from utils.metrics.calibration import KINDS
from utils.search.options import SearchKeywords, SearchOptions
from utils.study.options import PlotKeywords, PlotOptions, StudyKeywords, StudyOptions, TableKeywords, TableOptions
from utils.training.options import TrainKeywords, TrainOptions

# Options, the keywords beside them, the function that takes those, and parameters that it has of its own.
COMMANDS = (
    (TrainOptions, TrainKeywords, train.run, {"on_epoch"}),
    (CheckOptions, CheckKeywords, check.run, set()),
    (ValOptions, ValKeywords, val.evaluate, set()),
    (DetectOptions, DetectKeywords, detect.predict, set()),
    (StudyOptions, StudyKeywords, study.run, set()),
    (TableOptions, TableKeywords, study.table, {"csv"}),
    (PlotOptions, PlotKeywords, study.plot, set()),
    (SearchOptions, SearchKeywords, search.run, set()),
    (ConvertOptions, ConvertKeywords, convert.run, set()),
)

TRAINING = """amp batch-size cache cfg cos-lr data device epochs evolve exist-ok freeze hyp image-weights img
    img-size imgsz label-smoothing multi-scale name noautoanchor noplots nosave noval optimizer patience project
    quad quiet rect resume
    save-period seed set single-cls strict sync-bn weights workers"""
FLAGS = {
    "train.py": TRAINING,
    "check.py": "cfg data exist-ok html hyp img img-size imgsz json name project weights",
    "val.py": """augment batch-size calibrate cfg coco-api conf-thres data device exist-ok half img img-size imgsz
        iou-thres max-det name project save-conf save-json save-thresholds save-txt single-cls task
        verbose weights workers""",
    "detect.py": """agnostic-nms augment calibrate cfg classes conf-thres device exist-ok half hide-conf hide-labels img
        img-size imgsz iou-thres line-thickness max-det name nosave project save-conf save-crop save-csv save-format
        save-txt source vid-stride view-img weights""",
    "study.py train": f"allow-differences csv hyps seeds {TRAINING}",
    "study.py table": "baseline csv metric name project",
    "study.py plot": "metric name output presets project",
    "convert.py": """annotations box boxes-only columns data first-class from group image-name images names output seed
        separator source source-format split to units""",
    "search.py": f"holdout keys pruner search-seed storage trials what {TRAINING}",
}


def test_the_flags_of_each_command_are_those_that_users_know():
    """A flag that goes, or changes its name, breaks somebody's script: that takes a deliberate change here."""
    for options, *_ in COMMANDS:
        actions = CommandParser(options)._actions
        found = {flag.removeprefix("--") for action in actions for flag in action.option_strings} - {"-h", "help"}
        assert found == set(FLAGS[options.command].split()), options.command


def test_defaults_are_those_that_users_know():
    """Results depend on these."""
    known: dict[type[Options], dict[str, Any]] = {
        TrainOptions: {
            **{"cfg": "yolov5n.yaml", "data": "shapes.yaml", "hyp": "hyp.scratch-low.yaml", "epochs": 100, "seed": 0},
            **{"batch_size": 16, "imgsz": 640, "optimizer": "SGD", "patience": 100, "freeze": (0,), "amp": "auto"},
        },
        ValOptions: {
            **{"conf_thres": 0.0, "iou_thres": 0.6, "max_det": 100, "batch_size": 32, "task": "val", "plots": True},
        },
        DetectOptions: {
            **{"conf_thres": "auto", "iou_thres": 0.45, "max_det": 1000, "source": "data/images", "vid_stride": 1},
        },
    }
    for options, expected in known.items():
        defaults = options.defaults()
        assert {name: defaults[name] for name in expected} == expected, options.command


def plain(hint: Any) -> set[Any]:
    """The types of a union; of a sequence those of its entries, so that ``int | Sequence[int]`` is ``{int}``."""
    if get_origin(hint) is typing.Required:
        return plain(get_args(hint)[0])
    if get_origin(hint) in (types.UnionType, typing.Union):
        return {kind for part in get_args(hint) for kind in plain(part)}
    if get_origin(hint) in (Sequence, tuple):
        return plain(get_args(hint)[0])
    return {hint}


def test_keywords_are_the_fields_of_the_options():
    """Editors complete the keywords, the check reads the fields: names and types must not drift apart.

    A keyword may also be a path where the field is text, and one value where the field is several.
    """
    for options, keywords, function, own in COMMANDS:
        fields = typing.get_type_hints(options, localns={"Source": Source})
        named = typing.get_type_hints(keywords, localns={"Source": Source}, include_extras=True)
        assert set(named) | (own & set(options.specs())) == set(options.specs()), options.command
        for name, hint in named.items():
            assert plain(hint) - {Path} == plain(fields[name]) - {Path}, f"{options.command}: {name}"
        required = {name for name, hint in named.items() if get_origin(hint) is typing.Required}
        assert required == set(options.specs()) - set(options.defaults()), options.command
        parameters = inspect.signature(function).parameters
        assert parameters["options"].annotation == f"Unpack[{keywords.__name__}]", options.command
        assert set(parameters) - {"options"} == own, options.command


def test_each_option_has_a_line_of_help_and_a_default_of_its_kind():
    for options, *_ in COMMANDS:
        for name, default in options.defaults().items():
            spec = options.specs()[name]
            assert spec.help, f"{options.command}: {name}"
            if default not in (None, False):
                assert spec.kind.check(default) == default, f"{options.command}: {name}"


def test_calibrations_are_those_of_the_metrics():
    assert ("none", *KINDS) == CALIBRATIONS


SOON = """
import contextlib, io, json, runpy, sys, time
found = {}
for line in json.loads(sys.argv[1]):
    begin, output = time.process_time(), io.StringIO()
    sys.argv = line.split()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), contextlib.suppress(SystemExit):
        runpy.run_path(sys.argv[0], run_name="__main__")
    found[line] = [time.process_time() - begin, output.getvalue()]
heavy = {"torch", "torchvision", "cv2", "numpy", "pandas", "matplotlib", "optuna"} & set(sys.modules)
print(json.dumps([found, sorted(heavy)]))
"""


def test_help_and_wrong_flags_answer_without_heavy_imports():
    pages = [f"{program} --help" for program in ("study.py", *FLAGS)]
    wrong = ["train.py --bach 3", "val.py", "detect.py --weights a.pt --conf 2", "study.py plot --metrics map"]
    wrong += ["convert.py --to yollo --output a", "search.py --trials 0", "train.py --epochs many"]
    command = [sys.executable, "-c", SOON, json.dumps([*pages, *wrong])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found, heavy = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    for line, (seconds, output) in found.items():
        assert seconds < 1, line
        assert output.startswith("usage: " if line in pages else "error: "), line
