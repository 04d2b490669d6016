"""Settings files, hyper-parameters, the command line and the same options from Python."""

from __future__ import annotations

import argparse
import logging
import threading
from pathlib import Path

import pytest
import torch

from utils.assigners import ASSIGNERS
from utils.config import (
    CommandParser,
    find_file,
    increment_path,
    key_lines,
    load_hyperparameters,
    load_yaml,
    options_from,
    progress_bar,
    run_main,
    select_device,
    setup_logging,
)
from utils.errors import UserError
from utils.hyperparameters import Hyperparameters
from utils.losses import BOX_LOSSES, SCORE_LOSSES


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# ---- files ----------------------------------------------------------------------------------------------------------


def test_find_file_prefers_the_working_folder_and_falls_back_to_the_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_file("hyp.sca.yaml", "hyper-parameter file")
    assert shipped.is_absolute() and shipped.parts[-3:] == ("data", "hyps", "hyp.sca.yaml")
    assert find_file("data/hyps/hyp.sca.yaml", "hyper-parameter file").samefile(shipped)
    own = write(tmp_path / "hyp.sca.yaml", "lr0: 0.1\n")
    assert find_file("hyp.sca.yaml", "hyper-parameter file").samefile(own)
    assert find_file(own, "hyper-parameter file") == own


def test_find_file_names_the_nearest_of_the_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"unknown hyper-parameter file 'hyp\.scaa'.*Did you mean 'hyp\.sca\.yaml'"):
        find_file("hyp.scaa", "hyper-parameter file", ["data/hyps"])
    with pytest.raises(UserError, match=r"unknown hyper-parameter file 'hyp\.sca'.*Did you mean 'hyp\.sca\.yaml'"):
        find_file(Path("hyp.sca"), "hyper-parameter file", ["data/hyps"])


# ---- YAML -----------------------------------------------------------------------------------------------------------


def test_yaml_numbers_without_a_point_are_numbers(tmp_path):
    content = load_yaml(write(tmp_path / "a.yaml", "a: 1e-3\nb: -2E5\nc: 1e-3x\nd: 12\n"))
    assert content == {"a": 0.001, "b": -200000.0, "c": "1e-3x", "d": 12}
    assert isinstance(content["d"], int)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", r"a\.yaml:\d: not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", r"a\.yaml:3: .*'a' is given twice, first in line 1"),
        ("a:\n  x: 1\n  x: 2\n", r"a\.yaml:3: .*'x' is given twice, first in line 2"),
        ("- 1\n- 2\n", r"a\.yaml: expected a mapping .* but found list"),
        ("# nothing\n", r"a\.yaml: expected a mapping .* but found nothing"),
        ("a: !!python/object/apply:os.getcwd []\n", r"a\.yaml:1: not valid YAML"),
        ("? [1, {}]\n: 2\n", r"a\.yaml:1: not valid YAML"),
        ("a: 2024-13-45\n", r"a\.yaml: not valid YAML: month"),
    ],
)
def test_yaml_errors_name_file_and_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_yaml(write(tmp_path / "a.yaml", text))


