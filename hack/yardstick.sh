#!/bin/bash
# yardstick.sh build            builds the real kube-apiserver and etcd, and a controller-runtime manager to run on
#                               them (hack/bench/yardstick), into build/tools (large Go programs: minutes)
# yardstick.sh start DIR PORT   starts etcd and kube-apiserver with their data in DIR, on loopback ports
#                               PORT (API, TLS), PORT+1 and PORT+2 (etcd); prints DIR/kubeconfig when ready
# yardstick.sh stop DIR         stops them; DIR is kept
#
# The yardstick is what our API server is compared with: the same judges and benchmarks run on both.
# etcd syncs every write to disk as in production.  Of a cluster's controllers only two run, in a process of
# their own (COLLECTOR=no leaves it out): the garbage collector and the namespace controller, since owner
# references and namespace deletion are part of what the API means.
# A bearer token per user stands in DIR/tokens: admin (all rights) and viewer (none beyond self-review).
# $KUBE_APISERVER, $KUBE_COLLECTOR and $ETCD name other binaries.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tools=$here/../build/tools
KUBE_APISERVER=${KUBE_APISERVER:-$tools/kube-apiserver}
KUBE_COLLECTOR=${KUBE_COLLECTOR:-$tools/kube-collector}
ETCD=${ETCD:-$tools/etcd}
ready_timeout_s=90

die() { echo "yardstick: $*" >&2; exit 1; }

build() {
    local version=v1.32.13 stamp=k8s.io/component-base/version
    mkdir -p "$tools"
    tools=$(cd "$tools" && pwd)
    cd "$here/yardstick"
    go build -p "${JOBS:-2}" -trimpath -o "$tools/kube-apiserver" \
        -ldflags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=32" ./apiserver
    go build -p "${JOBS:-2}" -trimpath -o "$tools/kube-collector" -ldflags="-s -w" ./collector
    (cd etcd && go build -p "${JOBS:-2}" -trimpath -o "$tools/etcd" -ldflags="-s -w" .)
    (cd "$here/bench/yardstick" && go build -p "${JOBS:-2}" -trimpath -o "$tools/kube-manager" -ldflags="-s -w" .)
    ls "$tools/etcd" "$tools/kube-apiserver" "$tools/kube-collector" "$tools/kube-manager"
}

make_certificates() {
    local d=$1
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=yardstick-ca \
        -keyout "$d/ca.key" -out "$d/ca.crt" 2>/dev/null
    local subject
    for who in server:/CN=kube-apiserver admin:/O=system:masters/CN=admin; do
        subject=${who#*:} who=${who%%:*}
        openssl req -newkey rsa:2048 -nodes -subj "$subject" -keyout "$d/$who.key" -out "$d/$who.csr" 2>/dev/null
        openssl x509 -req -in "$d/$who.csr" -CA "$d/ca.crt" -CAkey "$d/ca.key" -CAcreateserial -days 30 \
            -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes") -out "$d/$who.crt" 2>/dev/null
    done
    openssl genrsa -out "$d/sa.key" 2048 2>/dev/null
    openssl rsa -in "$d/sa.key" -pubout -out "$d/sa.pub" 2>/dev/null
}

# write_kubeconfig FILE PORT CA USER-YAML
write_kubeconfig() {
    cat > "$1" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: yardstick
  cluster: {server: "https://127.0.0.1:$2", certificate-authority: $3}
users:
- name: user
  user: {$4}
contexts:
- name: yardstick
  context: {cluster: yardstick, user: user}
current-context: yardstick
YAML
}

wait_ready() {
    local d=$1 port=$2 until=$((SECONDS + ready_timeout_s))
    until curl -sf --cacert "$d/ca.crt" -H "Authorization: Bearer $admin_token" \
        "https://127.0.0.1:$port/readyz" >/dev/null 2>&1; do
        kill -0 "$(cat "$d/kube-apiserver.pid")" 2>/dev/null || die "kube-apiserver ended, see $d/kube-apiserver.log"
        [ $SECONDS -lt $until ] || die "not ready after $ready_timeout_s s, see $d/kube-apiserver.log"
        sleep 0.05
    done
}

start() {
    local d=$1 port=$2 begin
    mkdir -p "$d"
    d=$(cd "$d" && pwd)
    [ -x "$KUBE_APISERVER" ] || die "no kube-apiserver: run '$0 build'"
    [ -f "$d/ca.crt" ] || make_certificates "$d"
    admin_token=yardstick-admin-token
    printf '%s,admin,1,"system:masters"\n%s,viewer,2,"viewers"\n' \
        "$admin_token" yardstick-viewer-token > "$d/tokens"
    write_kubeconfig "$d/kubeconfig" "$port" "$d/ca.crt" "token: $admin_token"
    write_kubeconfig "$d/kubeconfig-viewer" "$port" "$d/ca.crt" "token: yardstick-viewer-token"
    write_kubeconfig "$d/kubeconfig-cert" "$port" "$d/ca.crt" \
        "client-certificate: $d/admin.crt, client-key: $d/admin.key"

    begin=$EPOCHREALTIME
    "$ETCD" --data-dir "$d/etcd" --log-level=warn \
        --listen-client-urls "http://127.0.0.1:$((port + 1))" --advertise-client-urls "http://127.0.0.1:$((port + 1))" \
        --listen-peer-urls "http://127.0.0.1:$((port + 2))" --initial-advertise-peer-urls "http://127.0.0.1:$((port + 2))" \
        --initial-cluster "default=http://127.0.0.1:$((port + 2))" \
        >"$d/etcd.log" 2>&1 </dev/null &
    echo $! > "$d/etcd.pid"
    "$KUBE_APISERVER" --etcd-servers "http://127.0.0.1:$((port + 1))" \
        --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$port" \
        --tls-cert-file "$d/server.crt" --tls-private-key-file "$d/server.key" --client-ca-file "$d/ca.crt" \
        --token-auth-file "$d/tokens" --authorization-mode RBAC --anonymous-auth=false \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$d/sa.pub" \
        --service-account-signing-key-file "$d/sa.key" --service-cluster-ip-range 10.0.0.0/24 \
        --disable-admission-plugins ServiceAccount --endpoint-reconciler-type none \
        >"$d/kube-apiserver.log" 2>&1 </dev/null &
    echo $! > "$d/kube-apiserver.pid"
    wait_ready "$d" "$port"
    awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.0f\n", (b - a) * 1000 }' > "$d/start_ms"
    if [ "${COLLECTOR:-yes}" = yes ]; then
        "$KUBE_COLLECTOR" --kubeconfig "$d/kubeconfig" >"$d/kube-collector.log" 2>&1 </dev/null &
        echo $! > "$d/kube-collector.pid"
    fi
    echo "$d/kubeconfig"
}

stop() {
    local d=$1 name pid until
    for name in kube-collector kube-apiserver etcd; do
        [ -f "$d/$name.pid" ] || continue
        pid=$(cat "$d/$name.pid")
        kill "$pid" 2>/dev/null || true
        until=$((SECONDS + 20))
        while kill -0 "$pid" 2>/dev/null; do
            [ $SECONDS -lt $until ] || { kill -9 "$pid"; break; }
            sleep 0.1
        done
        rm -f "$d/$name.pid"
    done
}

case ${1:-} in
build) build ;;
start) [ $# -eq 3 ] || die "usage: $0 start DIR PORT"; start "$2" "$3" ;;
stop) [ $# -eq 2 ] || die "usage: $0 stop DIR"; stop "$2" ;;
*) sed -n '2,7s/^# //p' "$0"; exit 2 ;;
esac
