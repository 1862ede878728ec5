"""FLOps repositories, as they are: model_manager.py with a class ModelManager (flops_utils' ModelManagerTemplate).

Its model comes from get_model_parameters(), a list of arrays; data is set before the first fit or evaluation, for an
initial model only where there is none without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flops_trainer import estimators, results
from flops_trainer.shape import Options, Shape

if TYPE_CHECKING:
    from typing import Any

    from flops_trainer.tensors import Model

METHODS = ("set_model_data", "get_model_parameters", "set_model_parameters", "fit_model", "evaluate_model")
GET = "ModelManager.get_model_parameters()"


def is_manager(thing: Any) -> bool:
    return callable(getattr(thing, "fit_model", None)) and callable(getattr(thing, "get_model_parameters", None))


def model_of(manager: Any) -> Any:
    """What a manager trains; None where it does not say."""
    get = getattr(manager, "get_model", None)
    return get() if callable(get) else getattr(manager, "model", None)


def _is_none(found: Any) -> bool:
    return found is None or isinstance(found, (list, tuple)) and not found


class Flops(Shape):
    def __init__(self, made_of: Any, data: Any) -> None:
        super().__init__(made_of, data)
        self._manager: Any = None
        self._form: estimators.Form | None = None

    def _make(self) -> Any:
        return self.made_of() if isinstance(self.made_of, type) else self.made_of

    def prepare(self) -> None:
        if self._manager is None:
            manager = self._make()
            manager.set_model_data()
            self._manager = manager

    def fresh(self) -> Model:
        manager = self._make()
        try:
            found = manager.get_model_parameters()
        except Exception:  # its model is made from the data
            found = None
        if _is_none(found):
            manager.set_model_data()
            found = manager.get_model_parameters()
        if _is_none(found):
            raise results.bad(f"{GET} gave no arrays at all: a model that takes its form from its first data (Keras, "
                              "without an Input) has none yet, and must be given it")
        return self._model(manager, found)

    def _model(self, manager: Any, found: Any) -> Model:
        model, _ = results.parameters(found, GET)
        self._form = estimators.form_of(manager, found)
        return self._form.described(results.ordered(model)) if self._form else model

    def _set(self, model: Model) -> Any:
        self.prepare()
        named = any(not name.isdigit() for name in model)
        if named and self._form is None:
            self._model(self._manager, self._manager.get_model_parameters())
        if named and self._form:
            self._manager.set_model_parameters(self._form.listed(model))
        else:
            self._manager.set_model_parameters(dict(model) if named else results.ordered(model))
        return self._manager

    def fill(self, model: Model) -> Any:
        """A manager that has the model and was never given data, in place of the one that there was."""
        self._manager = self._make()
        return self._set(model)

    def fit(self, base: Model, options: Options) -> tuple[Model, dict[str, Any]]:
        manager = self._set(base)
        examples = results.count(manager.fit_model(), "what ModelManager.fit_model() gives")
        model = self._model(manager, manager.get_model_parameters())
        return results.like(model, base, GET), {"examples": examples, "steps": 1, "lossBefore": None, "loss": None}

    def evaluate(self, model: Model) -> dict[str, Any]:
        where = "ModelManager.evaluate_model()"
        loss, accuracy, examples = results.triple(self._set(model).evaluate_model(), where)
        return {"examples": results.count(examples, f"{where}: the last of its three"),
                "loss": results.number(loss, f"{where}: the loss"),
                "accuracy": results.number(accuracy, f"{where}: the accuracy")}
