"""Predictions with a trained model and users' code, and what MLflow loads."""

import json
import os
import shutil
import sys
import unittest

import numpy as np

from support import Case, tensors
from flops_trainer import mlflow_model, predict

TRAINER = """
    import helper
    class Trainer:
        def set_data(self, features, labels):
            raise RuntimeError("there is no data where predictions are made")
        def get_parameters(self):
            return {"weight": self.weight}
        def set_parameters(self, parameters):
            self.weight = parameters["weight"]
        def fit(self, options):
            return 1
        def evaluate(self):
            return 0.0, 0.0, 1
        def predict(self, rows):
            return helper.answer(rows, self.weight)
    """
MANAGER = """
    class Estimator:
        def predict_proba(self, rows):
            return rows @ self.weight
        def predict(self, rows):
            raise RuntimeError("chances say more")
    class ModelManager:
        def __init__(self):
            self.model = Estimator()
        def set_model_data(self):
            raise RuntimeError("there is no data where predictions are made")
        def get_model_parameters(self):
            return [self.model.weight]
        def set_model_parameters(self, parameters):
            self.model.weight, = parameters
        def fit_model(self):
            return 1
        def evaluate_model(self):
            return 0.0, 0.0, 1
    """
WEIGHT = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
ROWS = np.array([[1, 0, 0], [0, 1, 1]], np.float32)


def helper(factor):
    return f"def answer(rows, weight):\n    return {factor} * (rows @ weight)\n"


class Predictions(Case):
    def setUp(self):
        path = list(sys.path)
        self.addCleanup(lambda: sys.path.__setitem__(slice(None), path))

    def model(self, name="weight"):
        path = os.path.join(self.folder(), "model.safetensors")
        with open(path, "wb") as file:
            file.writelines(tensors.write({name: WEIGHT}))
        return path

    def test_of_a_trainer(self):
        found = predict.load(self.model(), self.folder(trainer_py=TRAINER, helper_py=helper(1))).predict(ROWS)
        np.testing.assert_array_equal(found, ROWS @ WEIGHT)

    def test_of_a_manager_by_its_model(self):
        found = predict.load(self.model("0"), self.folder(model_manager_py=MANAGER)).predict(ROWS)
        np.testing.assert_array_equal(found, ROWS @ WEIGHT)

    def test_shapes(self):
        class Thing:
            def __init__(self, **known):
                self.__dict__.update(known)

        def notes(text):
            return {"flops.input": text}

        keras, sklearn = Thing(input_shape=(None, 28, 28)), Thing(n_features_in_=7)
        for found, wanted in ((({},), []), (({}, Thing(), None), []), (({}, keras), [(28, 28)]),
                              (({}, Thing(), sklearn), [(7,)]), (({}, Thing(input_shape=[2, 3]), keras), [(2, 3)]),
                              ((notes('{"shape": [4]}'), Thing()), [(4,)]), ((notes("nonsense"), keras), [(28, 28)]),
                              ((notes('{"shape": [4]}'), sklearn), [(7,)]), ((notes("[]"), Thing()), []),
                              ((notes('{"shape": [4, 5]}'),), [(4, 5), (20,)]),
                              (({}, Thing(input_shape=(None, None))), [])):
            self.assertEqual(predict.shapes_of(*found), wanted)

    def test_inputs_have_the_shape_of_the_data(self):
        code = self.folder(trainer_py=TRAINER, helper_py="def answer(rows, weight):\n    return rows.sum(axis=(1, 2))\n")
        path = os.path.join(self.folder(), "model.safetensors")
        with open(path, "wb") as file:
            noted = tensors.Noted({"weight": WEIGHT})
            noted.notes = {"flops.input": json.dumps({"shape": [1, 3]})}
            file.writelines(tensors.write(noted))
        predictor = predict.load(path, code)
        np.testing.assert_array_equal(predictor.answers(ROWS), [[1], [2]])

    def test_code_that_has_made_a_row_of_its_data(self):
        code = self.folder(trainer_py=TRAINER, helper_py=helper(1))
        path = os.path.join(self.folder(), "model.safetensors")
        with open(path, "wb") as file:
            noted = tensors.Noted({"weight": np.ones((6, 2), np.float32)})
            noted.notes = {"flops.input": json.dumps({"shape": [2, 3]})}
            file.writelines(tensors.write(noted))
        predictor = predict.load(path, code)
        self.assertEqual(predictor.shape, (6,))
        np.testing.assert_array_equal(predictor.answers(np.ones((2, 6), np.float32)), [[6, 6], [6, 6]])

    def test_two_models_with_modules_of_the_same_names(self):
        loaded = [predict.load(self.model(), self.folder(trainer_py=TRAINER, helper_py=helper(i))) for i in (1, 2)]
        for factor, predictor in enumerate(loaded, 1):
            np.testing.assert_array_equal(predictor.predict(ROWS), factor * (ROWS @ WEIGHT))
        self.assertNotIn("helper", sys.modules)

    def test_what_is_wrong_is_told(self):
        code = self.folder(trainer_py=TRAINER.replace("def predict", "def guess"), helper_py=helper(1))
        self.fails("Unsupported", "has no method predict(inputs)", predict.load, self.model(), code)
        self.fails("CodeNotLoaded", "no training code", predict.load, self.model(), self.folder())
        code = self.folder(trainer_py=TRAINER, helper_py=helper(1))
        self.fails("Invalid", "no header", predict.load, os.path.join(code, "trainer.py"), code)
        wrong = self.folder(trainer_py=TRAINER, helper_py="def answer(rows, weight):\n    return rows[:1]\n")
        self.fails("TrainerBadResult", "for 2 rows", predict.load(self.model(), wrong).predict, ROWS)
        raising = self.folder(trainer_py=TRAINER, helper_py="def answer(rows, weight):\n    return rows['x']\n")
        with self.assertRaises(predict.Failure) as caught:
            predict.load(self.model(), raising).predict(ROWS)
        self.assertIn("predicting", caught.exception.message)

    def test_in_the_form_that_mlflow_loads(self):
        folder = self.folder(flops_json=json.dumps({"entry": "trainer:Trainer"}))
        shutil.copy(self.model(), os.path.join(folder, "model.safetensors"))
        shutil.copytree(self.folder(trainer_py=TRAINER, helper_py=helper(1)), os.path.join(folder, "repository"))
        model = mlflow_model._load_pyfunc(folder)
        for inputs in (ROWS, ROWS.astype(np.float64), ROWS.tolist(), {"x": ROWS}):
            np.testing.assert_array_equal(model.predict(inputs), ROWS @ WEIGHT)
        with self.assertRaises(ValueError):
            model.predict({"x": ROWS, "y": ROWS})


if __name__ == "__main__":
    unittest.main()
