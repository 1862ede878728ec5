"""Logistic regression on MNIST with scikit-learn, in the shape of a FLOps repository."""

import warnings
from typing import Any, List, Tuple

import numpy as np
from data_manager import DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

CLASSES, PIXELS = 10, 28 * 28


class ModelManager(ModelManagerTemplate):
    def __init__(self) -> None:
        # Each round is a few steps from the model of all, not a training to the end.
        self.model = LogisticRegression(max_iter=2, warm_start=True)
        self.model.classes_ = np.arange(CLASSES)
        self.model.coef_ = np.zeros((CLASSES, PIXELS))
        self.model.intercept_ = np.zeros(CLASSES)

    def set_model_data(self) -> None:
        (self.x_train, self.y_train), (self.x_test, self.y_test) = DataManager().get_data()

    def get_model(self) -> LogisticRegression:
        return self.model

    def get_model_parameters(self) -> List[np.ndarray]:
        return [self.model.coef_, self.model.intercept_]

    def set_model_parameters(self, parameters: List[np.ndarray]) -> None:
        self.model.coef_, self.model.intercept_ = parameters
        self.model.classes_ = np.arange(CLASSES)  # scikit-learn keeps only those that it has seen

    def fit_model(self) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is not to converge
            self.model.fit(self.x_train, self.y_train)
        return len(self.x_train)

    def evaluate_model(self) -> Tuple[Any, Any, int]:
        chances = self.model.predict_proba(self.x_test)
        loss = log_loss(self.y_test, chances, labels=np.arange(CLASSES))
        return loss, self.model.score(self.x_test, self.y_test), len(self.x_test)
