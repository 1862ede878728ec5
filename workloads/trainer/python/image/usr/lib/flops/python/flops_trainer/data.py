"""The data that the learner hands over, as NumPy arrays.

The learner says in its hello which files of its node's data store are meant: safetensors files with "features"
and "labels" (or "targets"), and of a part the file that says which rows are its. Files of other kinds can be given
on the command line (.npz, .safetensors, .parquet, a folder of Hugging Face's datasets).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from flops_trainer import tensors
from flops_trainer.failure import Failure

if TYPE_CHECKING:
    from typing import Any

    import numpy as np


class Part:
    """One data set, or a part of one: features, labels (or targets), and the names of classes."""

    __slots__ = ("features", "labels", "classes")

    def __init__(self, features: np.ndarray, labels: np.ndarray, classes: list[str] | None) -> None:
        self.features, self.labels, self.classes = features, labels, classes


def _rows_of(entry: dict) -> np.ndarray:
    """Which rows of the whole are this part's."""
    model, _ = tensors.open_file(entry["file"])
    begin, end = (int(at) for at in model["starts"][entry["part"]:entry["part"] + 2])
    return model["rows"][begin:end]


def _class_names(notes: dict[str, str]) -> list[str] | None:
    if "classNames" in notes:
        return [str(name) for name in json.loads(notes["classNames"])]
    return [str(i) for i in range(int(notes["classes"]))] if "classes" in notes else None


def _open_stored(entry: dict) -> Part:
    model, notes = tensors.open_file(entry["file"])
    features, labels = model["features"], model["labels" if "labels" in model else "targets"]
    if entry.get("rows"):
        rows = _rows_of(entry["rows"])
        features, labels = features[rows], labels[rows]
    return Part(features, labels, _class_names(notes))


def _open_npz(path: str) -> Part:
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        for features, labels in (("features", "labels"), ("features", "targets"), ("x", "y"), ("X", "y"),
                                 ("x_train", "y_train"), ("data", "target")):
            if features in file and labels in file:
                return Part(file[features], file[labels], None)
        raise Failure("DataUnusable", f"{path}: it needs arrays named features and labels, or x and y; "
                                      f"it has {', '.join(file.files)}")


class Data:
    """All that the learner handed over; opened when somebody asks for it."""

    def __init__(self, sets: list[dict], paths: list[str], part: tuple[int, int] | None = None) -> None:
        self._sets, self._paths, self._part = sets, paths, part
        self._whole: Part | None = None

    def names(self) -> list[str]:
        return [str(entry.get("name")) for entry in self._sets] + self._paths

    def count(self) -> int:
        """As far as it is known without opening anything."""
        return sum(int(entry.get("examples") or 0) for entry in self._sets)

    def partition(self) -> tuple[int, int]:
        """Which part this is, and of how many: (0, 1) of a whole."""
        if self._part:
            return self._part
        for entry in self._sets:
            if entry.get("rows"):
                model, _ = tensors.open_file(entry["rows"]["file"])
                return int(entry["rows"]["part"]), len(model["starts"]) - 1
        return 0, 1

    def tables(self) -> list[str]:
        """Paths of what only other libraries can read: Parquet files, folders of Hugging Face's datasets."""
        return [path for path in self._paths if path.endswith(".parquet") or os.path.isdir(path)]

    def shape(self) -> list[int] | None:
        """Of one example's features; None: not known without opening more than a file's header."""
        for entry in self._sets:
            if entry.get("file"):
                return [int(size) for size in tensors.open_file(entry["file"])[0]["features"].shape[1:]]
        return None

    def is_there(self) -> bool:
        return bool(self._paths) or any(entry.get("file") for entry in self._sets)

    def _missing(self) -> Failure:
        unknown = ", ".join(entry["name"] for entry in self._sets if not entry.get("file"))
        return Failure("DataMissing", f"the node has no data set {unknown}: push it with `flops data push`" if unknown
                       else "the learner was given no data: name some with --data, or push some to the node with "
                            "`flops data push`")

    def _parts(self) -> list[Part]:
        if not self.is_there() or any(not entry.get("file") for entry in self._sets):
            raise self._missing()
        parts = [_open_stored(entry) for entry in self._sets]
        for path in self._paths:
            parts.append(_open_npz(path) if path.endswith(".npz") else _open_stored({"file": path}))
        return parts

    def whole(self) -> Part:
        """Features, labels and names of classes, of all data sets as one."""
        import numpy as np

        if self._whole is None:
            try:
                parts = self._parts()
            except (OSError, KeyError, ValueError) as error:
                raise Failure("DataUnusable", f"the data of {', '.join(self.names())}: {error}") from error
            if len(parts) > 1 and len({(part.features.shape[1:], str(part.classes)) for part in parts}) > 1:
                shapes = ", ".join(f"{name}: {part.features.shape[1:]}" for name, part in zip(self.names(), parts))
                raise Failure("DataUnusable", f"data sets that are trained on together must be alike ({shapes})")
            self._whole = parts[0] if len(parts) == 1 else Part(
                np.concatenate([part.features for part in parts]), np.concatenate([part.labels for part in parts]),
                parts[0].classes)
        return self._whole


_given: Data | None = None


def give(data: Data) -> None:
    """To load_dataset(), which has no arguments."""
    global _given
    _given = data


def given() -> Data:
    if _given is None:
        raise Failure("DataMissing", "load_dataset() was called before the learner handed over any data")
    return _given


def load_dataset() -> Any:
    """What FLOps' load_dataset() gives: a Hugging Face dataset, or what looks like one where that package is not
    installed."""
    from flops_trainer import dataset

    return dataset.make(given())
