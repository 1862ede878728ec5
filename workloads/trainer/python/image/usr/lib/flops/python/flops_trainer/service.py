"""Answers the learner's requests, one after the other, with users' code."""

from __future__ import annotations

import gc
import sys
import time
from typing import TYPE_CHECKING

from flops_trainer import code, data, predict, protocol, tensors
from flops_trainer.failure import Cancelled, Failure, failure_of, say
from flops_trainer.shape import Options
from flops_trainer.watch import Watch

if TYPE_CHECKING:
    from typing import Any, Callable

    from flops_trainer.predict import Predictor
    from flops_trainer.protocol import Channel, Frame
    from flops_trainer.shape import Shape
    from flops_trainer.tensors import Model
    from flops_trainer.worlds import Worlds

FRESH_S = 60.0


def _seed(seed: int) -> None:
    """All generators that code may use without saying so. NumPy's takes 32 bits."""
    import random

    random.seed(seed)
    try:
        import numpy as np

        np.random.seed(seed & 0xFFFFFFFF)
    except ImportError:
        pass  # the code says so itself, with its own line
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].random.set_seed(seed & 0x7FFFFFFF)


def _body_of(frame: Frame) -> memoryview:
    """What lies in it owns the memory, so the descriptor is not needed any more."""
    try:
        return tensors.map_fd(frame.fd, frame.size) if frame.fd >= 0 else memoryview(frame.body or b"")
    finally:
        frame.close()


def _noted_model_of(frame: Frame) -> tuple[Model, dict[str, str]]:
    try:
        return tensors.read(_body_of(frame))
    except tensors.BadModel as error:
        raise Failure("Invalid", f"the model: {error}") from error


def _model_of(frame: Frame) -> Model:
    return _noted_model_of(frame)[0]


