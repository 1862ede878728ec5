"""A real flops-trainer, asked as a learner asks."""

import os
import signal
import time
import unittest

import numpy as np
from support import Case, Learner, protocol

GOOD = """
    import numpy as np
    class Trainer:
        def __init__(self): self.model = {{"w": np.random.rand(3)}}
        def get_parameters(self): return self.model
        def set_parameters(self, parameters): self.model = parameters
        def fit(self, options):
            {fit}
            return 7
        def evaluate(self): return 0.5, None, 3
"""
BASE = {"w": np.zeros(3)}
PREDICTS = """
    class Trainer:
        {more}
        def set_data(self, features, labels): raise RuntimeError("who predicts has no data")
        def get_parameters(self): return self.model
        def set_parameters(self, parameters): self.model = parameters
        def fit(self, options): return 1
        def evaluate(self): return 0.5, None, 3
        def predict(self, inputs):
            print("predicting")
            if inputs[0, 0] == 13: raise ValueError("bad luck")
            if inputs[0, 0] == 14: return inputs[:, :1].astype(str)
            if inputs[0, 0] == 15: return inputs / 0
            if inputs[0, 0] == 16: return inputs
            return inputs @ self.model["w"]
"""
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


class Requests(Case):
    def learner(self, fit="pass", **options):
        learner = Learner(self.folder(trainer_py=GOOD.format(fit=fit)), **options)
        self.addCleanup(learner.process.stdout.close)
        self.addCleanup(learner.process.wait)
        self.addCleanup(learner.process.kill)
        return learner

    def test_a_life(self):
        for descriptors in (True, False):
            learner = self.learner('self.model["w"] += options.learning_rate; print("training")',
                                   descriptors=descriptors)
            self.assertEqual(learner.hello["can"], ["init", "fit", "evaluate", "learner", "predict"])
            kind, _, model = learner.ask(protocol.INIT, {"seed": "42"})
            _, _, same = learner.ask(protocol.INIT, {"seed": "42"})
            _, _, other = learner.ask(protocol.INIT, {"seed": "43"})
            self.assertEqual(kind, protocol.RESULT)
            np.testing.assert_array_equal(model["w"], same["w"])
            self.assertFalse((model["w"] == other["w"]).all())
            kind, head, model = learner.fit({"w": np.ones(3)})
            self.assertEqual((kind, head["examples"], head["lossBefore"]), (protocol.RESULT, 7, None))
            np.testing.assert_allclose(model["w"], 1.1)
            kind, head, _ = learner.ask(protocol.EVALUATE, {}, BASE)
            self.assertEqual((head["loss"], head["accuracy"], head["examples"]), (0.5, None, 3))
            self.assertIn("training", learner.stop())

    def test_large_models(self):
        learner = self.learner('self.model["w"] *= 2')
        for _ in range(3):
            kind, _, model = learner.fit({"w": np.ones(300000, np.float32)})
            self.assertEqual((kind, model["w"].sum(), model["w"].dtype), (protocol.RESULT, 600000, np.float32))
        learner.stop()

    def test_what_is_not_offered(self):
        learner = self.learner()
        kind, head, _ = learner.ask(protocol.EXPORT, {"format": "onnx"}, BASE)
        self.assertEqual((kind, head["reason"]), (protocol.ERROR, "Unsupported"))
        kind, head, _ = learner.ask(protocol.FIT, {"epochs": 1, "seed": "1"})
        self.assertEqual((kind, head["reason"]), (protocol.ERROR, "Invalid"))
        self.assertEqual(learner.fit(BASE)[0], protocol.RESULT)
        learner.stop()

    def test_failures_leave_it_running(self):
        for fit, reason, words in (("raise ValueError('pixels')", "CodeFailed", "ValueError: pixels (trainer.py, line"),
                                   ("import sys; sys.exit(4)", "CodeExited", "sys.exit(4)"),
                                   ("raise KeyboardInterrupt", "CodeFailed", "KeyboardInterrupt"),
                                   ("np.ones(1 << 50)", "OutOfMemory", "trainer.py"),
                                   ("def f(): f()\n            f()", "CodeFailed", "RecursionError"),
                                   ("self.model = None", "TrainerBadResult", "not None"),
                                   ("return {'examples': 3, 'loss': 'low'}", "TrainerBadResult",
                                    "loss must be a number")):
            with self.subTest(fit=fit):
                learner = self.learner(fit)
                for _ in range(2):
                    kind, head, _ = learner.fit(BASE)
                    self.assertEqual((kind, head["reason"]), (protocol.ERROR, reason), head)
                    self.assertIn(words, head["message"])
                    self.assertEqual("Traceback" in head.get("traceback", ""), reason != "TrainerBadResult")
                self.assertEqual(learner.ask(protocol.INIT, {"seed": "1"})[0], protocol.RESULT)
                learner.stop()

    def test_it_is_heard_of_while_it_works_and_not_while_it_waits(self):
        for fit, heard in (("end = __import__('time').monotonic() + 4\n"
                            "            while __import__('time').monotonic() < end: np.ones(99999).sum()", True),
                           ("__import__('time').sleep(4)", False)):
            learner = self.learner(fit)
            learner.fit(BASE)
            # Once may be what its beginning took on a busy machine.
            self.assertEqual(len(learner.progress) > 1, heard, (fit, learner.progress))
            learner.stop()

    def test_progress_of_the_code(self):
        learner = self.learner("options.progress(3, 5)")
        learner.fit(BASE)
        self.assertIn({"done": 3, "of": 5}, learner.progress)
        learner.stop()

    def test_cancelled_while_it_sleeps_and_while_it_works(self):
        for fit in ("__import__('time').sleep(600)", "while True: pass"):
            learner = self.learner(f"print('begun', flush=True); {fit}" if "while" not in fit else
                                   f"print('begun', flush=True)\n            {fit}")
            learner.tell(protocol.FIT, {"epochs": 1, "seed": "1"}, BASE)
            self.assertEqual(learner.process.stdout.readline(), "begun\n")
            asked = learner.number
            learner.tell(protocol.CANCEL, {"id": asked})
            learner.number = asked
            kind, head, _ = learner.hear()
            self.assertEqual((kind, head["reason"]), (protocol.ERROR, "Cancelled"))
            learner.number += 1
            self.assertEqual(learner.ask(protocol.EVALUATE, {}, BASE)[0], protocol.RESULT)
            learner.stop()

    def test_a_cancellation_that_comes_late_is_nothing(self):
        learner = self.learner()
        learner.fit(BASE)
        learner.tell(protocol.CANCEL, {"id": learner.number})
        self.assertEqual(learner.fit(BASE)[0], protocol.RESULT)
        learner.stop()

    def test_goes_with_its_learner(self):
        for fit in ("pass", "__import__('time').sleep(600)"):
            learner = self.learner(f"print('begun', flush=True); {fit}")
            learner.tell(protocol.FIT, {"epochs": 1, "seed": "1"}, BASE)
            learner.process.stdout.readline()
            learner.channel._socket.close()
            self.assertEqual(learner.process.wait(timeout=60), 0)

    def test_nonsense_from_the_learner_ends_it(self):
        learner = self.learner()
        learner.channel._socket.sendall(b"GET / HTTP/1.1\r\nHost: learner\r\n\r\n")
        self.assertEqual(learner.process.wait(timeout=60), 1)
        self.assertIn("what came is no frame", learner.process.stdout.read())

    def test_a_child_of_the_code_does_not_keep_the_connection(self):
        learner = self.learner("import os, time\n            if os.fork() == 0: time.sleep(30); os._exit(0)\n"
                               "            os.abort()")
        learner.tell(protocol.FIT, {"epochs": 1, "seed": "1"}, BASE)
        began = time.monotonic()
        with self.assertRaises(protocol.Gone):
            learner.hear()
        self.assertLess(time.monotonic() - began, 25)

    def test_code_that_dies_takes_it_along(self):
        learner = self.learner("import os; os.abort()")
        learner.tell(protocol.FIT, {"epochs": 1, "seed": "1"}, BASE)
        self.assertEqual(learner.process.wait(timeout=60), -signal.SIGABRT)

    def test_code_that_could_not_be_loaded_is_tried_again(self):
        folder = self.folder(trainer_py="import torchbearer")
        learner = Learner(folder)
        self.addCleanup(learner.process.stdout.close)
        kind, head, _ = learner.fit(BASE)
        self.assertEqual((kind, head["reason"]), (protocol.ERROR, "CodeNotLoaded"))
        self.assertIn("No module named 'torchbearer' (trainer.py, line 1", head["message"])
        time.sleep(0.01)
        with open(os.path.join(folder, "trainer.py"), "w") as file:
            import textwrap
            file.write(textwrap.dedent(GOOD.format(fit="pass")))
        self.assertEqual(learner.fit(BASE)[0], protocol.RESULT)
        learner.stop()


