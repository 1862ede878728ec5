"""One flops-trainer for many learners, each with code, data and chance of its own."""

import os
import unittest

import numpy as np
from support import Case, Learner, protocol, tensors

COUNTING = """
    import random
    import numpy as np
    import helper
    chance = random.random()
    rounds = 0
    class Trainer:
        def __init__(self): self.own = 0
        def set_data(self, features, labels): self.sum = float(features.sum())
        def get_parameters(self): return getattr(self, "model", {})
        def set_parameters(self, parameters): self.model = parameters
        def fit(self, options):
            global rounds
            rounds += 1
            self.own += 1
            helper.calls.append(1)
            return {"examples": 1, "rounds": rounds, "own": self.own, "helped": len(helper.calls), "chance": chance,
                    "sum": self.sum}
        def evaluate(self): return 0.5, None, 3
"""
BASE = {"w": np.zeros(3)}


class Noted(dict):
    notes = {"classes": "10"}


class Turns(Case):
    def start(self, shared=True, **files):
        self.code = self.folder(**files or {"trainer_py": COUNTING, "helper_py": "calls = []"})
        learner = Learner(self.code, hello={"shared": True} if shared else {})
        self.addCleanup(learner.process.stdout.close)
        self.addCleanup(learner.process.wait)
        self.addCleanup(learner.process.kill)
        return learner

    def table(self, number):
        """Two examples that say nothing of most classes; the data set says that there are ten."""
        model = Noted({"features": np.full((2, 3), number, np.float32), "labels": np.zeros(2, np.int32)})
        path = os.path.join(self.code, f"{number}.safetensors")
        with open(path, "wb") as out:
            for part in tensors.write(model):
                out.write(part)
        return path

    def turn(self, learner, number, keep=False, **head):
        data = [{"name": f"part.{number}", "examples": 2, "file": self.table(number)}]
        return learner.ask(protocol.LEARNER, {"learner": f"learner-{number}", "seed": str(number), "part": number,
                                              "parts": 9, "keep": keep, "data": data, **head})

    def metrics(self, learner):
        kind, head, _ = learner.fit(BASE)
        self.assertEqual(kind, protocol.RESULT, head)
        return head["metrics"]

    def test_nothing_of_a_learner_stays(self):
        learner = self.start()
        found = {}
        for number in (1, 2, 1, 1, 2):
            kind, head, _ = self.turn(learner, number)
            self.assertEqual((kind, head["examples"]), (protocol.RESULT, 2))
            told = self.metrics(learner)
            self.assertEqual((told["rounds"], told["own"], told["helped"], told["sum"]), (1, 1, 1, 6 * number))
            self.assertEqual(found.setdefault(number, told["chance"]), told["chance"])
        self.assertNotEqual(found[1], found[2])
        learner.stop()

    def test_what_is_kept(self):
        learner = self.start()
        for turn, number in enumerate((1, 2, 1, 1, 2)):
            self.turn(learner, number, keep=True)
            told = self.metrics(learner)
            times = [1, 2, 1, 1, 2][:turn + 1].count(number)
            self.assertEqual((told["rounds"], told["own"], told["helped"], told["sum"]),
                             (times, times, times, 6 * number))
        learner.stop()

    def test_a_failure_is_one_learners(self):
        learner = self.start(trainer_py="""
            import os
            from flops_trainer.data import given
            number = given().partition()[0]
            if number == 1: raise RuntimeError("this one cannot")
            os.environ["LEFT"] = os.environ.get("LEFT", "") + "x"
            class Trainer:
                def set_parameters(self, parameters): self.model = parameters
                def get_parameters(self): return getattr(self, "model", {})
                def fit(self, options): return {"examples": 1, "left": len(os.environ["LEFT"]), "part": number}
                def evaluate(self): return 0.5, None, 3
            """)
        for number in (0, 1, 2, 1, 0):
            self.turn(learner, number)
            kind, head, _ = learner.fit(BASE)
            if number == 1:
                self.assertEqual((kind, head["reason"]), (protocol.ERROR, "CodeNotLoaded"))
                self.assertIn("this one cannot", head["message"])
            else:
                self.assertEqual((kind, head["metrics"]), (protocol.RESULT, {"left": 1, "part": number}), head)
        learner.stop()

    def test_classes_are_those_of_all_learners(self):
        for parameters, told in (("features, labels", 2), ("features, labels, classes", 10),
                                 ("features, labels, *, classes=None", 10)):
            learner = self.start(trainer_py=f"""
                class Trainer:
                    def set_data(self, {parameters}): self.classes = vars().get("classes", 2)
                    def get_parameters(self): return getattr(self, "model", {{}})
                    def set_parameters(self, parameters): self.model = parameters
                    def fit(self, options): return {{"examples": 1, "classes": self.classes}}
                    def evaluate(self): return 0.5, None, 3
                """)
            self.turn(learner, 0)
            self.assertEqual(self.metrics(learner), {"classes": told})
            learner.stop()

    def test_a_learners_own_process_has_no_turns(self):
        learner = self.start(shared=False, trainer_py=COUNTING.replace("def set_data", "def other"),
                             helper_py="calls = []")
        kind, head, _ = self.turn(learner, 1)
        self.assertEqual((kind, head["reason"]), (protocol.ERROR, "Unsupported"))
        learner.stop()


if __name__ == "__main__":
    unittest.main()
