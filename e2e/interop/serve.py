"""serve.py: Triton's HTTP client (v2 with binary tensors), MLflow's scoring client and pandas' own forms ask
`flops serve`; what they get is held against plain Python."""

import os
import sys

import numpy as np
import pandas as pd
import tritonclient.http as triton
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "local"))
from rig import Judge  # noqa: E402
from serve_rig import Serve, Softmax  # noqa: E402

JUDGE = Judge()
MODEL = Softmax([2, 3], 4, 1)
ROWS = np.random.default_rng(5).normal(size=(7, 6)).astype(np.float32)
WANTED = np.array([MODEL.answer(row.tolist()) for row in ROWS])


def is_right(got):
    got = np.asarray(got, dtype=float)
    return got.shape == WANTED.shape and np.allclose(got, WANTED, atol=1e-5)


def by_triton(serve):
    client = triton.InferenceServerClient(f"127.0.0.1:{serve.port}", concurrency=8)
    JUDGE.check("triton: live and ready", client.is_server_live() and client.is_server_ready() and
                client.is_model_ready("model") and client.is_model_ready("model", "1") and
                not client.is_model_ready("other"))
    about = client.get_model_metadata("model")
    JUDGE.check("triton: metadata", about["inputs"][0]["shape"] == [-1, 2, 3], about)
    JUDGE.check("triton: server", "binary_tensor_data" in client.get_server_metadata()["extensions"])

    for dtype, name in ((np.float32, "FP32"), (np.float64, "FP64")):
        for sent in (True, False):
            for received in (True, False):
                tensor = triton.InferInput("input", [7, 2, 3], name)
                tensor.set_data_from_numpy(ROWS.astype(dtype).reshape(7, 2, 3), binary_data=sent)
                output = triton.InferRequestedOutput("probabilities", binary_data=received)
                answer = client.infer("model", [tensor], outputs=[output], request_id="7")
                JUDGE.check(f"triton: {name}, sent {'binary' if sent else 'JSON'}, received "
                            f"{'binary' if received else 'JSON'}",
                            is_right(answer.as_numpy("probabilities")) and answer.get_response()["id"] == "7",
                            answer.get_response())
    small = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    tensor = triton.InferInput("input", [2, 2, 3], "UINT8")
    tensor.set_data_from_numpy(small)
    got = client.infer("model", [tensor]).as_numpy("probabilities")
    JUDGE.check("triton: small integers, all outputs", np.allclose(
        got, [MODEL.answer(row.ravel().tolist()) for row in small], atol=1e-5), got)

    tensor = triton.InferInput("input", [7, 2, 3], "FP32")
    tensor.set_data_from_numpy(ROWS.reshape(7, 2, 3))
    pending = [client.async_infer("model", [tensor]) for _ in range(50)]
    JUDGE.check("triton: many at a time", all(is_right(each.get_result().as_numpy("probabilities")) for each in pending))

    wrong = triton.InferInput("input", [1, 2], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 2), np.float32))
    try:
        client.infer("model", [wrong])
        said = ""
    except triton.InferenceServerException as problem:
        said = problem.message()
    JUDGE.check("triton: a wrong shape is told as it expects", "[1,2]; [-1,2,3] is expected" in said, said)
    client.close()


def by_mlflow(serve):
    client = ScoringServerClient("127.0.0.1", serve.port)
    client.ping()
    frame = pd.DataFrame(ROWS, columns=list("abcdef"))
    answer = client.invoke(frame)
    JUDGE.check("mlflow: its client's data frame", is_right(answer.get_predictions()), answer)
    answer = client.invoke(ROWS)
    JUDGE.check("mlflow: its client's tensor", is_right(answer.get_predictions()), answer)

    def invoke(body, kind="application/json"):
        status, _, answer = serve.call("POST", "/invocations", body, {"Content-Type": kind})
        return status == 200 and is_right(answer["predictions"])

    JUDGE.check("pandas: orient=split", invoke('{"dataframe_split": %s}' % frame.to_json(orient="split")))
    JUDGE.check("pandas: orient=records", invoke('{"dataframe_records": %s}' % frame.to_json(orient="records")))
    JUDGE.check("pandas: CSV", invoke(frame.to_csv(index=False), "text/csv"))
    JUDGE.check("pandas: CSV in another line form", invoke(frame.to_csv(index=False, lineterminator="\r\n"), "text/csv"))
    JUDGE.check("numpy: instances", invoke({"instances": ROWS.reshape(7, 2, 3).tolist()}))


def main():
    serve = Serve(model=MODEL.bytes)
    try:
        serve.start()
        by_triton(serve)
        by_mlflow(serve)
        JUDGE.check("it ends well", serve.stop() == 0, serve.errors()[-500:])
    finally:
        serve.remove()
    JUDGE.end()


if __name__ == "__main__":
    main()
