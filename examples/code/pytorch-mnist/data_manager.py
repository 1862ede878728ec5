"""The learner's MNIST: four fifths to train on, the rest to be judged by."""

from typing import Any, Tuple

import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset
from flops_utils.ml_repo_templates import DataManagerTemplate


class DataManager(DataManagerTemplate):
    def __init__(self) -> None:
        self.training, self.testing = self._prepare_data()

    def _prepare_data(self) -> Any:
        parts = load_dataset().train_test_split(test_size=0.2, seed=42)
        parts.set_format("numpy")
        return self._pair(parts["train"]), self._pair(parts["test"])

    @staticmethod
    def _pair(part: Any) -> Tuple[np.ndarray, np.ndarray]:
        return part["image"].reshape(len(part), -1), part["label"]

    def get_data(self) -> Tuple[Any, Any]:
        return self.training, self.testing
