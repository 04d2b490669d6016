"""Data YAML files: which images a data set has, in which format its labels are, and what its classes are called."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from utils.config.yaml_files import key_lines, load_yaml
from utils.datasets.formats import LABEL_FORMATS
from utils.datasets.shapes import ShapesSettings, generated_root
from utils.errors import UserError, unknown_name
from utils.files import ROOT

SPLITS = ("train", "val", "test")
KEYS = ("path", *SPLITS, "names", "nc", "format", "defaults", "generator", "download", "ignore", "ignore_as")
IGNORE_AS = ("region", "background")
# What labelling services and collections write beside it; it says nothing that training depends on.
FOREIGN_KEYS = (
    "roboflow",
    "info",
    "description",
    "author",
    "contributor",
    "date",
    "license",
    "licenses",
    "url",
    "version",
)


@dataclass(frozen=True)
class DataDescription:
    """A data set as its YAML describes it.

    Attributes:
        file: the YAML.
        root: folder that the splits are relative to.
        names: class names; the class index is the position.
        format: of the labels, a name of ``LABEL_FORMATS``: ``"yolo"`` (text files) or ``"voc"`` (Pascal VOC XML).
        splits: ``train``, ``val`` and ``test``, as far as given, to absolute paths: folders or lists of images
            (``yolo``), or lists of ids (``voc``). They need not exist until a split is used.
        defaults: settings of the training command that this data set suggests, e.g. ``imgsz``.
        generator: settings of the generator that makes the data set on first use, or None.
        download: where the data set can be had, as text; never executed or fetched.
        format_settings: values of the keys that the label format adds.
        ignored: names of classes whose objects are regions to ignore.
        ignore_as: ``region``: crowds, difficult objects and objects of ignored classes are neither right nor wrong to
            find. ``background``: they are background.
        label_names: class names in the numbers of the label files: ``names``, and the ignored ones.
    """

    file: Path
    root: Path
    names: tuple[str, ...]
    format: str = "yolo"
    splits: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    generator: ShapesSettings | None = None
    download: str = ""
    format_settings: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    ignore_as: str = "region"
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.label_names:
            object.__setattr__(self, "label_names", self.names)

    @property
    def kept_labels(self) -> tuple[int, ...]:
        """Position of each class in ``label_names``."""
        return tuple(self.label_names.index(name) for name in self.names)

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    def require(self, split: str) -> tuple[Path, ...]:
        """The paths of a split, all of which exist.

        Raises:
            UserError: the YAML has no such split, or its files are not there; the message lists where.
        """
        if split not in self.splits:
            raise unknown_name("split", split, self.splits, str(self.file))
        missing = [path for path in self.splits[split] if not path.exists()]
        if missing:
            message = (
                f"{self.file}: {split}: data set not found, no {' and no '.join(map(str, missing))}. A relative "
                f"'path' is looked for under DATASETS_DIR ({datasets_dir()}), in the repository and beside the YAML."
            )
            if self.download.startswith(("http://", "https://")):
                message += f" It can be had from {self.download}"
            raise UserError(message)
        return self.splits[split]


def datasets_dir() -> Path:
    """The folder of data sets: ``$DATASETS_DIR``, else ``datasets`` beside the repository."""
    return Path(os.environ.get("DATASETS_DIR") or ROOT.parent / "datasets").expanduser().resolve()


def read_data_yaml(path: Path) -> DataDescription:
    """Read and check a data YAML.

    ``path`` is the root: absolute, or relative to DATASETS_DIR (a leading ``../datasets`` stands for that folder);
    where ``train`` is not found there, relative to the repository or to the folder of the YAML if it is found there.
    Without ``path`` the root is the folder of the YAML. ``names`` is a list, or a mapping from 0, 1, ... to names.
    The keys of other programs in ``FOREIGN_KEYS`` have no effect.

    Raises:
        UserError: not a YAML mapping, an unknown, repeated or missing key, a value of the wrong kind, or an explicit
            ``nc`` that is not the number of names; names file and line.
    """
    path = Path(path)
    values, lines = load_yaml(path), key_lines(path)

    def where(key: object) -> str:
        return f"{path}:{lines.get((str(key),), 1)}"

    label_format = str(values.get("format") or "yolo")
    if label_format not in LABEL_FORMATS.names():
        raise unknown_name(LABEL_FORMATS.kind, label_format, LABEL_FORMATS.names(), where("format"))
    own_keys = LABEL_FORMATS.entry(label_format).parameters
    for key in values:
        if key not in KEYS and key not in own_keys and key not in FOREIGN_KEYS:
            raise unknown_name("key", key, [*KEYS, *own_keys], where(key))
    format_settings = {}
    for key, parameter in own_keys.items():
        if values.get(key) is not None:
            try:
                format_settings[key] = parameter.check(values[key])
            except UserError as error:
                raise UserError(f"{where(key)}: {key}: {error}") from None
    for key in ("train", "val", "names"):
        if values.get(key) is None:
            raise UserError(f"{path}: expected the keys 'train', 'val' and 'names', but {key!r} is missing")
    label_names = _names(values["names"], where("names"))
    ignored = _ignored(values.get("ignore"), where("ignore"))
    names = tuple(name for name in label_names if name not in ignored)
    if not names:
        raise UserError(f"{where('ignore')}: ignore: expected at least one class to remain but all are ignored")
    ignore_as = str(values.get("ignore_as") or IGNORE_AS[0])
    if ignore_as not in IGNORE_AS:
        raise unknown_name("value of ignore_as", ignore_as, IGNORE_AS, where("ignore_as"))
    nc = values.get("nc")
    if nc is not None and nc != len(label_names):
        raise UserError(f"{where('nc')}: nc: expected {len(label_names)}, the number of names, but got {nc!r}")
    defaults = values.get("defaults") or {}
    if not isinstance(defaults, Mapping):
        raise UserError(f"{where('defaults')}: defaults: expected a mapping of settings but got {defaults!r}")
    generator = None
    if values.get("generator") is not None:
        generator = ShapesSettings.from_mapping(values["generator"], names, where("generator"))
        root = generated_root(generator)
    else:
        root = _root(values.get("path"), values["train"], path, where)
    splits = {
        split: _split_paths(values[split], root, where(split)) for split in SPLITS if values.get(split) is not None
    }
    return DataDescription(
        file=path,
        root=root,
        names=names,
        format=label_format,
        splits=MappingProxyType(splits),
        defaults=MappingProxyType(dict(defaults)),
        generator=generator,
        download=str(values.get("download") or "").strip(),
        format_settings=MappingProxyType(format_settings),
        ignored=ignored,
        ignore_as=ignore_as,
        label_names=(*label_names, *(name for name in ignored if name not in label_names)),
    )


def _ignored(value: Any, where: str) -> tuple[str, ...]:
    entries = [] if value is None else value
    if not isinstance(entries, list) or not all(isinstance(entry, str | int | float) for entry in entries):
        raise UserError(f"{where}: ignore: expected a list of class names but got {value!r:.80}")
    return tuple(dict.fromkeys(map(str, entries)))


def _names(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        if sorted(value, key=str) != sorted(range(len(value)), key=str):
            raise UserError(f"{where}: names: expected the class indices 0 to {len(value) - 1} but got {list(value)}")
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, list) or not value or not all(isinstance(name, str | int | float) for name in value):
        raise UserError(f"{where}: names: expected a list of names, or a mapping from index to name, but got {value!r}")
    names = tuple(str(name) for name in value)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{where}: names: expected different names but {', '.join(repeated)} occurs more than once")
    return names


def _root(value: Any, train: Any, file: Path, where: Callable[[str], str]) -> Path:
    if value is None:
        return file.resolve().parent
    if not isinstance(value, str):
        raise UserError(f"{where('path')}: path: expected a folder but got {value!r}")
    folder = Path(value).expanduser()
    under = Path(*folder.parts[2:]) if folder.parts[:2] == ("..", "datasets") else folder
    # joined to an absolute folder, each of these is that folder
    candidates = (datasets_dir() / under, ROOT / folder, file.resolve().parent / folder)
    holding = (root for root in candidates if all(path.exists() for path in _split_paths(train, root, where("train"))))
    return next(holding, candidates[0]).resolve()


def _split_paths(value: Any, root: Path, where: str) -> tuple[Path, ...]:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"{where}: expected a folder, a list file, or a list of them, but got {value!r}")
    paths = []
    for entry in entries:
        path = root / Path(entry).expanduser()
        if not path.exists() and entry.startswith("images/") and (root / entry[7:]).exists():
            path = root / entry[7:]  # COCO's archives unpack to train2017, without the folder images
        if not path.exists() and entry.startswith("../") and (root / entry[3:]).exists():
            path = root / entry[3:]  # files written for a program that runs one folder deeper
        paths.append(path.resolve())
    return tuple(paths)
