#!/bin/bash
# mlflow_env.sh: prints where MLflow 3 is (a virtual environment under build/tools, from PyPI, kept for the next time),
# with all that the judges of tracking, models and serving need: made once, for all of them; who comes meanwhile waits.
# MLflow 2 is one package more in a folder beside it, build/tools/mlflow-2, to be set before it by PYTHONPATH.
# mlflow-skinny is MLflow without what only its training integrations need.
set -euo pipefail

tools=$(cd "$(dirname "$0")/../.." && pwd)/build/tools
venv=$tools/mlflow
version=2 # of the list below: another one makes it anew
packages=('mlflow-skinny==3.*' 'sqlalchemy<2.1' alembic flask flask-cors gunicorn graphene pandas aiohttp huey
    'protobuf<7' 'packaging<25' 'cachetools<6' 'importlib_metadata<9' # what 2.x goes with, too
    numpy scipy onnx onnxruntime safetensors 'tritonclient[http]')

make_environment() {
    local pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile)

    rm -rf "$venv" "$tools/mlflow-2"
    python3 -m venv "$venv"
    "${pip[@]}" --prefer-binary "${packages[@]}"
    "${pip[@]}" --no-deps --target "$tools/mlflow-2" 'mlflow-skinny==2.*'
    echo $version >"$venv/ready"
}

mkdir -p "$tools"
exec 9>"$tools/mlflow.lock"
flock 9
[ "$(cat "$venv/ready" 2>/dev/null)" = $version ] || make_environment >&2
echo "$venv"
