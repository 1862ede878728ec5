"""What load_dataset() gives: Hugging Face's Dataset where that package is installed, or the one of this module.

The node's data has no names for its columns. They are called as the code that is to train calls them (CIFAR-10's "img",
"x", "target" …), or as FLOPS_COLUMNS=img,label says; else "image" (or "features", where an example is no picture) and
"label". The class of this module knows its columns by all these names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flops_trainer.failure import Failure

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    import numpy as np

    from flops_trainer.data import Data, Part

CODE_MAX = 1 << 20
_FEATURES = ("image", "img", "features", "pixels", "x", "X", "data")
_LABELS = ("label", "labels", "target", "targets", "y", "fine_label")
_ARRAYS = ("numpy", "torch", "tensorflow", "jax")  # formats of Hugging Face's


class ClassLabel:
    """Of a column of classes: their names."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.num_classes = names, len(names)

    def int2str(self, value: int) -> str:
        return self.names[value]

    def str2int(self, name: str) -> int:
        return self.names.index(name)


class DatasetDict(dict):
    """Data sets by the name of their split."""

    def set_format(self, *args: Any, **kwargs: Any) -> None:
        for part in self.values():
            part.set_format(*args, **kwargs)

    def _each(self, change: Callable[[Dataset], Dataset]) -> DatasetDict:
        return DatasetDict({name: change(part) for name, part in self.items()})

    def with_format(self, *args: Any, **kwargs: Any) -> DatasetDict:
        return self._each(lambda part: part.with_format(*args, **kwargs))

    def with_transform(self, transform: Callable, *args: Any, **kwargs: Any) -> DatasetDict:
        return self._each(lambda part: part.with_transform(transform))

    def map(self, function: Callable, **kwargs: Any) -> DatasetDict:
        return self._each(lambda part: part.map(function, **kwargs))