def test_yaml_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_yaml(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load_yaml(tmp_path / "latin.yaml")


def test_yaml_merge_keys_stay_possible(tmp_path):
    text = "low: &low {a: 1, b: 2}\nhigh:\n  <<: *low\n  b: 3\n"
    assert load_yaml(write(tmp_path / "a.yaml", text))["high"] == {"a": 1, "b": 3}


def test_key_lines(tmp_path):
    path = write(tmp_path / "a.yaml", "# note\na: 1\nloss:\n  box: sca\n")
    assert key_lines(path) == {("a",): 2, ("loss",): 3, ("loss", "box"): 4}


# ---- hyper-parameters -----------------------------------------------------------------------------------------------


def test_bases_are_merged_block_by_block(tmp_path):
    write(tmp_path / "grand.yaml", "lr0: 0.5\nloss: {box: {name: sca, weight: 2}, score: focal}\n")
    write(tmp_path / "parent.yaml", "base: grand.yaml\nlrf: 0.25\nloss:\n  box: giou\n")
    child = write(tmp_path / "child.yaml", "base: parent.yaml\nmomentum: 0.5\n")
    hyp = load_hyperparameters(child)
    assert (hyp.lr0, hyp.lrf, hyp.momentum) == (0.5, 0.25, 0.5)
    assert hyp.loss.box == "giou"  # replaced whole, nothing of the mapping is left
    assert hyp.loss.score == "focal"


def test_a_base_may_be_a_shipped_preset(tmp_path):
    hyp = load_hyperparameters(write(tmp_path / "mine.yaml", "base: hyp.sca.yaml\nlr0: 0.5\n"))
    assert (hyp.loss.box, hyp.lr0) == ("sca", 0.5)


def test_circular_bases_are_an_error(tmp_path):
    write(tmp_path / "a.yaml", "base: b.yaml\n")
    write(tmp_path / "b.yaml", "base: a.yaml\n")
    with pytest.raises(UserError, match=r"circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load_hyperparameters(tmp_path / "a.yaml")


def test_errors_name_the_file_and_line_that_hold_the_mistake(tmp_path):
    write(tmp_path / "base.yaml", "lr0: 0.1\nmomentum: 2\n")
    child = write(tmp_path / "child.yaml", "base: base.yaml\nlr0: 0.2\n")
    with pytest.raises(UserError, match=r"base\.yaml:2: momentum: expected a number from 0 to 1 but got 2"):
        load_hyperparameters(child)
    with pytest.raises(UserError, match=r"a\.yaml:3: loss: unknown key 'bx'.*Did you mean 'box'"):
        load_hyperparameters(write(tmp_path / "a.yaml", "lr0: 0.1\nloss:\n  bx: ciou\n"))
    with pytest.raises(UserError, match=r"b\.yaml:1: unknown base file 'nowhere\.yaml'"):
        load_hyperparameters(write(tmp_path / "b.yaml", "base: nowhere.yaml\n"))
    with pytest.raises(UserError, match=r"c\.yaml:2: base: expected the name of a file but got 3"):
        load_hyperparameters(write(tmp_path / "c.yaml", "lr0: 1\nbase: 3\n"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["loss.box=sca"], "sca"),
        (["loss.box.ratio=0.7"], {"name": "ciou", "ratio": 0.7}),
        (["loss.box=inner", "loss.box.of=ciou", "loss.box.ratio=7e-1"], {"name": "inner", "of": "ciou", "ratio": 0.7}),
        (["loss.box={name: wiou, version: 3}"], {"name": "wiou", "version": 3}),
        (["loss.box={name: wiou, version: 3}", "loss.box=iou"], "iou"),
        (["loss={box: iou}"], "iou"),
    ],
)
def test_overrides_of_the_box_loss(overrides, expected):
    assert load_hyperparameters("hyp.scratch-low.yaml", overrides).loss.box == expected


def buildable(hyp: Hyperparameters) -> None:
    BOX_LOSSES.build_from(hyp.loss.box)
    SCORE_LOSSES.build_from(hyp.loss.score)
    ASSIGNERS.entry(hyp.assigner)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss:\n  box: ciuo\n", r"a\.yaml:3: loss\.box: unknown box loss 'ciuo'.*Did you mean 'ciou'"),
        (
            "loss:\n  score: {name: focal, gama: 2}\n",
            r"a\.yaml:3: loss\.score: unknown parameter .*mean 'gamma'",
        ),
        (
            "loss:\n  score: {name: focal, gamma: x}\n",
            r"a\.yaml:3: loss\.score: score loss 'focal' .* with gamma='x': ",
        ),
        ("loss:\n  score: {name: focal, gamma: -1}\n", r"a\.yaml:3: loss\.score: focal: expected gamma >= 0"),
        ("loss:\n  score: {gamma: 1}\n", r"a\.yaml:3: loss: score: expected a name, or a mapping with 'name'"),
        ("assigner: anchor_ration\n", r"a\.yaml:2: assigner: unknown assigner .*Did you mean 'anchor_ratio'"),
        ("assigner: {name: anchor_ratio}\n", r"a\.yaml:2: assigner: expected a name but got \{"),
        ("loss: 0\n", r"a\.yaml:2: loss: expected a mapping but got 0"),
    ],
)
def test_what_cannot_be_built_is_refused_with_file_and_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_hyperparameters(write(tmp_path / "a.yaml", f"lr0: 0.1\n{text}"), validate=buildable)


