"""Options declared once: the command line, the same options from Python, and the page of --help."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest

from utils.config.options import Options, option, required, switch
from utils.config.parser import CommandParser, given_command
from utils.config.schema import Many, NumberOr, Text, Whole
from utils.errors import UserError
from utils.parameters import Choice, Number


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """One option of each kind."""

    command: ClassVar[str] = "train.py"
    purpose: ClassVar[str] = "Train."
    unavailable: ClassVar[dict[str, str]] = {"bucket": "results stay here", "image_weights": ""}

    batch_size: int = option(Whole(16, 1), "images per batch")
    imgsz: int = option(Whole(640, 32), "size", aliases=("--img", "--img-size"))
    resume: bool | str = option(Text(False), "a run to continue", bare=True)
    freeze: tuple[int, ...] = option(Many((0,), Whole()), "rows")
    optimizer: str = option(Choice("SGD", ("SGD", "Adam", "AdamW")), "optimizer")
    label_smoothing: float | None = option(Number(None, 0, 1), "smoothing of 10 %")
    conf_thres: float | str = option(NumberOr(0.25, 0, 1, "auto"), "threshold")
    data: str = option(Text("shapes.yaml"), "data YAML")
    cache: str | None = option(Choice(None, ("ram", "disk")), "cache images", bare="ram")
    cos_lr: bool = switch("cosine schedule")
    plots: bool = switch("save plots", default=True, has_flag=False)
    set: tuple[str, ...] = option(Many((), Text(), 0), "override", metavar="KEY=VALUE", extends=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridOptions(SampleOptions):
    """Inherited options, one of them decided by the command, and a required one."""

    command: ClassVar[str] = "study.py train"
    decided: ClassVar[dict[str, str]] = {"resume": "repeat the same command"}

    data: str = option(Text("other.yaml"), "data of the grid")
    seeds: tuple[int, ...] = required(Many(None, Whole(low=0)), "seeds", metavar="N")


PARSER = CommandParser(SampleOptions)


def test_given_holds_only_what_the_command_line_says():
    cases = {
        "": {},
        "--batch 4 --img 320": {"batch_size": 4, "imgsz": 320},  # unique prefixes, and aliases
        "--img-size 320": {"imgsz": 320},
        "--batch-size 16 --resume --cos-lr": {"batch_size": 16, "resume": True, "cos_lr": True},
        "--resume runs/last.pt --cache": {"resume": "runs/last.pt", "cache": "ram"},
        "--cache disk --freeze 1 2": {"cache": "disk", "freeze": (1, 2)},
        "--label-smoothing 1 --conf auto": {"label_smoothing": 1.0, "conf_thres": "auto"},
        "--set lr0=1 --set lrf=2 mosaic=0": {"set": ("lr0=1", "lrf=2", "mosaic=0")},
    }
    for _ in range(2):  # what one command line adds to a list does not stay there
        for line, expected in cases.items():
            assert PARSER.given(line.split()) == expected, line
    assert SampleOptions.of(PARSER.given([])) == SampleOptions()
    assert dataclasses.asdict(SampleOptions.of(PARSER.given(["--batch", "4"]))) == {
        **dataclasses.asdict(SampleOptions()),
        "batch_size": 4,
    }


def test_wrong_command_lines_exit_with_2_and_one_message(capsys):
    cases = {
        "--bucket x": "'--bucket' is an option of YOLOv5 that is not available here: results stay here\n",
        "--image-weights": "'--image-weights' is an option of YOLOv5 that is not available here\n",
        "--batchsize 4": "unknown flag '--batchsize'. Did you mean '--batch-size'?",
        "--bach 4": "unknown flag '--bach'. Did you mean '--batch-size'?",
        "--foo": "unknown flag '--foo'.\n",
        "--datta=x": "unknown flag '--datta'. Did you mean '--data'?",
        "--lr0 0.1": "lr0 is a hyper-parameter, write '--set lr0=VALUE'",
        "--plots": "unknown flag '--plots'.",
        "coco.yaml": "unexpected argument 'coco.yaml'",
        "--data": "expected one argument",
        "--batch-size many": "--batch-size: expected a whole number of at least 1 but got 'many'",
        "--batch-size 0": "--batch-size: expected a whole number of at least 1 but got 0",
        "--optimizer sgd": "--optimizer: unknown value 'sgd'. Known: Adam, AdamW, SGD. Did you mean 'SGD'?",
        "--conf best": "--conf-thres: expected a number from 0 to 1 or 'auto' but got 'best'",
    }
    for line, message in cases.items():
        with pytest.raises(SystemExit) as exit_info:
            PARSER.given(line.split())
        error = capsys.readouterr().err
        assert exit_info.value.code == 2, line
        assert error.startswith("error: ") and message in error and len(error.splitlines()) == 2, (line, error)


def test_options_from_python_equal_those_of_the_command_line():
    cases = (
        ({}, ""),
        ({"batch_size": 4, "img": 320}, "--batch-size 4 --imgsz 320"),
        ({"img_size": "320"}, "--img-size 320"),
        ({"resume": True, "cos_lr": True}, "--resume --cos-lr"),
        ({"resume": Path("runs/last.pt")}, "--resume runs/last.pt"),
        ({"freeze": [1, 2]}, "--freeze 1 2"),
        ({"freeze": 3}, "--freeze 3"),
        ({"label_smoothing": 1}, "--label-smoothing 1"),
        ({"label_smoothing": None}, ""),  # the default, which is no number
        ({"data": Path("a/b.yaml")}, "--data a/b.yaml"),
        ({"set": ["lr0=1", "loss.box=sca"]}, "--set lr0=1 loss.box=sca"),
    )
    for given, line in cases:
        assert SampleOptions.of(given) == SampleOptions.of(PARSER.given(line.split())), (given, line)
    assert SampleOptions.of({"plots": False}) == SampleOptions(plots=False)


def test_wrong_options_from_python_are_refused():
    cases = (
        ({"image_weights": True}, "'image_weights' is an option of YOLOv5 that is not available here$"),
        ({"batchsize": 4}, "train.py: unknown option 'batchsize'.*Did you mean 'batch_size'"),
        ({"batch_size": 2.5}, "--batch-size: expected a whole number of at least 1 but got 2.5"),
        ({"batch_size": True}, "--batch-size: expected a whole number of at least 1 but got True"),
        ({"batch_size": None}, "--batch-size: expected a whole number of at least 1 but got None"),
        ({"label_smoothing": "much"}, "--label-smoothing: expected a number from 0 to 1 but got 'much'"),
        ({"label_smoothing": float("nan")}, "--label-smoothing: expected a number from 0 to 1 but got nan"),
        ({"data": None}, "--data: expected text but got None"),
        ({"cos_lr": 1}, "--cos-lr: expected true or false but got 1"),
        ({"plots": "no"}, "^plots: expected true or false but got 'no'"),
        ({"freeze": []}, r"--freeze: expected at least 1 value but got \[\]"),
        ({"freeze": [1, "b"]}, "--freeze: expected a whole number but got 'b'"),
        ({"optimizer": "adam"}, "--optimizer: unknown value 'adam'. Known: Adam, AdamW, SGD. Did you mean 'Adam'"),
    )
    for given, message in cases:
        with pytest.raises(UserError, match=message):
            SampleOptions.of(given)


def test_inherited_options_may_change_their_default_or_be_decided():
    options = GridOptions.of({"seeds": [1], "imgsz": 64})
    assert (options.data, options.imgsz, options.seeds) == ("other.yaml", 64, (1,))
    with pytest.raises(UserError, match=r"--resume is not an option of study\.py train: repeat the same command"):
        GridOptions.of({"seeds": 1, "resume": True})
    with pytest.raises(UserError, match=r"study\.py train: --seeds must be given"):
        GridOptions.of({})


def test_options_are_frozen_and_become_plain_data():
    options = SampleOptions.of({"freeze": (1, 2)})
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.imgsz = 32
    plain = options.to_mapping()
    assert plain["freeze"] == [1, 2] and plain["set"] == [] and plain["resume"] is False
    assert SampleOptions.of(plain) == options


def test_the_page_of_help_follows_from_the_fields():
    page = " ".join(PARSER.format_help().split())
    assert "--imgsz" in page and "size (default: 640)" in page and "--optimizer {SGD,Adam,AdamW}" in page
    assert "smoothing of 10 %" in page and "--set KEY=VALUE" in page and "--plots" not in page
    assert "(default: None)" not in page and "(default: )" not in page and "(default: False)" not in page
    inherited = " ".join(CommandParser(GridOptions).format_help().split())
    assert "--resume" not in inherited and "data of the grid (default: other.yaml)" in inherited


def test_a_program_of_several_commands(monkeypatch, capsys):
    def parsed(*arguments: str) -> tuple[str, dict]:
        monkeypatch.setattr("sys.argv", ["study.py", *arguments])
        return given_command({"train": GridOptions, "show": SampleOptions}, "study.py", "Compare.")

    assert parsed("show", "--batch", "4") == ("show", {"batch_size": 4})
    assert parsed("train", "--seeds", "0", "2") == ("train", {"seeds": (0, 2)})
    for arguments, code, text in (
        (["--help"], 0, "{train,show}"),
        ([], 2, "error: the following arguments are required: command"),
        (["train"], 2, "error: the following arguments are required: --seeds"),
        (["trian"], 2, "error: argument command: invalid choice: 'trian'"),
        (["show", "--bach", "3"], 2, "Did you mean '--batch-size'?"),
    ):
        with pytest.raises(SystemExit) as exit_info:
            parsed(*arguments)
        captured = capsys.readouterr()
        assert exit_info.value.code == code and text in captured.out + captured.err, arguments


def test_the_rank_that_older_launchers_pass_is_taken_and_ignored():
    """``python -m torch.distributed.launch`` adds it; the environment it sets is what counts."""
    parser = CommandParser(SampleOptions)
    for spelling in (["--local-rank=1"], ["--local_rank=1"], ["--local-rank", "1"], ["--local_rank", "1"]):
        assert parser.given([*spelling, "--batch-size", "8"]) == {"batch_size": 8}, spelling
