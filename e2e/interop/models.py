#!/usr/bin/env python3
"""Has ONNX, ONNX Runtime and MLflow judge models that model_driver exported.

usage: models.py DRIVER [mlflow]    With "mlflow" also the directories. Each check is a line."""

import json
import os
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime

TOLERANCE = 1e-5
passed = failed = 0


def check(what, holds, why=""):
    global passed, failed
    if holds:
        passed += 1
        print(f"ok - {what}")
    else:
        failed += 1
        print(f"not ok - {what} {why}")


def same(what, ours, theirs):
    theirs = numpy.asarray(theirs)
    if ours.shape != theirs.shape:
        check(what, False, f"shape {theirs.shape}, not {ours.shape}")
        return
    worst = float(numpy.abs(ours - theirs).max())
    check(f"{what} (worst difference {worst:.1e})", worst <= TOLERANCE)


def judge_onnx(folder, examples, ours):
    path = os.path.join(folder, "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    check(f"{folder}: onnx's own checker and shape inference", True)
    model = onnx.load(path)
    props = {prop.key: prop.value for prop in model.metadata_props}
    check(f"{folder}: says what it is", json.loads(props["flops.output"])["classes"] == ours.shape[1])
    check(f"{folder}: says where it came from", props["lineage.project"] == "default/judged")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given, taken = session.get_inputs()[0], session.get_outputs()[0]
    check(f"{folder}: the batch is free", given.shape == ["N", *examples.shape[1:]] and
          taken.shape == ["N", ours.shape[1]], f"{given.shape} {taken.shape}")
    for count in (1, 2, len(examples)):
        same(f"{folder}: {count} at once by ONNX Runtime", ours[:count],
             session.run(None, {given.name: examples[:count]})[0])


def judge_mlflow(folder, examples, ours):
    import mlflow  # heavy, so only where it is wanted

    path = os.path.join(folder, "mlflow")
    model = mlflow.pyfunc.load_model(path)
    answer = model.predict(examples)
    answer = next(iter(answer.values())) if isinstance(answer, dict) else answer
    same(f"{folder}: by mlflow.pyfunc", ours, answer)
    info = mlflow.models.get_model_info(path)
    signature = info.signature.inputs.inputs[0]
    check(f"{folder}: the signature is the model's",
          tuple(signature.shape) == (-1, *examples.shape[1:]) and signature.type == numpy.float32)
    check(f"{folder}: MLflow knows where it came from", info.metadata["lineage.project"] == "default/judged")
    try:
        model.predict(examples.reshape(len(examples), -1)[:, :-1])
        check(f"{folder}: MLflow refuses another shape", False)
    except mlflow.exceptions.MlflowException:
        check(f"{folder}: MLflow refuses another shape", True)


# In a process that has nothing of ours in its path.
LOADING = """
import sys, numpy, mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], model.predict(rows))
print(model.metadata.flavors["python_function"]["loader_module"])
"""


def judge_python(top):
    """A model of somebody's own code: `flops init`'s."""
    from safetensors.numpy import save_file

    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    chance = numpy.random.default_rng(7)
    weight, bias = chance.normal(size=(6, 4)).astype("f"), chance.normal(size=4).astype("f")
    rows = chance.normal(size=(5, 2, 3)).astype("f")
    content, given, taken, path = (os.path.join(top, name) for name in ("content", "rows.npy", "out.npy", "python"))
    save_file({"weight": weight, "bias": bias}, content)
    numpy.save(given, rows)
    subprocess.run([sys.argv[1], content, os.path.join(root, "examples/code/native"),
                    os.path.join(root, "workloads/trainer/python/image/usr/lib/flops/python"), path], check=True,
                   timeout=60)
    done = subprocess.run([sys.executable, "-c", LOADING, path, given, taken], cwd=top, capture_output=True, text=True,
                          timeout=300)
    check("python: mlflow.pyfunc loads code with its model", done.stdout.strip() == "flops_trainer.mlflow_model",
          done.stderr[-2000:])
    powers = numpy.exp(rows.reshape(5, 6) @ weight + bias)
    if done.returncode == 0:
        same("python: it predicts what its code says", powers / powers.sum(axis=1, keepdims=True), numpy.load(taken))


def main():
    with tempfile.TemporaryDirectory() as top:
        lines = subprocess.run([sys.argv[1], top], check=True, capture_output=True, text=True,
                               timeout=300).stdout.splitlines()
        check("there are models to judge", len(lines) >= 5)
        for line in lines:
            folder, count, classes, *shape = line.split()
            examples = numpy.fromfile(os.path.join(folder, "examples.f32"), "<f4")
            examples = examples.reshape(int(count), *map(int, shape))
            ours = numpy.fromfile(os.path.join(folder, "probabilities.f32"), "<f4")
            ours = ours.reshape(int(count), int(classes))
            try:
                judge_onnx(folder, examples, ours)
                if "mlflow" in sys.argv[2:]:
                    judge_mlflow(folder, examples, ours)
            except Exception as error:  # pylint: disable=broad-except
                check(folder, False, repr(error))
        if "mlflow" in sys.argv[2:]:
            judge_python(top)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
