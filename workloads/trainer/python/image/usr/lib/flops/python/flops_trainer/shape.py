"""What a shape of users' code is to the rest of the adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

    from flops_trainer.data import Data
    from flops_trainer.tensors import Model


class Options:
    """What a fit was asked for. `config` is the project's own, of any form."""

    __slots__ = ("epochs", "batch_size", "learning_rate", "momentum", "proximal_mu", "weight_decay", "seed",
                 "loss_before", "config", "_progress", "_cancelled")

    def __init__(self, head: dict | None = None, progress: Callable[[int, int], None] | None = None,
                 cancelled: Callable[[], bool] | None = None) -> None:
        head = head or {}
        self.epochs = int(head.get("epochs") or 1)
        self.batch_size = int(head.get("batchSize") or 0)  # 0: all examples at once
        self.learning_rate = float(head.get("learningRate") or 0)
        self.momentum = float(head.get("momentum") or 0)
        self.proximal_mu = float(head.get("proximalMu") or 0)
        self.weight_decay = float(head.get("weightDecay") or 0)
        self.seed = int(head.get("seed") or 0)
        self.loss_before = bool(head.get("lossBefore", True))
        self.config: dict[str, Any] = dict(head.get("config") or {})
        self._progress, self._cancelled = progress, cancelled

    def progress(self, done: int, of: int) -> None:
        """Tells how far it is, for people; it is never needed."""
        if self._progress:
            self._progress(int(done), int(of))

    def cancelled(self) -> bool:
        """Whether the result is not wanted any more. (The code is interrupted anyway.)"""
        return bool(self._cancelled and self._cancelled())


class Shape:
    """A user's code, loaded. Each method may raise whatever users' code raises."""

    def __init__(self, made_of: Any, data: Data) -> None:
        self.made_of, self.data = made_of, data

    def prepare(self) -> None:
        """All that a first fit would have to wait for: objects, data."""

    def fresh(self) -> Model:
        """A new model; the generators of random numbers have been seeded."""
        raise NotImplementedError

    def fit(self, base: Model, options: Options) -> tuple[Model, dict[str, Any]]:
        """The trained model, and the head of the result."""
        raise NotImplementedError

    def evaluate(self, model: Model) -> dict[str, Any]:
        raise NotImplementedError

    def leave(self) -> None:
        """Nobody will ask it any more, although its learner may train again: with code that is made anew."""