def test_overrides_are_validated_when_all_are_applied():
    with pytest.raises(UserError, match=r"--set loss\.score\.gamma=x: loss\.score: score loss 'focal' cannot be built"):
        load_hyperparameters({}, ["loss.score=focal", "loss.score.gamma=x", "lr0=1"], validate=buildable)
    hyp = load_hyperparameters({}, ["loss.score=unheard", "loss.score=focal", "loss.score.gamma=2"], validate=buildable)
    assert hyp.loss.score == {"name": "focal", "gamma": 2}


def test_settings_that_contradict_each_other_are_refused_in_the_end():
    def consistent(hyp: Hyperparameters) -> None:
        if hyp.fl_gamma > 0 and hyp.loss.score != "bce":
            raise UserError("fl_gamma and loss.score contradict each other")

    load_hyperparameters({"fl_gamma": 1}, validate=consistent)
    with pytest.raises(UserError, match=r"^hyper-parameters: fl_gamma and loss\.score contradict each other"):
        load_hyperparameters({"fl_gamma": 1, "loss": {"score": "focal"}}, validate=consistent)


def test_no_anchors_may_be_written_as_0():
    assert load_hyperparameters({"anchors": 0}).anchors is None
    with pytest.raises(UserError, match="anchors: expected a number but got False"):
        load_hyperparameters({"anchors": False})


def test_overrides_win_over_files_and_keywords_over_overrides():
    hyp = load_hyperparameters("hyp.sca.yaml", ["lr0=1e-3", "mosaic=0"], label_smoothing=0.1, mosaic=0.5)
    assert (hyp.lr0, hyp.mosaic, hyp.label_smoothing, hyp.loss.box) == (0.001, 0.5, 0.1, "sca")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr0", "--set lr0: expected KEY=VALUE"),
        ("lr=1", r"--set lr=1: unknown key 'lr'.*Did you mean"),
        ("lr0=fast", "--set lr0=fast: lr0: expected a number but got 'fast'"),
        ("lr0.x=1", "expected a key, loss.KEY or loss.KEY.PARAMETER"),
        ("loss.bx.ratio=1", "expected a key, loss.KEY or loss.KEY.PARAMETER"),
        ("loss.bx=1", "unknown key 'bx'.*Did you mean 'box'"),
        ("loss.box=[1", "--set .*not valid YAML"),
    ],
)
def test_wrong_overrides_are_explained(override, message):
    with pytest.raises(UserError, match=message):
        load_hyperparameters("hyp.scratch-low.yaml", [override])


def test_a_mapping_serves_as_a_file_and_is_not_changed():
    mapping = {"lr0": 0.5, "loss": {"box": "giou"}}
    hyp = load_hyperparameters(mapping, ["loss.box=diou"])
    assert (hyp.lr0, hyp.loss.box) == (0.5, "diou")
    assert mapping == {"lr0": 0.5, "loss": {"box": "giou"}}
    assert load_hyperparameters(hyp.to_mapping()) == hyp


def test_an_empty_mapping_gives_the_defaults():
    assert load_hyperparameters({}) == Hyperparameters()


# ---- command line ---------------------------------------------------------------------------------------------------


@pytest.fixture
def parser() -> CommandParser:
    parser = CommandParser(prog="train.py")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--imgsz", "--img", "--img-size", type=int, default=640)
    parser.add_argument("--resume", nargs="?", const=True, default=False)
    parser.add_argument("--freeze", nargs="+", type=int, default=[0])
    parser.add_argument("--optimizer", choices=["SGD", "Adam", "AdamW"], default="SGD")
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--cache", nargs="?", const="ram")
    parser.add_argument("--cos-lr", action="store_true")
    parser.add_argument("--set", nargs="+", default=[])
    return parser


def test_prefixes_and_aliases_are_accepted(parser):
    options = parser.parse_args(["--batch", "4", "--img", "320"])
    assert (options.batch_size, options.imgsz, options.data) == (4, 320, "shapes.yaml")


def test_given_holds_only_what_the_command_line_says(parser):
    arguments = ["--batch-size", "16", "--resume", "--cos-lr"]
    assert parser.given(arguments) == {"batch_size": 16, "resume": True, "cos_lr": True}
    assert parser.given([]) == {}
    assert options_from(parser, parser.given(arguments)) == parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
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
    write(tmp_path / "runs", "a file")
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
