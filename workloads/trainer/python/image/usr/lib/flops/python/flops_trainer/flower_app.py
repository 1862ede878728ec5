"""Flower's ClientApp: each request becomes a message of Flower's own, for the app to answer in this process.

Needs the package flwr, 1.21 or newer, which code of this kind brings with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flops_trainer import results
from flops_trainer.failure import Failure, say
from flops_trainer.flower import config_of
from flops_trainer.shape import Options, Shape

if TYPE_CHECKING:
    from typing import Any

    from flops_trainer.tensors import Model

_LOSSES = ("loss", "train_loss", "train-loss", "eval_loss", "eval-loss")
_ACCURACIES = ("accuracy", "acc", "eval_acc", "eval-acc", "eval_accuracy", "eval-accuracy")
_SIMPLE = (bool, int, float, str, bytes)
_FIRST_NODE = 1


def _flatten(table: dict, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found.update(_flatten(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found


def _run_config() -> dict[str, Any]:
    """[tool.flwr.app.config] of the project; the folder of the code is the current one."""
    import tomllib

    try:
        with open("pyproject.toml", "rb") as file:
            return _flatten(tomllib.load(file)["tool"]["flwr"]["app"].get("config", {}))
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return {}


def _flwr() -> Any:
    try:
        from flwr import common

        common.RecordDict, common.ArrayRecord
        return common
    except ImportError as error:
        raise Failure("CodeNotLoaded", f"a Flower app needs the package flwr: {error}") from error
    except AttributeError:
        raise Failure("CodeNotLoaded", "a Flower app needs flwr 1.21 or newer; of an older one, name the client_fn as "
                                       "entry point instead (--entrypoint client:client_fn)") from None


def context_of(data: Any) -> Any:
    """As a SuperNode would give it."""
    common = _flwr()
    part, parts = data.partition()
    return common.Context(run_id=1, node_id=_FIRST_NODE + part, node_config={"partition-id": part, "num-partitions": parts},
                          state=common.RecordDict(), run_config=_run_config())


def _first(metrics: dict, names: tuple[str, ...]) -> Any:
    return next((metrics.pop(name) for name in names if name in metrics), None)


class ClientApp(Shape):
    def __init__(self, made_of: Any, data: Any) -> None:
        super().__init__(made_of, data)
        self._context: Any = None
        self._is_legacy = getattr(made_of, "_call", None) is not None  # made of a client_fn

    def prepare(self) -> None:
        if self._context is None:
            self._context = context_of(self.data)

    def leave(self) -> None:
        if self._context is not None and len(self._context.state):
            say("the app keeps something in its context's state, which ends with its turn here: --stateful keeps it",
                once=True)

    def _ask(self, kind: str, content: Any) -> Any:
        """The content of its reply."""
        common = _flwr()
        self.prepare()
        message = common.Message(content, dst_node_id=self._context.node_id, message_type=kind)
        reply = self.made_of(message, self._context)
        if reply.has_error():
            raise Failure("CodeFailed", f"the app answered {kind} with an error: {reply.error.reason}")
        return reply.content

    # Apps of functions

    @staticmethod
    def _records(model: Model, config: dict[str, Any]) -> Any:
        common = _flwr()
        if all(name.isdigit() for name in model):
            arrays = common.ArrayRecord(results.ordered(model))
        else:
            arrays = common.ArrayRecord({name: common.Array(array) for name, array in model.items()})
        known = {name: value for name, value in config.items() if isinstance(value, _SIMPLE)}
        return common.RecordDict({"arrays": arrays, "config": common.ConfigRecord(known)})

    @staticmethod
    def _numbers(content: Any, where: str) -> dict[str, Any]:
        records = list(content.metric_records.values())
        if len(records) != 1 or "num-examples" not in records[0]:
            raise results.bad(f"{where} must have one MetricRecord, with num-examples, in the app's reply")
        return dict(records[0])

    @staticmethod
    def _arrays(content: Any, where: str) -> Model:
        records = list(content.array_records.values())
        if len(records) != 1:
            raise results.bad(f"{where} must have one ArrayRecord in the app's reply, not {len(records)}")
        return results.parameters({name: array.numpy() for name, array in records[0].items()}, where)[0]

    def _head(self, content: Any, where: str) -> dict[str, Any]:
        metrics = self._numbers(content, where)
        examples = results.count(metrics.pop("num-examples"), f"{where}: num-examples")
        return {"examples": examples, "loss": results.number(_first(metrics, _LOSSES), f"{where}: the loss"),
                "accuracy": results.number(_first(metrics, _ACCURACIES), f"{where}: the accuracy"),
                "metrics": results.metrics(metrics, f"{where}: its metrics")}

    # Apps of a client_fn, whose messages have records of other names

    def _ask_client(self, kind: str, what: str, model: Model | None, config: dict[str, Any]) -> Any:
        common = _flwr()
        known = {name: value for name, value in config.items() if isinstance(value, _SIMPLE)}
        content = common.RecordDict({f"{what}ins.config": common.ConfigRecord(known)})
        if model is not None:
            content[f"{what}ins.parameters"] = common.ArrayRecord(results.ordered(model))
        reply = self._ask(kind, content)
        status = reply[f"{what}res.status"]
        if status["code"] != 0:
            raise Failure("CodeFailed", f"the client answered {what} with status {status['code']}: {status['message']}")
        return reply

    @staticmethod
    def _parameters(reply: Any, what: str, where: str) -> Model:
        record = reply[f"{what}res.parameters"]
        return results.parameters([array.numpy() for array in record.values()], where)[0]

    def _fit_client(self, base: Model, options: Options) -> tuple[Model, dict[str, Any]]:
        where = "the client's fit()"
        reply = self._ask_client("train", "fit", base, config_of(options))
        return results.like(self._parameters(reply, "fit", where), base, where), {
            "examples": results.count(reply["fitres.num_examples"]["num_examples"], f"{where}: the number of examples"),
            "steps": 1, "lossBefore": None, "loss": None,
            "metrics": results.metrics(dict(reply["fitres.metrics"]), f"{where}: its metrics")}

    def _evaluate_client(self, model: Model) -> dict[str, Any]:
        where = "the client's evaluate()"
        reply = self._ask_client("evaluate", "evaluate", model, {})
        metrics = dict(reply["evaluateres.metrics"])
        return {"examples": results.count(reply["evaluateres.num_examples"]["num_examples"],
                                          f"{where}: the number of examples"),
                "loss": results.number(reply["evaluateres.loss"]["loss"], f"{where}: the loss"),
                "accuracy": results.number(_first(metrics, _ACCURACIES), f"{where}: the accuracy"),
                "metrics": results.metrics(metrics, f"{where}: its metrics")}

    # Both

    def fresh(self) -> Model:
        if not self._is_legacy:
            raise Failure("Unsupported", "a Flower app of functions makes no initial model (its ServerApp does): give "
                                         "the project one to begin with, or `flops simulate` one by --initial")
        reply = self._ask_client("get_parameters", "getparameters", None, {})
        return self._parameters(reply, "getparameters", "the client's get_parameters()")

    def fit(self, base: Model, options: Options) -> tuple[Model, dict[str, Any]]:
        if self._is_legacy:
            return self._fit_client(base, options)
        where = "the app's train()"
        content = self._ask("train", self._records(base, config_of(options)))
        head = self._head(content, where)
        accuracy = head.pop("accuracy")
        if accuracy is not None:
            head["metrics"]["accuracy"] = accuracy
        head.update({"steps": 1, "lossBefore": None})
        return results.like(self._arrays(content, where), base, where), head

    def evaluate(self, model: Model) -> dict[str, Any]:
        if self._is_legacy:
            return self._evaluate_client(model)
        return self._head(self._ask("evaluate", self._records(model, {})), "the app's evaluate()")
