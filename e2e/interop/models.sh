#!/bin/bash
# models.sh DRIVER: exported models, judged by ONNX Runtime and MLflow from PyPI, in a virtual environment of
# their own under build/tools, which is kept for the next time.  MODELS_JUDGES=onnx leaves MLflow out.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
judges=${MODELS_JUDGES:-mlflow}
venv=$root/build/tools/models-$judges
packages=(numpy onnx onnxruntime)
[ "$judges" = mlflow ] && packages+=(mlflow-skinny pandas) # all that loading and predicting need

if [ ! -f "$venv/ready" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    touch "$venv/ready"
fi
export MLFLOW_TRACKING_URI=file:///nowhere DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
exec "$venv/bin/python" "$root/e2e/interop/models.py" "$1" "$judges"
