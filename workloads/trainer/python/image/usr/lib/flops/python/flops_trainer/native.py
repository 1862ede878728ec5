"""The native contract: a module trainer.py with a class Trainer.

    class Trainer:
        def set_data(self, features, labels): ...   # may be left out; once, before anything else. With a third
                                                    # parameter called classes: how many there are at all learners'
        def get_parameters(self): ...               # arrays, by name (a dictionary) or in a list
        def set_parameters(self, parameters): ...   # the same form
        def fit(self, options): ...                 # trains; how many examples, or a dictionary with "examples"
        def evaluate(self): ...                     # (loss, accuracy, examples), or a dictionary of them

`options` is an Options of shape.py: epochs, batch_size, learning_rate, momentum, proximal_mu, weight_decay, seed,
config. What fit gives in a dictionary besides examples, steps, loss and loss_before are metrics. Nothing is
imported from this package, so that a Trainer can be tried and tested anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flops_trainer import results
from flops_trainer.shape import Options, Shape

if TYPE_CHECKING:
    from typing import Any

    from flops_trainer.tensors import Model

METHODS = ("get_parameters", "set_parameters", "fit", "evaluate")


def is_trainer(thing: Any) -> bool:
    return all(callable(getattr(thing, name, None)) for name in METHODS)


def _metrics(found: dict, known: tuple[str, ...], where: str) -> dict:
    more = dict(found.get("metrics") or {})
    more.update({name: value for name, value in found.items() if name not in known and name != "metrics"})
    return results.metrics(more, f"{where} metrics")


def _asks_for_classes(method: Any) -> bool:
    """A learner may have examples of some classes only."""
    code = getattr(method, "__code__", None)
    return code is not None and "classes" in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]


class Native(Shape):
    def __init__(self, made_of: Any, data: Any) -> None:
        super().__init__(made_of, data)
        self._trainer: Any = None

    def _make(self) -> Any:
        trainer = self.made_of() if isinstance(self.made_of, type) else self.made_of
        if callable(getattr(trainer, "set_data", None)):
            whole = self.data.whole()
            known = {"classes": len(whole.classes) if whole.classes else None}
            trainer.set_data(whole.features, whole.labels, **known if _asks_for_classes(trainer.set_data) else {})
        return trainer

    def prepare(self) -> None:
        if self._trainer is None:
            self._trainer = self._make()

    def fresh(self) -> Model:
        return results.parameters(self._make().get_parameters(), "Trainer.get_parameters()")[0]

    def _set(self, model: Model) -> Any:
        self.prepare()
        has_names = hasattr(self._trainer.get_parameters(), "items")
        self._trainer.set_parameters(dict(model) if has_names else results.ordered(model))
        return self._trainer

    def fill(self, model: Model) -> Any:
        """A Trainer that has the model and was never given data, in place of the one that there was."""
        self._trainer = self.made_of() if isinstance(self.made_of, type) else self.made_of
        has_names = any(not name.isdigit() for name in model)
        self._trainer.set_parameters(dict(model) if has_names else results.ordered(model))
        return self._trainer

    def fit(self, base: Model, options: Options) -> tuple[Model, dict[str, Any]]:
        where = "Trainer.fit()"
        trainer = self._set(base)
        found = trainer.fit(options)
        if not hasattr(found, "items"):
            found = {"examples": found}
        head = {"examples": results.count(found.get("examples"), f"{where}: examples"),
                "steps": results.count(found.get("steps") or 1, f"{where}: steps"),
                "lossBefore": results.number(found.get("loss_before"), f"{where}: loss_before"),
                "loss": results.number(found.get("loss"), f"{where}: loss"),
                "metrics": _metrics(found, ("examples", "steps", "loss_before", "loss"), where)}
        where = "Trainer.get_parameters()"
        model, _ = results.parameters(trainer.get_parameters(), where)
        return results.like(model, base, where), head

    def evaluate(self, model: Model) -> dict[str, Any]:
        where = "Trainer.evaluate()"
        found = self._set(model).evaluate()
        if not hasattr(found, "items"):
            loss, accuracy, examples = results.triple(found, where)
            found = {"loss": loss, "accuracy": accuracy, "examples": examples}
        return {"examples": results.count(found.get("examples"), f"{where}: examples"),
                "loss": results.number(found.get("loss"), f"{where}: loss"),
                "accuracy": results.number(found.get("accuracy"), f"{where}: accuracy"),
                "metrics": _metrics(found, ("examples", "loss", "accuracy"), where)}
