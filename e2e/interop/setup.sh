#!/bin/bash
# setup.sh: fetches and builds the judges of this folder into build/tools: three kubectls, the official Python
# client in a virtual environment, and the client-go judge.  Installs nothing into the system.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=$root/build/tools
python_client=${PYTHON_CLIENT:-kubernetes==37.0.2}

for version in ${KUBECTL_VERSIONS:-1.20 1.30 1.35}; do
    "$root/hack/get-kubectl.sh" "$version" "$tools"
done
if [ ! -x "$tools/venv/bin/python" ] || ! "$tools/venv/bin/pip" freeze | grep -q "^$python_client"; then
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "$python_client"
fi
echo "$tools/venv/bin/python"
cd "$here/informer"
go build -trimpath -o "$tools/informer" .
echo "$tools/informer"