class Service:
    def __init__(self, channel: Channel, folder: str, entry: str | None, paths: list[str]) -> None:
        self.channel, self.folder, self.entry, self.paths = channel, folder, entry, paths
        self.watch = Watch(channel)
        self.data: data.Data | None = None
        self.shape: Shape | None = None
        self.predicts = False  # and does not train: there is no data
        self.predictor: Predictor | None = None
        self.outputs = 0  # numbers in one of its answers
        self.worlds: Worlds | None = None  # of many learners, where it serves more than one
        self._learner_seed: int | None = None
        self._failed: Failure | None = None  # what loading the code ended with, just now
        self._failed_at = 0.0

    # What users' code is needed for

    def _guarded(self, number: int, doing: str, work: Callable[[], Any]) -> Any:
        """Whatever the code does, this ends with its result, a Failure or Cancelled."""
        try:
            self.watch.begin(number)
            try:
                return work()
            finally:
                self.watch.end()
        except Cancelled:
            self.watch.end()  # once more: it may have come at the very beginning of that
            raise
        except Failure:
            raise
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            raise failure_of(error, doing) from None
        finally:
            sys.stdout.flush()

    def _load(self) -> None:
        failed, self._failed = self._failed, None
        if failed and time.monotonic() - self._failed_at < FRESH_S:
            raise failed
        if self.shape is None:
            if self._learner_seed is not None:
                _seed(self._learner_seed)
            try:
                self.shape = code.load(self.folder, self.entry, self.data or data.Data([], []))
            except (Exception, SystemExit) as error:
                raise failure_of(error, "loading the code", "CodeNotLoaded") from None

    def _ready(self) -> Shape:
        self._load()
        assert self.shape
        return self.shape

    def _preload(self) -> None:
        """While there is nothing to do yet, what the first round would wait for. Who asks next is told what failed."""
        def work() -> None:
            shape = self._ready()
            if not self.predicts:
                shape.prepare()

        try:
            self._guarded(0, "preparing", work)
        except Failure as failure:
            say(f"{failure.reason}: {failure.message}")
            if self.shape is None:
                self._failed, self._failed_at = failure, time.monotonic()
        except Cancelled:
            pass

    # Requests

    def _hello(self, frame: Frame) -> dict[str, Any]:
        version = frame.head.get("version")
        if not isinstance(version, int) or version < protocol.VERSION:
            raise Failure("Unsupported", f"version {version!r} of the protocol is not known here")
        self.channel.descriptors = frame.head.get("descriptors") is True
        self.channel.body_max = int(frame.head.get("maxBodyBytes") or protocol.BODY_MAX)
        self.data = data.Data([] if self.paths else list(frame.head.get("data") or []), self.paths)
        data.give(self.data)
        self.predicts = frame.head.get("predicts") is True
        if frame.head.get("shared") is True:
            from flops_trainer.worlds import Worlds

            self.worlds = Worlds(self.folder)
        return {"version": protocol.VERSION, "name": f"python:{self.entry or 'code'}", "descriptors": True,
                "maxBodyBytes": protocol.BODY_MAX, "can": ["init", "fit", "evaluate", "learner", "predict"],
                # Code with data of its own has some: how many, its first fit says.
                "examples": self.data.count() or 1}

    def _turn(self, frame: Frame) -> tuple[dict[str, Any], list]:
        """What is asked for from now on is another learner's."""
        if self.worlds is None:
            raise Failure("Unsupported", "hello did not say that this process is shared by learners")
        head = frame.head
        self.worlds.leave(self.shape)
        self.shape = self._failed = None
        self.shape = self.worlds.enter(str(head.get("learner")), head.get("keep") is True)
        self._learner_seed = int(head.get("seed") or 0)
        if self.shape is None:
            part = int(head.get("part") or 0), int(head.get("parts") or 1)
            self.data = data.Data([] if self.paths else list(head.get("data") or []), self.paths, part)
        else:
            self.data = self.shape.data
        data.give(self.data)
        return {"examples": self.data.count() or 1}, []

    def _init(self, frame: Frame) -> tuple[dict[str, Any], list]:
        def work() -> Model:
            _seed(int(frame.head.get("seed") or 0))
            shape = self._ready()
            _seed(int(frame.head.get("seed") or 0))
            return predict.noted(shape.fresh(), shape.data)

        return {}, self._bytes_of(self._guarded(frame.id, "making a model", work))

    def _fit(self, frame: Frame) -> tuple[dict[str, Any], list]:
        base = _model_of(frame)
        options = Options(frame.head, self.watch.progress, lambda: self.watch.cancelled)

        def work() -> tuple[Model, dict[str, Any]]:
            shape = self._ready()
            shape.prepare()
            _seed(options.seed)
            return shape.fit(base, options)

        model, head = self._guarded(frame.id, "training", work)
        return head, self._bytes_of(model)

    def _evaluate(self, frame: Frame) -> tuple[dict[str, Any], list]:
        model = _model_of(frame)
        return self._guarded(frame.id, "evaluating", lambda: self._ready().evaluate(model)), []

    def _load_model(self, frame: Frame) -> tuple[dict[str, Any], list]:
        """Takes the place of the one before, once it has answered a row of zeros."""
        model, notes = _noted_model_of(frame)

        def work() -> tuple[Predictor, int]:
            predictor = predict.Predictor(self._ready(), model, notes)
            return predictor, predictor.settle()

        self.predictor, self.outputs = self._guarded(frame.id, "loading the model", work)
        assert self.predictor and self.predictor.shape is not None
        return {"input": {"shape": list(self.predictor.shape)}, "output": {"size": self.outputs}}, []

    def _predict(self, frame: Frame) -> tuple[dict[str, Any], list]:
        import numpy as np

        predictor, body = self.predictor, _body_of(frame)
        if predictor is None or predictor.shape is None:
            raise Failure("Invalid", "no model was loaded")
        rows = np.frombuffer(body, "<f4").reshape(int(frame.head.get("rows") or 0), -1)
        answers = predictor.answers(rows)  # who asks has a deadline, and takes no answer back
        if answers.shape[1] != self.outputs:
            raise Failure("TrainerBadResult", f"predict() gives {answers.shape[1]} numbers for a row, where it gave "
                                              f"{self.outputs} for a row of zeros")
        return {"rows": len(answers)}, [answers.reshape(-1).view(np.uint8).data]

    @staticmethod
    def _bytes_of(model: Model) -> list:
        try:
            return tensors.write(model)
        except tensors.BadModel as error:
            raise Failure("TrainerBadResult", str(error)) from error

    def _answer(self, frame: Frame) -> None:
        requests: dict[int, Callable[[Frame], tuple[dict[str, Any], list]]] = {
            protocol.INIT: self._init, protocol.FIT: self._fit, protocol.EVALUATE: self._evaluate,
            protocol.LOAD: self._load_model, protocol.PREDICT: self._predict, protocol.LEARNER: self._turn}
        try:
            if frame.type not in requests:
                raise Failure("Unsupported", f"requests of type {frame.type} are not known here")
            head, body = requests[frame.type](frame)
            self.channel.send(protocol.RESULT, frame.id, head, body)
        except Cancelled:
            self.channel.send(protocol.ERROR, frame.id, {"reason": "Cancelled", "message": "the code was interrupted"})
        except Failure as failure:
            self.channel.send(protocol.ERROR, frame.id, failure.head())
        except (MemoryError, ValueError) as error:  # of our own, around the code
            self.channel.send(protocol.ERROR, frame.id, failure_of(error, "handing over").head())

    def _next(self) -> Frame:
        return self.watch.kept.popleft() if self.watch.kept else self.channel.receive()

    def run(self) -> int:
        """Until the learner says stop, or is gone. The exit status."""
        try:
            while True:
                frame = self._next()
                if frame.type == protocol.HELLO:
                    self.channel.send(protocol.RESULT, frame.id, self._hello(frame))
                    if self.worlds is None:
                        self._preload()
                elif frame.type == protocol.STOP:
                    self.channel.send(protocol.RESULT, frame.id, {})
                    return 0
                elif frame.type != protocol.CANCEL:
                    self._answer(frame)
                    del frame
                    gc.collect(0)
        except protocol.Gone:
            return 0
        except (Failure, protocol.ProtocolError, ValueError) as error:
            say(str(error))
            return 1


def serve(fd: int, folder: str, entry: str | None, paths: list[str]) -> int:
    """The exit status, when the learner has gone."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return Service(protocol.Channel(protocol.move_away(fd)), folder, entry, paths).run()
