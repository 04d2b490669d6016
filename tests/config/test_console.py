"""What a command says, and how it ends."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.config.console import images_bar, progress_bar, run_main, setup_logging, shown_messages
from utils.errors import UserError
from utils.files import ROOT


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


def test_messages_appear_from_wherever_the_command_is_called(tmp_path: Path):
    """By a path with ``..`` from a folder beside the checkout, and through a symbolic link."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(ROOT)
    for called in (os.path.relpath(ROOT, tmp_path / "beside"), "../link", str(tmp_path / "link")):
        code = (
            f"import logging, sys; sys.path.insert(0, {called!r})\n"
            "from utils.config.console import setup_logging\n"
            "import utils.errors as own\n"
            "setup_logging()\n"
            "record = logging.LogRecord('own', logging.INFO, own.__file__, 1, 'from inside', (), None)\n"
            "logging.getLogger().handle(record)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path / "beside", capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout) == (0, "from inside\n"), f"{called}: {done.stderr}"


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


def test_messages_are_shown_for_a_while_where_nobody_set_up_logging(fresh_logging, capsys):
    """As train.run in a notebook: shown without handlers of the caller's own, and nothing stays behind."""
    root = logging.getLogger()
    root.handlers[:], before = [], root.level
    for quiet, out in ((False, "epoch 1\n"), (True, "")):
        with shown_messages(quiet):
            logging.getLogger("train").info("epoch 1")
            logging.getLogger("train").warning("odd")
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == (out, "warning: odd\n"), f"quiet {quiet}"
        assert (root.handlers, root.level) == ([], before)
