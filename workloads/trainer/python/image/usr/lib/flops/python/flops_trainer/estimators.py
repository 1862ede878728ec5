"""scikit-learn's estimators that are networks: exchanged in the form of the builtin trainers' models, so that what they
become in a training is served, exported and described like those (workloads/model/description.h, network.h).

A logistic regression over three classes or more is one dense layer with softmax; an MLPClassifier has hidden ones. The
user's code goes on with its own list of arrays. An estimator of another kind, or a list that is not simply its arrays,
is exchanged as it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flops_trainer.tensors import Noted

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    from flops_trainer.tensors import Model

ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "logistic": "Sigmoid"}
CLASS_NAMES_MAX = 1000


class Layer:
    """One dense layer: where its arrays are in the user's list."""

    def __init__(self, name: str, weight: int, bias: int, transposed: bool) -> None:
        self.name, self.weight, self.bias, self.transposed = name, weight, bias, transposed


class Form:
    """How an estimator's list of arrays and a builtin model belong together."""

    def __init__(self, trainer: str, options: dict[str, Any], layers: list[Layer], classes: list[str]) -> None:
        self.trainer, self.options, self.layers, self.classes = trainer, options, layers, classes

    def described(self, arrays: list[np.ndarray]) -> Model:
        import numpy as np

        model = Noted()
        for layer in self.layers:
            weight = arrays[layer.weight].T if layer.transposed else arrays[layer.weight]
            model[f"{layer.name}.weight"] = np.ascontiguousarray(weight, np.float32)
            model[f"{layer.name}.bias"] = np.ascontiguousarray(arrays[layer.bias], np.float32)
        width = model[f"{self.layers[0].name}.weight"].shape[1]
        output = {"classes": len(self.classes), "name": "probabilities"}
        if sum(len(name) + 4 for name in self.classes) <= CLASS_NAMES_MAX:
            output["names"] = self.classes
        model.notes = {"flops.format": "1", "flops.trainer": self.trainer, "flops.options": _text(self.options),
                       "flops.input": _text({"dtype": "F32", "name": "input", "shape": [width]}),
                       "flops.output": _text(output)}
        return model

    def listed(self, model: Model) -> list[np.ndarray]:
        """In scikit-learn's order and precision."""
        import numpy as np

        arrays: dict[int, np.ndarray] = {}
        for layer in self.layers:
            weight = model[f"{layer.name}.weight"]
            arrays[layer.weight] = np.array(weight.T if layer.transposed else weight, np.float64, order="C")
            arrays[layer.bias] = np.array(model[f"{layer.name}.bias"], np.float64)
        return [arrays[i] for i in range(len(arrays))]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _of_manager(manager: Any) -> Any:
    get = getattr(manager, "get_model", None)
    try:
        return get() if callable(get) else getattr(manager, "model", None)
    except Exception:  # it is for others to call
        return None


def _same(listed: Any, arrays: list[Any]) -> bool:
    return isinstance(listed, (list, tuple)) and len(listed) == len(arrays) and all(
        getattr(mine, "shape", None) == getattr(theirs, "shape", ()) for mine, theirs in zip(listed, arrays))


def _names(estimator: Any, count: int) -> list[str]:
    names = [str(name) for name in getattr(estimator, "classes_", range(count))]
    return names if len(names) == count else [str(i) for i in range(count)]


def _logistic_regression(estimator: Any, listed: Any) -> Form | None:
    arrays = [getattr(estimator, "coef_", None), getattr(estimator, "intercept_", None)]
    if not _same(listed, arrays) or getattr(estimator, "multi_class", None) == "ovr" or \
            getattr(estimator, "solver", None) == "liblinear":
        return None
    count = len(arrays[1])  # type: ignore[arg-type]
    if count < 3 or arrays[0].shape[:1] != (count,):  # type: ignore[union-attr]
        return None  # one row for two classes is no softmax
    return Form("SoftmaxRegression", {}, [Layer("output", 0, 1, False)], _names(estimator, count))


def _perceptrons(estimator: Any, listed: Any) -> Form | None:
    weights, biases = list(getattr(estimator, "coefs_", [])), list(getattr(estimator, "intercepts_", []))
    activation = ACTIVATIONS.get(getattr(estimator, "activation", ""))
    if not weights or activation is None or not _same(listed, weights + biases) or len(biases[-1]) < 3:
        return None
    last = len(weights) - 1
    layers = [Layer("output" if i == last else f"dense{i + 1}", i, last + 1 + i, True) for i in range(last + 1)]
    options = {"activation": activation, "hiddenUnits": [len(bias) for bias in biases[:-1]]}
    return Form("MLP", options, layers, _names(estimator, len(biases[-1])))


def form_of(manager: Any, listed: Any) -> Form | None:
    """None: its model is exchanged as it is."""
    estimator = _of_manager(manager)
    kinds = [(base.__module__.partition(".")[0], base.__name__) for base in type(estimator).__mro__]
    if ("sklearn", "LogisticRegression") in kinds:
        return _logistic_regression(estimator, listed)
    return _perceptrons(estimator, listed) if ("sklearn", "MLPClassifier") in kinds else None
