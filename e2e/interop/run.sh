#!/bin/bash
# run.sh flops|kube|KUBECONFIG [JUDGE…]
# Has every judge of this folder try one server and says at the end who was content.  "flops" starts
# bin/flops in a folder of its own, "kube" a real kube-apiserver (hack/yardstick.sh build first), both
# end with it; KUBECONFIG names a server that runs.  JUDGE: kubectl-1.20, kubectl-1.30, kubectl-1.35,
# python, informer; all by default.  setup.sh fetches them; one that is absent is named and counts as failed.
# shellcheck disable=SC2317 # start_flops and start_kube are called by name
set -uo pipefail

[ $# -ge 1 ] || { sed -n '2,6s/^# //p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=$root/build/tools
port=${PORT:-16600}
server=$1
shift
[ $# -gt 0 ] || set -- kubectl-1.20 kubectl-1.30 kubectl-1.35 python informer
dir=$root/build/interop
mkdir -p "$dir"

start_flops() {
    local ready
    rm -rf "$dir/flops" "$dir/flops.out"
    mkfifo "$dir/flops.out" || exit 1
    "${FLOPS:-$root/bin/flops}" up --data-dir "$dir/flops" --listen "127.0.0.1:$port" >"$dir/flops.out" 2>"$dir/flops.err" &
    pid=$!
    exec 3<"$dir/flops.out"
    trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null' EXIT
    read -r -t 30 ready <&3 || { echo "flops did not become ready:" >&2; cat "$dir/flops.err" >&2; exit 1; }
    echo "# $ready"
    kubeconfig=$dir/flops/kubeconfig
}

start_kube() {
    rm -rf "$dir/kube"
    kubeconfig=$("$root/hack/yardstick.sh" start "$dir/kube" "$port") || exit 1
    trap '"$root/hack/yardstick.sh" stop "$dir/kube"' EXIT
    export VIEWER_KUBECONFIG=$dir/kube/kubeconfig-viewer
    "$tools/kubectl-1.30" --kubeconfig "$kubeconfig" apply -f "$root/crds/" >/dev/null 2>&1 ||
        echo "# our CRDs were not applied"
}

judge() {
    case $1 in
    kubectl-*) "$here/kubectl.sh" "$tools/$1" "$kubeconfig" ;;
    python) "$tools/venv/bin/python" "$here/python_client.py" "$kubeconfig" ;;
    informer) "$tools/informer" -crd "$here/testdata/widget-crd.yaml" "$kubeconfig" ;;
    *) echo "no such judge: $1"; return 2 ;;
    esac
}

case $server in
flops | kube) "start_$server" ;;
*) kubeconfig=$server; [ -f "$kubeconfig" ] || { echo "no such file: $kubeconfig" >&2; exit 2; } ;;
esac

summary='' status=0
for name in "$@"; do
    echo "# ---- $name"
    begin=$SECONDS
    judge "$name" 2>&1 | tee "$dir/$name.log"
    result=${PIPESTATUS[0]}
    [ "$result" -eq 0 ] || status=1
    summary+=$(printf '%-14s %-24s %3d s' "$name" "$(tail -1 "$dir/$name.log" | grep passed || echo "ended with $result")" $((SECONDS - begin)))$'\n'
done
echo "# ---- on $server"
printf '%s' "$summary"
exit $status
