"""Flower's clients: a NumPyClient (its class, an object, or a function that makes one).

Flower itself is needed only where a function asks for a Context, and for apps (flower_app.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flops_trainer import results
from flops_trainer.failure import Failure
from flops_trainer.shape import Options, Shape

if TYPE_CHECKING:
    from typing import Any

    from flops_trainer.tensors import Model


def config_of(options: Options) -> dict[str, Any]:
    """What a Flower strategy would have sent, under the names that its examples use."""
    config: dict[str, Any] = {"epochs": options.epochs, "local_epochs": options.epochs, "local-epochs": options.epochs,
                              "batch_size": options.batch_size, "batch-size": options.batch_size,
                              "learning_rate": options.learning_rate, "lr": options.learning_rate,
                              "momentum": options.momentum, "seed": options.seed}
    if options.proximal_mu > 0:
        config.update({"proximal_mu": options.proximal_mu, "proximal-mu": options.proximal_mu})
    config.update(options.config)
    return config


def is_client(thing: Any) -> bool:
    return all(callable(getattr(thing, name, None)) for name in ("get_parameters", "fit", "evaluate"))


def _of_three(value: Any, where: str, form: str) -> tuple[Any, Any, Any]:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise results.bad(f"{where} must give {form}, not {results.describe(value)}")
    return value[0], value[1], value[2]


def _arguments_of(client_fn: Any, data: Any) -> list:
    """client_fn() used to be given a client's number as text, and now is given a Context."""
    code = client_fn.__code__ if hasattr(client_fn, "__code__") else None
    if code is None or code.co_argcount == 0:
        return []
    if code.co_varnames[0] in ("context", "ctx"):
        from flops_trainer.flower_app import context_of

        return [context_of(data)]
    return [str(data.partition()[0])]


class NumPyClient(Shape):
    def __init__(self, made_of: Any, data: Any) -> None:
        super().__init__(made_of, data)
        self._client: Any = None

    def _make(self) -> Any:
        client = self.made_of
        if isinstance(client, type):
            client = client()
        elif not is_client(client):
            client = client(*_arguments_of(client, self.data))
        client = getattr(client, "numpy_client", client)  # what to_client() wraps
        if not is_client(client):
            raise Failure("CodeNotLoaded", f"{results.describe(client)} is no NumPyClient: it lacks get_parameters, "
                                           "fit or evaluate")
        return client

    def prepare(self) -> None:
        if self._client is None:
            self._client = self._make()

    def fresh(self) -> Model:
        return results.parameters(self._make().get_parameters({}), "NumPyClient.get_parameters()")[0]

    def fit(self, base: Model, options: Options) -> tuple[Model, dict[str, Any]]:
        where = "NumPyClient.fit()"
        self.prepare()
        found, examples, metrics = _of_three(self._client.fit(results.ordered(base), config_of(options)), where,
                                             "(parameters, number of examples, metrics)")
        model, _ = results.parameters(found, f"{where}: its parameters")
        return results.like(model, base, where), {
            "examples": results.count(examples, f"{where}: the second of its three"), "steps": 1,
            "lossBefore": None, "loss": None, "metrics": results.metrics(metrics, f"{where}: its metrics")}

    def evaluate(self, model: Model) -> dict[str, Any]:
        where = "NumPyClient.evaluate()"
        self.prepare()
        loss, examples, metrics = _of_three(self._client.evaluate(results.ordered(model), {}), where,
                                            "(loss, number of examples, metrics)")
        kept = results.metrics(metrics, f"{where}: its metrics")
        return {"examples": results.count(examples, f"{where}: the second of its three"),
                "loss": results.number(loss, f"{where}: the loss"), "accuracy": kept.pop("accuracy", None),
                "metrics": kept}


def shape_of(thing: Any, entry: str, data: Any) -> Shape:
    if any(kind.__name__ == "ClientApp" for kind in type(thing).__mro__):
        from flops_trainer.flower_app import ClientApp

        return ClientApp(thing, data)
    if is_client(thing) or callable(thing):
        return NumPyClient(thing, data)
    raise Failure("CodeNotLoaded", f"{entry} is {results.describe(thing)}: neither a class or object with the methods "
                                   "of a Trainer, a ModelManager or a NumPyClient, nor a ClientApp")
