"""Many learners in one process, one after the other (`flops simulate`): each has the user's code for itself.

Code keeps things in its modules as well as in its objects, so both belong to the learner that they were loaded for: when
its turn is over they are set aside for its next one, or forgotten, and the next learner's code is loaded anew. Packages
that the code imports stay, with whatever they keep; generators of random numbers are seeded for each learner.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from flops_trainer import code

if TYPE_CHECKING:
    from types import ModuleType

    from flops_trainer.shape import Shape


class Worlds:
    def __init__(self, folder: str) -> None:
        self._folder = code.real(folder)
        self._path, self._environ, self._words = list(sys.path), dict(os.environ), list(sys.argv)
        self._kept: dict[str, tuple[Shape, dict[str, ModuleType]]] = {}
        self._name, self._keep = "", False
        self._is_frozen = False

    def leave(self, shape: Shape | None) -> None:
        """The turn of whoever has it is over."""
        modules = code.take_modules(self._folder)
        if shape is not None and self._keep:
            self._kept[self._name] = shape, modules
        elif shape is not None:
            shape.leave()

    def enter(self, name: str, keep: bool) -> Shape | None:
        """What this learner has left the last time; None where that is nothing, or was not to be kept."""
        if not self._keep:
            self._collect()
        self._name, self._keep = name, keep
        sys.path[:], sys.argv[:] = self._path, self._words
        os.environ.clear()
        os.environ.update(self._environ)
        os.chdir(self._folder)
        shape, modules = self._kept.pop(name, (None, {}))
        sys.modules.update(modules)
        return shape

    def _collect(self) -> None:
        """Modules are circles of references. What is there after the first turn, packages above all, stays for ever and
        is not looked through again."""
        gc.collect()
        if not self._is_frozen:
            gc.freeze()
            self._is_frozen = True
