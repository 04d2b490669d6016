"""Files of the program and of its runs: where they are found, how run folders are named, how files are written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError, unknown_name

ROOT = Path(__file__).resolve().parents[1]
SETTINGS_FOLDERS = ("models", "data", "data/hyps")
HYPS_FOLDER = "data/hyps"


def find_file(name: str | Path, what: str, folders: Sequence[str] = SETTINGS_FOLDERS) -> Path:
    """Find a settings file: as given (absolute, or from the working folder), else among the program's own.

    Args:
        name: a path or a bare file name such as ``yolov5n.yaml``.
        what: kind of file for the error message, e.g. ``"model file"``.
        folders: where to look below the program's folder, in this order, after that folder itself.

    Raises:
        UserError: there is no such file; the message lists those that the program brings.
    """
    path = Path(name).expanduser()
    homes = [Path(), ROOT, *(ROOT / folder for folder in folders)]
    for home in homes:
        if (home / path).is_file():
            return home / path
    known = {file.name for folder in folders for file in (ROOT / folder).glob("*.yaml")}
    raise unknown_name(what, name, known)


def increment_path(project: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Make the folder of a run: ``project/name``, or with the first free number appended, from 2 on.

    Creating the folder is what claims the name, so runs that start at the same moment never share one.

    Args:
        project: parent folder, made where it is missing.
        name: folder name, e.g. ``exp``.
        exist_ok: take ``project/name`` even if it exists.

    Raises:
        UserError: the folder cannot be made.
    """
    if not name:
        raise UserError("name: expected the name of a run folder but got nothing")
    first = Path(project) / name
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        if exist_ok:
            first.mkdir(exist_ok=True)
            return first
        number = 1
        while True:
            folder = first if number == 1 else first.with_name(f"{first.name}{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
    except OSError as error:
        raise UserError(f"{first}: cannot make the run folder: {error.strerror or error}") from None


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that it is whole at every moment, for other processes and after a power cut.

    Args:
        path: the file; its folder is created.
        write: called with the opened temporary file, which lies beside the file until it takes its name.

    Raises:
        OSError: the folder cannot be written. What was there before stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text_atomically(path: str | Path, text: str) -> None:
    """:func:`write_atomically` for text, as UTF-8 with the line ends it has."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