class Dataset:
    """A table of columns that are NumPy arrays, with the part of Hugging Face's interface that training code uses."""

    def __init__(self, columns: dict[str, np.ndarray], features: dict[str, Any] | None = None,
                 kind: str | None = None, transform: Callable | None = None) -> None:
        self._columns, self._features, self._kind, self._transform = columns, features or {}, kind, transform

    # Shape

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    @property
    def num_rows(self) -> int:
        return len(self)

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    @property
    def num_columns(self) -> int:
        return len(self._columns)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), len(self._columns)

    @property
    def features(self) -> dict[str, Any]:
        return {name: self._features.get(name) for name in self._columns}

    def __repr__(self) -> str:
        return f"Dataset(columns: {self.column_names}, rows: {len(self)})"

    # Looking

    def _name(self, name: str) -> str:
        if name in self._columns:
            return name
        for others in (_FEATURES, _LABELS):
            same = [own for own in self._columns if own in others]
            if name in others and same:
                return same[0]
        raise KeyError(f"the data set has no column {name!r}; it has {', '.join(self._columns)}")

    def _formatted(self, values: Any) -> Any:
        if self._kind == "torch":
            import torch

            return torch.as_tensor(values)
        if self._kind in ("tensorflow", "tf"):
            import tensorflow

            return tensorflow.convert_to_tensor(values)
        return values if self._kind == "numpy" else values.tolist()

    def _pick(self, rows: Any) -> dict[str, Any]:
        return {name: self._formatted(column[rows]) for name, column in self._columns.items()}

    def _transformed(self, rows: list[int]) -> dict[str, Any]:
        batch = {name: [self._formatted(item) if self._kind else item for item in column[rows]]
                 for name, column in self._columns.items()}
        assert self._transform
        return self._transform(_Row(batch))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._formatted(self._columns[self._name(key)])
        if not self._transform:
            return _Row(self._pick(key if not hasattr(key, "__index__") else int(key)))
        if hasattr(key, "__index__"):
            return _Row({name: values[0] for name, values in self._transformed([int(key)]).items()})
        return _Row(self._transformed(list(range(len(self)))[key] if isinstance(key, slice) else list(key)))

    def __getitems__(self, keys: list[int]) -> list[Any]:
        """PyTorch's loaders ask for a batch by this."""
        return [self[int(key)] for key in keys]

    def __iter__(self) -> Iterator[Any]:
        for i in range(len(self)):
            yield self[i]

    def iter(self, batch_size: int, drop_last_batch: bool = False) -> Iterator[Any]:
        for at in range(0, len(self), batch_size):
            if at + batch_size <= len(self) or not drop_last_batch:
                yield self[at:at + batch_size]

    def to_dict(self) -> dict[str, list]:
        return {name: column.tolist() for name, column in self._columns.items()}

    def to_pandas(self) -> Any:
        import pandas

        return pandas.DataFrame({name: list(column) for name, column in self._columns.items()})

    # The same table, otherwise

    def _like(self, columns: dict[str, np.ndarray]) -> Dataset:
        return Dataset(columns, self._features, self._kind, self._transform)

    def set_format(self, type: str | None = None, columns: Any = None, **_: Any) -> None:  # noqa: A002
        self._kind, self._transform = type, None
        if columns:
            self._columns = {self._name(name): self._columns[self._name(name)] for name in columns}

    def reset_format(self) -> None:
        self.set_format(None)

    def with_format(self, type: str | None = None, columns: Any = None, **_: Any) -> Dataset:  # noqa: A002
        other = self._like(dict(self._columns))
        other.set_format(type, columns)
        return other

    def set_transform(self, transform: Callable | None, *_: Any, **__: Any) -> None:
        self._transform = transform

    def with_transform(self, transform: Callable | None, *_: Any, **__: Any) -> Dataset:
        other = self._like(self._columns)
        other.set_transform(transform)
        return other

    def select(self, indices: Any, **_: Any) -> Dataset:
        import numpy as np

        rows = np.asarray(list(indices), dtype=np.int64)
        return self._like({name: column[rows] for name, column in self._columns.items()})

    def shuffle(self, seed: int | None = None, **_: Any) -> Dataset:
        import numpy as np

        return self.select(np.random.default_rng(seed).permutation(len(self)))

    def train_test_split(self, test_size: float | int | None = None, train_size: float | int | None = None,
                         shuffle: bool = True, seed: int | None = None, **_: Any) -> DatasetDict:
        count = len(self)

        def rows(size: float | int) -> int:
            return round(size * count) if isinstance(size, float) else int(size)

        if test_size is None:
            test_size = 0.25 if train_size is None else count - rows(train_size)
        test = rows(test_size)
        train = rows(train_size) if train_size is not None else count - test
        if not 0 < test < count or not 0 < train <= count - test:
            raise ValueError(f"{count} examples cannot be split into {train} for training and {test} for testing")
        whole = self.shuffle(seed) if shuffle else self
        return DatasetDict(train=whole.select(range(train)), test=whole.select(range(count - test, count)))

    def rename_column(self, name: str, new_name: str) -> Dataset:
        return self.rename_columns({name: new_name})

    def rename_columns(self, names: dict[str, str]) -> Dataset:
        own = {self._name(name): new for name, new in names.items()}
        other = self._like({own.get(name, name): column for name, column in self._columns.items()})
        other._features = {own.get(name, name): feature for name, feature in self._features.items()}
        return other

    def remove_columns(self, names: Any) -> Dataset:
        gone = {self._name(name) for name in ([names] if isinstance(names, str) else names)}
        return self._like({name: column for name, column in self._columns.items() if name not in gone})

    def filter(self, function: Callable, **_: Any) -> Dataset:
        return self.select([i for i, row in enumerate(self) if function(row)])

    def map(self, function: Callable, batched: bool = False, batch_size: int = 1000, remove_columns: Any = None,
            **_: Any) -> Dataset:
        import numpy as np

        found: dict[str, list] = {}
        rows = self.iter(batch_size) if batched else iter(self)
        for row in rows:
            result = function(row)
            for name, value in {**row, **(result or {})}.items():
                found.setdefault(name, []).extend(value if batched else [value])
        gone = [remove_columns] if isinstance(remove_columns, str) else remove_columns or []
        return self._like({name: np.asarray(values) for name, values in found.items() if name not in gone})