class Predictions(Case):
    def learner(self, more="input_shape = 3", code=PREDICTS):
        learner = Learner(self.folder(trainer_py=code.format(more=more)), hello={"predicts": True})
        self.addCleanup(learner.process.stdout.close)
        self.addCleanup(learner.process.wait)
        self.addCleanup(learner.process.kill)
        return learner

    def test_a_life(self):
        learner = self.learner()
        kind, head, _ = learner.ask(protocol.LOAD, {}, {"w": WEIGHT})
        self.assertEqual((kind, head), (protocol.RESULT, {"input": {"shape": [3]}, "output": {"size": 2}}))
        for count in (1, 5, 20000):
            rows = np.random.rand(count, 3).astype(np.float32)
            kind, _, answers = learner.predict(rows)
            self.assertEqual(kind, protocol.RESULT)
            np.testing.assert_allclose(answers, rows @ WEIGHT, rtol=1e-5)
        learner.ask(protocol.LOAD, {}, {"w": WEIGHT[:, :1]})
        self.assertEqual(learner.predict(np.ones((2, 3)))[2].shape, (2, 1))
        output = learner.stop()
        self.assertIn("predicting", output)
        self.assertNotIn("has no data", output)

    def test_failures_leave_it_running(self):
        learner = self.learner()
        kind, head, _ = learner.predict(np.ones((1, 3)))
        self.assertEqual((kind, head["reason"]), (protocol.ERROR, "Invalid"))
        learner.ask(protocol.LOAD, {}, {"w": WEIGHT})
        for first, reason, words in ((13, "CodeFailed", "ValueError: bad luck"), (14, "TrainerBadResult", "of type <U"),
                                     (15, "TrainerBadResult", "NaN"), (16, "TrainerBadResult", "3 numbers for a row")):
            kind, head, _ = learner.predict(np.full((2, 3), first))
            self.assertEqual((kind, head["reason"]), (protocol.ERROR, reason), head)
            self.assertIn(words, head["message"])
            self.assertEqual(learner.predict(np.ones((1, 3)))[0], protocol.RESULT)
        kind, head, _ = learner.ask(protocol.LOAD, {}, {"w": WEIGHT[:2]})
        self.assertEqual((kind, head["reason"]), (protocol.ERROR, "CodeFailed"))
        self.assertEqual(learner.predict(np.ones((1, 3)))[0], protocol.RESULT)
        learner.stop()

    def test_a_shape_that_nobody_knows(self):
        learner = self.learner("pass")
        kind, head, _ = learner.ask(protocol.LOAD, {}, {"w": WEIGHT})
        self.assertEqual((kind, head["reason"]), (protocol.ERROR, "Unsupported"))
        self.assertIn("input_shape = (784,)", head["message"])
        learner.stop()


class OnItsOwn(Case):
    def run_it(self, *words):
        import subprocess
        from support import TRAINER
        return subprocess.run([TRAINER, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def test_says_how_it_is_used(self):
        self.assertIn("Usage: flops-trainer", self.run_it("--help").stdout)
        for words, why in ((["--speed"], "no such option"), (["--code"], "needs a value"), ([], "flops learner")):
            done = self.run_it(*words)
            self.assertEqual(done.returncode, 2)
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()
