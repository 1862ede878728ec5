"""What MLflow calls to load a model that `flops models export --format mlflow --code` wrote (MLmodel: loader_module).

The folder it gives has model.safetensors and repository, the user's code. This package is in the model's folder `code`.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from flops_trainer import predict

if TYPE_CHECKING:
    from typing import Any

    from flops_trainer.predict import Predictor


def rows_of(inputs: Any) -> Any:
    """Of the forms that MLflow gives: a frame's values, a dictionary's only entry, lists; numbers as models have them."""
    import numpy as np

    if isinstance(inputs, dict):
        if len(inputs) != 1:
            raise ValueError(f"one input is taken, not {sorted(inputs)}")
        inputs = next(iter(inputs.values()))
    rows = inputs.to_numpy() if hasattr(inputs, "to_numpy") else np.asarray(inputs)
    return rows.astype(np.float32) if rows.dtype.kind in ("f", "O") else rows


class Model:
    """Its `predict` is what MLflow's pyfunc calls."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, inputs: Any, params: dict[str, Any] | None = None) -> Any:
        return self._predictor.predict(rows_of(inputs))


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Model:
    with open(os.path.join(path, "flops.json"), encoding="utf-8") as file:
        entry = json.load(file).get("entry")
    return Model(predict.load(os.path.join(path, "model.safetensors"), os.path.join(path, "repository"), entry))
