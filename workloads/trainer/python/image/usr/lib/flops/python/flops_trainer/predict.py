"""Predictions by users' code with a trained model, and without any data: for servers and for MLflow.

    predictor = load("model.safetensors", "repository")
    predictor.predict(inputs)    # whatever the code gives, a row for each row of the inputs
    predictor.answers(rows)      # the same as numbers, for a server

A class Trainer says it by a method predict(inputs). A ModelManager by one, too, or by its model (get_model(), or the
attribute `model`): an estimator's predict_proba or predict, a Keras model's predict, a PyTorch module's call. The shape
of one input is in the model's notes (a learner with data writes it there), or the class says it: input_shape = (784,).
"""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING

from flops_trainer import code, flops, native, tensors
from flops_trainer.data import Data
from flops_trainer.failure import Failure, failure_of

if TYPE_CHECKING:
    from typing import Any, Callable

    import numpy as np

    from flops_trainer.shape import Shape
    from flops_trainer.tensors import Model

    Call = Callable[[Any], Any]


def _of_torch(module: Any) -> Call:
    torch = sys.modules["torch"]
    module.eval()

    def call(inputs: Any) -> Any:
        with torch.no_grad():
            return module(torch.as_tensor(inputs)).cpu().numpy()
    return call


def _is_torch(thing: Any) -> bool:
    return "torch" in sys.modules and isinstance(thing, sys.modules["torch"].nn.Module)


def _is_keras(thing: Any) -> bool:
    return any(base.__name__ == "Model" and base.__module__.partition(".")[0] in ("keras", "tf_keras")
               for base in type(thing).__mro__)


def call_of(thing: Any, model: Any = None) -> Call:
    """How a user's object, that has its parameters, predicts."""
    if callable(getattr(thing, "predict", None)):
        return thing.predict
    if _is_torch(model):
        return _of_torch(model)
    if _is_keras(model):
        return lambda inputs: model(inputs, training=False)  # its predict() is for large data, and writes a bar
    for name in ("predict_proba", "predict"):
        if callable(getattr(model, name, None)):
            return getattr(model, name)
    raise Failure("Unsupported", f"class {type(thing).__name__} has no method predict(inputs)")


def _sizes(found: Any) -> tuple[int, ...] | None:
    """A shape, as somebody says it: 784, (784,), Keras' (None, 28, 28)."""
    if isinstance(found, int):
        found = (found,)
    if not isinstance(found, (tuple, list)):
        return None
    sizes = tuple(found[1:] if found and found[0] is None else found)
    return sizes if all(isinstance(size, int) and size > 0 for size in sizes) else None


def shapes_of(notes: dict[str, str], *things: Any) -> list[tuple[int, ...]]:
    """What one input may look like, the likeliest first: as one of these objects says, or as the data was that the
    first model was made on, in a row where the code has made one of it."""
    for thing in things:
        for name in ("input_shape", "n_features_in_"):
            found = _sizes(getattr(thing, name, None))
            if found is not None:
                return [found]
    try:
        found = _sizes(json.loads(notes.get("flops.input", "{}")).get("shape"))
    except (ValueError, AttributeError):
        found = None
    if found is None:
        return []
    return [found] if len(found) < 2 else [found, (math.prod(found),)]


def noted(model: Model, data: Data) -> Model:
    """A fresh model, with the shape of its inputs as the data has it; where code of ours noted more, that is left."""
    shape = data.shape()
    if getattr(model, "notes", None) or not shape:
        return model
    found = tensors.Noted(model)
    found.notes = {"flops.input": json.dumps({"dtype": "F32", "name": "input", "shape": shape}, separators=(",", ":"))}
    return found


def _filled(shape: Shape, model: Model) -> tuple[Any, Any]:
    """An object of the user's with the model, that was not given any data, and what it trains, if that is another."""
    if isinstance(shape, native.Native):
        return shape.fill(model), None
    if isinstance(shape, flops.Flops):
        manager = shape.fill(model)
        return manager, flops.model_of(manager)
    raise Failure("Unsupported", f"predicting with code of this shape ({type(shape).__name__}) is not possible: it needs "
                                 "a class Trainer or ModelManager")


class Predictor:
    """A model and the code that it is for. One thread at a time."""

    def __init__(self, shape: Shape, model: Model, notes: dict[str, str]) -> None:
        """Raises Failure, or whatever the code raises."""
        thing, trained = _filled(shape, model)
        self._call, self.notes = call_of(thing, trained), notes
        self.shapes = shapes_of(notes, thing, trained)
        self.shape: tuple[int, ...] | None = None  # not known before settle

    def settle(self) -> int:
        """Finds the shape that the code takes, with a row of zeros; how many numbers it answers. Raises Failure."""
        import numpy as np

        first: Failure | None = None
        for self.shape in self.shapes:
            try:
                return int(self.answers(np.zeros((1, math.prod(self.shape)), np.float32)).shape[1])
            except Failure as failure:
                first = first or failure
        self.shape = None
        raise first or Failure("Unsupported", "what shape inputs have is not known: give the class an attribute "
                                              "input_shape, as in input_shape = (784,)")

    def predict(self, inputs: Any) -> Any:
        """An array, one row for each row of the inputs. Raises Failure."""
        import numpy as np

        if self.shape and getattr(inputs, "ndim", 0) == 2:
            inputs = inputs.reshape(len(inputs), *self.shape)
        try:
            found = np.asarray(self._call(inputs))
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise failure_of(error, "predicting") from error
        if found.ndim == 0 or len(found) != len(inputs):
            raise Failure("TrainerBadResult", f"predict() gives {found.shape}, for {len(inputs)} rows")
        return found

    def answers(self, rows: np.ndarray) -> np.ndarray:
        """Rows of float32, as many for each input. Raises Failure."""
        import numpy as np

        found = self.predict(rows)
        if found.dtype.kind not in "fiub":
            raise Failure("TrainerBadResult", f"predict() gives values of type {found.dtype}: numbers can be served")
        found = np.ascontiguousarray(found, np.float32).reshape(len(rows), -1)
        if not np.isfinite(found).all():
            raise Failure("TrainerBadResult", "predict() gives NaN or infinity")
        return found


def load(model_path: str, folder: str, entry: str | None = None) -> Predictor:
    """Raises Failure. Modules of the folder are forgotten afterwards, so that the code of another model may have the
    same names; what is imported later, within a function, is of the folder that was loaded last."""
    before = set(sys.modules)
    try:
        model, notes = tensors.open_file(model_path)
        code.prepare_path(code.real(folder))
        predictor = Predictor(code.load(folder, entry, Data([], [])), model, notes)
    except (Failure, tensors.BadModel) as error:
        raise error if isinstance(error, Failure) else Failure("Invalid", f"{model_path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise failure_of(error, "loading the code", "CodeNotLoaded") from error
    finally:
        code.forget(code.real(folder), before)
    try:
        predictor.settle()
    except Failure:
        pass  # inputs are taken as they come
    return predictor
