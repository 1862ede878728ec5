#!/bin/bash
# attest.sh: what is attached to images, judged by openssl and by spdx-tools from PyPI, in a virtual environment under
# build/tools which is kept for the next time; and by cosign where build/tools/bin has it. ATTEST_COSIGN=1 builds it
# there first, by its module's version, which takes some ten minutes.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/build/tools/attest
export PATH=$root/build/tools/bin:$PATH

if [ ! -f "$venv/ready" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check spdx-tools
  touch "$venv/ready"
fi
if [ -n "${ATTEST_COSIGN:-}" ] && ! command -v cosign >/dev/null; then
  GOBIN=$root/build/tools/bin go install github.com/sigstore/cosign/v2/cmd/cosign@v2.4.3
fi
exec "$venv/bin/python" "$root/e2e/interop/attest.py"
