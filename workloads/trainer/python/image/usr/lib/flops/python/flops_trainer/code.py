"""Finds users' code in a folder and loads it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from flops_trainer import flops, native
from flops_trainer.failure import Failure

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from flops_trainer.data import Data
    from flops_trainer.shape import Shape

STAND_INS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "stand-ins")
_GUESSES = (("trainer.py", "trainer:Trainer"), ("model_manager.py", "model_manager:ModelManager"),
            ("client_app.py", "client_app:app"), ("client.py", "client:app"))


def _of_project(path: str) -> str | None:
    """The client app that a Flower project names."""
    import tomllib

    try:
        with open(path, "rb") as file:
            project = tomllib.load(file)
        return str(project["tool"]["flwr"]["app"]["components"]["clientapp"])
    except (OSError, KeyError, TypeError, ValueError):
        return None


def find(folder: str) -> str:
    """The entry point, "module:object", of the code in a folder."""
    if not os.path.isdir(folder):
        raise Failure("CodeNotLoaded", f"there is no folder {folder}")
    for file, entry in _GUESSES[:2]:
        if os.path.exists(os.path.join(folder, file)):
            return entry
    project = os.path.join(folder, "pyproject.toml")
    found = _of_project(project) if os.path.exists(project) else None
    for file, entry in _GUESSES[2:]:
        if not found and os.path.exists(os.path.join(folder, file)):
            found = entry
    if not found:
        raise Failure("CodeNotLoaded", f"{folder} has no training code: trainer.py with a class Trainer, "
                                       "model_manager.py with a class ModelManager, or a Flower app")
    return found


def real(folder: str) -> str:
    return os.path.realpath(folder)


def _is_of(module: Any, folder: str) -> bool:
    """Packages that are installed below the folder are not the code's own."""
    file = str(getattr(module, "__file__", None) or "")
    return file.startswith(folder + os.sep) and f"-packages{os.sep}" not in file


def take_modules(folder: str) -> dict[str, ModuleType]:
    """All modules of a folder, which are loaded anew by whoever imports them next."""
    found = {name: module for name, module in list(sys.modules.items()) if _is_of(module, folder)}
    for name in found:
        del sys.modules[name]
    return found


def forget(folder: str, before: set[str]) -> None:
    """Modules of a folder that were loaded since: the next attempt begins anew."""
    for name in set(sys.modules) - before:
        if _is_of(sys.modules[name], folder):
            del sys.modules[name]


def _serve_flops_utils() -> None:
    """load_dataset() of the flops_utils package imports this module, which FLOps put into its images."""
    from types import ModuleType

    from flops_trainer.data import load_dataset

    module = ModuleType("data_loading")
    module.load_data_from_ml_data_server = load_dataset  # type: ignore[attr-defined]
    sys.modules.setdefault("data_loading", module)


def prepare_path(folder: str) -> None:
    """The code comes first; what stands in for packages that are not installed, last."""
    sys.path.insert(0, folder)
    for name in sorted(os.listdir(STAND_INS)):
        if importlib.util.find_spec(name) is None:
            sys.path.append(os.path.join(STAND_INS, name))
    _serve_flops_utils()


def _import(folder: str, entry: str) -> Any:
    module_name, _, path = entry.partition(":")
    before = set(sys.modules)
    try:
        thing: Any = importlib.import_module(module_name)
    except BaseException:
        forget(folder, before)
        raise
    for name in path.split(".") if path else []:
        if not hasattr(thing, name):
            forget(folder, before)
            raise Failure("CodeNotLoaded", f"{module_name.replace('.', '/')}.py has no {name} (entry point {entry})")
        thing = getattr(thing, name)
    return thing


def _lacks(thing: Any, methods: tuple[str, ...]) -> list[str]:
    return [name for name in methods if not callable(getattr(thing, name, None))]


def _shape_of(thing: Any, entry: str, data: Data) -> Shape:
    name = entry.rpartition(":")[2]
    if flops.is_manager(thing) or name == "ModelManager":
        kind: Any = flops.Flops
        lacks = _lacks(thing, flops.METHODS)
    elif native.is_trainer(thing) or name == "Trainer":
        kind, lacks = native.Native, _lacks(thing, native.METHODS)
    else:
        from flops_trainer import flower

        return flower.shape_of(thing, entry, data)
    if lacks:
        raise Failure("CodeNotLoaded", f"class {name} (entry point {entry}) lacks {', '.join(lacks)}")
    return kind(thing, data)


def load(folder: str, entry: str | None, data: Data) -> Shape:
    """Raises Failure, or whatever the code raises while it is imported."""
    folder = real(folder)
    entry = entry or find(folder)
    return _shape_of(_import(folder, entry), entry, data)
