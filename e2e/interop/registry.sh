#!/bin/bash
# registry.sh KUBECONFIG: other people's registry clients judge ours: the conformance program of the
# distribution specification (built into build/tools, by its module's version), skopeo, buildah, umoci and curl.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
export PATH=$root/build/tools/bin:$PATH

cd "$root/e2e/interop/registry-judge"
go build -trimpath -o "$root/build/tools/registry-judge" github.com/opencontainers/distribution-spec/conformance
exec python3 "$root/e2e/interop/registry.py" "$@"
