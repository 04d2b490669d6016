"""The command line, the same options from Python, messages, run folders and devices."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from utils.config.console import images_bar, progress_bar, run_main, setup_logging
from utils.config.parser import CommandParser, options_from
from utils.errors import UserError
from utils.files import increment_path
from utils.inference import select_device

ROOT = Path(__file__).resolve().parents[2]

# ---- command line ---------------------------------------------------------------------------------------------------


@pytest.fixture
def parser() -> CommandParser:
    gone = {"local_rank": "torchrun sets it", "image_weights": ""}
    parser = CommandParser(prog="train.py", unavailable=gone)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--imgsz", "--img", "--img-size", type=int, default=640)
    parser.add_argument("--resume", nargs="?", const=True, default=False)
    parser.add_argument("--freeze", nargs="+", type=int, default=[0])
    parser.add_argument("--optimizer", choices=["SGD", "Adam", "AdamW"], default="SGD")
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--cache", nargs="?", const="ram")
    parser.add_argument("--cos-lr", action="store_true")
    parser.add_argument("--set", nargs="+", action="extend", default=[])
    return parser


def test_prefixes_and_aliases_are_accepted(parser):
    options = parser.parse_args(["--batch", "4", "--img", "320"])
    assert (options.batch_size, options.imgsz, options.data) == (4, 320, "shapes.yaml")


def test_given_holds_only_what_the_command_line_says(parser):
    arguments = ["--batch-size", "16", "--resume", "--cos-lr"]
    assert parser.given(arguments) == {"batch_size": 16, "resume": True, "cos_lr": True}
    assert parser.given([]) == {}
    assert options_from(parser, parser.given(arguments)) == parser.parse_args(arguments)


def test_flags_that_extend_a_list_may_be_repeated(parser):
    arguments = ["--set", "lr0=1", "--set", "lrf=2", "mosaic=0"]
    expected = ["lr0=1", "lrf=2", "mosaic=0"]
    for _ in range(2):  # the default list must not grow
        assert parser.given(arguments) == {"set": expected}
        assert parser.parse_args(arguments).set == expected
        assert options_from(parser, parser.given(arguments)).set == expected
        assert options_from(parser, {"set": tuple(expected)}).set == expected
    assert parser.given([]) == {}
    assert parser.parse_args([]).set == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--local_rank=0"], "'--local_rank' is an option of YOLOv5 that is not available here: torchrun sets it\n"),
        (["--image-weights"], "'--image-weights' is an option of YOLOv5 that is not available here\n"),
        (["--batchsize", "4"], "unknown flag '--batchsize'. Did you mean '--batch-size'?"),
        (["--bach", "4"], "unknown flag '--bach'. Did you mean '--batch-size'?"),
        (["--foo"], "unknown flag '--foo'.\n"),
        (["--datta=x"], "unknown flag '--datta'. Did you mean '--data'?"),
        (["--lr0", "0.1"], "lr0 is a hyper-parameter, write '--set lr0=VALUE'"),
        (["coco.yaml"], "unexpected argument 'coco.yaml'"),
        (["--batch-size", "many"], "invalid int value: 'many'"),
        (["--optimizer", "sgd"], "invalid choice: 'sgd'"),
    ],
)
def test_wrong_command_lines_exit_with_2_and_one_message(parser, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_info:
        parser.parse_args(arguments)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({}, []),
        ({"batch_size": 4, "img": 320}, ["--batch-size", "4", "--imgsz", "320"]),
        ({"img_size": "320"}, ["--img-size", "320"]),
        ({"resume": True, "cos_lr": True}, ["--resume", "--cos-lr"]),
        ({"resume": "runs/last.pt"}, ["--resume", "runs/last.pt"]),
        ({"freeze": (1, 2)}, ["--freeze", "1", "2"]),
        ({"freeze": 3}, ["--freeze", "3"]),
        ({"label_smoothing": 1}, ["--label-smoothing", "1"]),
        ({"data": Path("a/b.yaml")}, ["--data", "a/b.yaml"]),
        ({"set": ["lr0=1", "loss.box=sca"]}, ["--set", "lr0=1", "loss.box=sca"]),
    ],
)
def test_options_from_python_equal_those_of_the_command_line(parser, given, arguments):
    assert options_from(parser, given) == parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_weights": True}, "'image_weights' is an option of YOLOv5 that is not available here$"),
        ({"batchsize": 4}, "train.py: unknown option 'batchsize'.*Did you mean 'batch_size'"),
        ({"batch_size": 2.5}, "batch_size: expected a whole number but got 2.5"),
        ({"batch_size": True}, "batch_size: expected a whole number but got True"),
        ({"batch_size": None}, "batch_size: expected a whole number but got None"),
        ({"label_smoothing": "much"}, "label_smoothing: expected a number but got 'much'"),
        ({"data": None}, "data: expected text but got None"),
        ({"cos_lr": 1}, "cos_lr: expected True or False but got 1"),
        ({"freeze": []}, "freeze: expected 1 or more values"),
        ({"freeze": [1, "b"]}, "freeze: expected a whole number but got 'b'"),
        ({"optimizer": "adam"}, "optimizer: unknown value 'adam'. Known: Adam, AdamW, SGD"),
    ],
)
def test_wrong_options_from_python_are_refused(parser, given, message):
    with pytest.raises(UserError, match=message):
        options_from(parser, given)


def test_a_converter_of_its_own_is_used_from_python_too():
    def even(text: str) -> int:
        if int(text) % 2:
            raise argparse.ArgumentTypeError("an even number")
        return int(text)

    parser = CommandParser(prog="p")
    parser.add_argument("--count", type=even, default=2)
    assert options_from(parser, {"count": 4}).count == 4
    with pytest.raises(UserError, match="count: expected an even number but got 3"):
        options_from(parser, {"count": 3})


# ---- running --------------------------------------------------------------------------------------------------------


def test_run_main_turns_user_errors_and_interrupts_into_exit_codes(capsys):
    def wrong() -> None:
        raise UserError("a.yaml:3: bad")

    def interrupted() -> None:
        raise KeyboardInterrupt

    for function, code, text in ((wrong, 2, "error: a.yaml:3: bad\n"), (interrupted, 130, "interrupted\n")):
        with pytest.raises(SystemExit) as exit_info:
            run_main(function)
        assert exit_info.value.code == code
        assert capsys.readouterr().err == text
    with pytest.raises(ZeroDivisionError):  # a defect of ours keeps its traceback
        run_main(lambda: 1 / 0)


def test_a_reader_that_leaves_ends_a_command_in_silence():
    code = (
        "from utils.config.console import run_main; run_main(lambda: [print('line', flush=True) for _ in range(10**5)])"
    )
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert command.stdout.readline() == b"line\n"
    command.stdout.close()
    assert command.wait(timeout=60) == 141
    assert command.stderr.read() == b""


@pytest.fixture
def fresh_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_logging_is_plain_once_and_without_the_chatter_of_libraries(fresh_logging, capsys):
    setup_logging()
    setup_logging()
    logging.getLogger("train").info("epoch 1")
    logging.getLogger("train").warning("2 images left out")
    record = logging.LogRecord("library", logging.INFO, "/usr/lib/python3/library.py", 1, "chatter", (), None)
    logging.getLogger().handle(record)
    out, err = capsys.readouterr()
    assert (out, err) == ("epoch 1\n", "warning: 2 images left out\n")


def test_processes_beside_the_main_one_speak_of_errors_alone(fresh_logging, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    setup_logging()
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("train").log(level, "level %d", level)
    assert capsys.readouterr() == ("", "error: level 40\n")


def test_images_bar_counts_images_on_a_terminal(capsys, monkeypatch):
    with images_bar(8, "validating") as silent:
        silent.update(4)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with images_bar(8, "validating") as bar:
        bar.update(4)
        bar.refresh()
    shown = capsys.readouterr().err
    assert "validating" in shown and "4/8" in shown and "img" in shown
    with images_bar(8, show=False) as hidden:
        assert hidden.disable


def test_progress_bar_is_silent_without_a_terminal(capsys):
    assert list(progress_bar(range(3), total=3, desc="train")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_increment_path_counts_from_2(tmp_path):
    names = [increment_path(tmp_path / "runs", "exp").name for _ in range(3)]
    assert names == ["exp", "exp2", "exp3"]
    assert increment_path(tmp_path / "runs", "exp", exist_ok=True).name == "exp"
    assert increment_path(tmp_path / "runs", "new", exist_ok=True).is_dir()


def test_runs_that_start_together_never_share_a_folder(tmp_path):
    folders: list[Path] = []
    start = threading.Barrier(8)

    def claim() -> None:
        start.wait()
        folders.extend(increment_path(tmp_path, "exp") for _ in range(10))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == len(set(folders)) == 80


def test_increment_path_refuses_a_file_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="cannot make the run folder"):
        increment_path(tmp_path / "runs", "exp")
    with pytest.raises(UserError, match="expected the name of a run folder"):
        increment_path(tmp_path, "")


# ---- devices --------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_select_device_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("") == select_device("cpu") == select_device("CPU") == torch.device("cpu")
    with pytest.raises(UserError, match=r"device: expected one of .*cpu.* but got '0'"):
        select_device("0")


@pytest.mark.parametrize(("text", "index"), [("", 0), ("cuda", 0), ("0", 0), ("1", 1), ("cuda:1", 1)])
def test_select_device_with_gpus(two_gpus, text, index):
    assert select_device(text) == torch.device("cuda", index)


def test_select_device_refuses_what_does_not_exist(two_gpus):
    for text in ("2", "gpu", "0,x", ","):
        with pytest.raises(UserError, match="device: expected one of 0, 1, cpu"):
            select_device(text)
    with pytest.raises(UserError, match="torchrun"):
        select_device("0,1")


def test_each_process_gets_its_own_gpu(two_gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("") == select_device("0,1") == torch.device("cuda", 1)
    assert select_device("1,0") == torch.device("cuda", 0)
    with pytest.raises(UserError, match="process 1 has no GPU of its own"):
        select_device("0")
