#!/bin/bash
# models.sh DRIVER: exported models, judged by ONNX Runtime and MLflow from PyPI, in the environment of
# mlflow_env.sh.  MODELS_JUDGES=onnx leaves MLflow out: then in one of its own.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
judges=${MODELS_JUDGES:-mlflow}

make_small_environment() {
    venv=$root/build/tools/models-onnx
    [ -f "$venv/ready" ] && return
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check numpy onnx onnxruntime
    touch "$venv/ready"
}

if [ "$judges" = mlflow ]; then
    venv=$("$root/e2e/interop/mlflow_env.sh")
else
    make_small_environment
fi
export MLFLOW_TRACKING_URI=file:///nowhere DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
exec "$venv/bin/python" "$root/e2e/interop/models.py" "$1" "$judges"