class _Row(dict):
    """An example, or a batch of them, that knows its columns by their other names, too."""

    def __missing__(self, name: str) -> Any:
        for others in (_FEATURES, _LABELS):
            same = [own for own in self if own in others]
            if name in others and same:
                return self[same[0]]
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        for others in (_FEATURES, _LABELS):
            if name in others and name not in self:
                for own in [own for own in self if own in others]:
                    del self[own]
        super().__setitem__(name, value)


def _named_in_code(names: tuple[str, ...], otherwise: str) -> str:
    """The first of these names that the code, in the current folder, asks for as a text."""
    code = ""
    for file in sorted(os.listdir(".")):
        if file.endswith(".py") and os.path.isfile(file):
            with open(file, encoding="utf-8", errors="replace") as text:
                code += text.read(CODE_MAX)
    return next((name for name in names if f'"{name}"' in code or f"'{name}'" in code), otherwise)


def _column_names(part: Part) -> tuple[str, str]:
    given = os.environ.get("FLOPS_COLUMNS", "").split(",")
    if len(given) == 2 and all(given):
        return given[0], given[1]
    return (_named_in_code(_FEATURES, "image" if part.features.ndim > 2 else "features"),
            _named_in_code(_LABELS, "label"))


def _is_real(module: Any) -> bool:
    return f"{os.sep}stand-ins{os.sep}" not in str(getattr(module, "__file__", ""))


def _hugging_face() -> Any:
    try:
        import datasets
    except ImportError:
        return None
    return datasets if _is_real(datasets) else None


def _teach_columns(library: Any) -> None:
    """Since version 4 a column, dataset["image"], is read piece by piece and no array any more. Code that was written
    before that gets an array where it asked for arrays (set_format), as it hands it to what takes nothing else; and
    asks a list for what arrays have: then it reads all of itself."""
    column = getattr(library.arrow_dataset, "Column", None)
    if column is None or hasattr(column, "__getattr__"):
        return
    kind = library.arrow_dataset.Dataset
    piecemeal = kind.__getitem__

    def whole(self: Any, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self[:], name)

    def item(self: Any, key: Any) -> Any:
        found = piecemeal(self, key)
        is_array = isinstance(found, column) and self.format["type"] in _ARRAYS
        return found[:] if is_array else found

    column.__getattr__ = whole
    kind.__getitem__ = item


def _as_hugging_face(part: Part, library: Any) -> Any:
    image, label = _column_names(part)
    rank = part.features.ndim - 1
    columns = {image: part.features, label: part.labels}
    form: Any = None
    _teach_columns(library)
    if 2 <= rank <= 4:
        kind = {2: library.Array2D, 3: library.Array3D, 4: library.Array4D}[rank]
        form = library.Features({
            image: kind(shape=part.features.shape[1:], dtype="float32"),
            label: library.ClassLabel(names=part.classes) if part.classes else library.Value(str(part.labels.dtype))})
    return library.Dataset.from_dict(columns, features=form)


def _read_tables(paths: list[str]) -> Any:
    """What is in a Hugging Face form already; only their library reads it."""
    library = _hugging_face()
    if library is None:
        raise Failure("DataUnusable", f"{paths[0]}: the package datasets is needed to read it")
    _teach_columns(library)
    found = [library.load_from_disk(path) if os.path.isdir(path) else library.Dataset.from_parquet(path)
             for path in paths]
    return found[0] if len(found) == 1 else library.concatenate_datasets(found)


def make(data: Data) -> Any:
    if data.tables():
        return _read_tables(data.tables())
    part, library = data.whole(), _hugging_face()
    if library is not None:
        return _as_hugging_face(part, library)
    image, label = _column_names(part)
    return Dataset({image: part.features, label: part.labels},
                   {label: ClassLabel(part.classes)} if part.classes else {})
