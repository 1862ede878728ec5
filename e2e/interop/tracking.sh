#!/bin/bash
# tracking.sh: projects recorded by real MLflow servers, 3.x and 2.x, and read back by MLflow's own client
# (mlflow_env.sh).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=$("$here/mlflow_env.sh")
export DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
exec "$venv/bin/python" "$here/tracking.py" "$(dirname "$venv")/mlflow-2"
