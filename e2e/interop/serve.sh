#!/bin/bash
# serve.sh: the inference server, judged by Triton's client and MLflow's scoring client from PyPI, in the
# environment of mlflow_env.sh.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$("$root/e2e/interop/mlflow_env.sh")
export MLFLOW_TRACKING_URI=file:///nowhere DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
exec "$venv/bin/python" "$root/e2e/interop/serve.py"
