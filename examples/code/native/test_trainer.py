"""python3 -m unittest: the trainer learns, with no server and no data of a node."""

import types
import unittest

import numpy as np

from trainer import Trainer

CLASSES, FEATURES = 4, 16


def clouds(count):
    """Points about a few centres."""
    random = np.random.default_rng(1)
    labels = np.arange(count) % CLASSES
    centres = random.normal(size=(CLASSES, FEATURES))
    return (centres[labels] + 0.3 * random.normal(size=(count, FEATURES))).astype(np.float32), labels


def options(seed=1):
    return types.SimpleNamespace(epochs=2, batch_size=10, learning_rate=0.1, seed=seed, config={},
                                 progress=lambda done, of: None)


class TrainerTest(unittest.TestCase):
    def setUp(self):
        self.trainer = Trainer()
        self.trainer.set_data(*clouds(200))

    def test_learns(self):
        before = self.trainer.evaluate()
        told = self.trainer.fit(options())
        after = self.trainer.evaluate()
        self.assertEqual(told["examples"], 160)
        self.assertLess(told["loss"], told["loss_before"])
        self.assertGreater(after["accuracy"], max(0.9, before["accuracy"]))

    def test_parameters_are_all_of_the_model(self):
        self.trainer.fit(options())
        other = Trainer()
        other.set_data(*clouds(200))
        other.set_parameters(self.trainer.get_parameters())
        self.assertEqual(other.evaluate(), self.trainer.evaluate())

    def test_the_same_seed_gives_the_same_model(self):
        models = []
        for _ in range(2):
            self.setUp()
            self.trainer.fit(options(seed=5))
            models.append(self.trainer.get_parameters()["weight"])
        np.testing.assert_array_equal(*models)


if __name__ == "__main__":
    unittest.main()
