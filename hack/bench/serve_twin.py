"""The yardstick of bench-serve: the same model in scikit-learn behind FastAPI, as its manuals show it."""

import json
import os

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.linear_model import LogisticRegression

weights = json.load(open(os.environ["TWIN_WEIGHTS"]))
model = LogisticRegression()
model.classes_ = np.arange(len(weights["bias"]))
model.coef_ = np.array(weights["weight"], dtype=np.float32)
model.intercept_ = np.array(weights["bias"], dtype=np.float32)
if len(model.classes_) == 2:  # it keeps the difference only
    model.coef_ = model.coef_[1:] - model.coef_[:1]
    model.intercept_ = model.intercept_[1:] - model.intercept_[:1]


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Tensor]


app = FastAPI()


@app.post("/v2/models/model/infer")
def infer(request: Request):
    tensor = request.inputs[0]
    rows = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    answer = model.predict_proba(rows)
    return {"model_name": "model", "outputs": [{"name": "probabilities", "shape": list(answer.shape),
                                                "datatype": "FP32", "data": answer.ravel().tolist()}]}


@app.get("/v2/health/ready")
def ready():
    return {"ready": True}
