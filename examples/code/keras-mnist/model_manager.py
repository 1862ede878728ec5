"""A small network on MNIST with Keras, in the shape of a FLOps repository."""

from typing import Any, List, Tuple

import numpy as np
from data_manager import DataManager
from flops_utils.ml_repo_templates import ModelManagerTemplate
from tensorflow import keras

CLASSES, PIXELS = 10, 28 * 28


class ModelManager(ModelManagerTemplate):
    def __init__(self) -> None:
        self.model = keras.Sequential([
            keras.Input((PIXELS,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ])
        self.model.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy",
                           metrics=["accuracy"])

    def set_model_data(self) -> None:
        (self.x_train, self.y_train), (self.x_test, self.y_test) = DataManager().get_data()

    def get_model(self) -> keras.Model:
        return self.model

    def get_model_parameters(self) -> List[np.ndarray]:
        return self.model.get_weights()

    def set_model_parameters(self, parameters: List[np.ndarray]) -> None:
        self.model.set_weights(parameters)

    def fit_model(self) -> int:
        self.model.fit(self.x_train, self.y_train, epochs=1, batch_size=32, verbose=0)
        return len(self.x_train)

    def evaluate_model(self) -> Tuple[Any, Any, int]:
        loss, accuracy = self.model.evaluate(self.x_test, self.y_test, verbose=0)
        return loss, accuracy, len(self.x_test)
