#!/bin/bash
# serve.sh: the inference server, judged by Triton's client and MLflow's scoring client from PyPI, in a virtual
# environment of their own under build/tools, which is kept for the next time.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/build/tools/serve-judges

if [ ! -f "$venv/ready" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'tritonclient[http]' numpy pandas scipy mlflow-skinny
    touch "$venv/ready"
fi
export MLFLOW_TRACKING_URI=file:///nowhere DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
exec "$venv/bin/python" "$root/e2e/interop/serve.py"
