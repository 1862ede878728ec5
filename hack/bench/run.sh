#!/bin/bash
# run.sh [flops] [kube]
# Measures the API server of bin/flops and, beside it in the same run, a real kube-apiserver with etcd,
# with the same requests, objects (900 bytes) and tool, one after the other on the same disk; prints a
# table with ratios, where more than 1 is better for us.  Without arguments both are measured; a side
# that has not been built is left out with a line saying so.  Figures are of this machine and moment:
# the tool takes processor time from the servers it measures, and its share is in the log.
#
#   OBJECTS=5400 WATCHERS=1000 CREATES=20 SECONDS_EACH=5    sizes
#   FLOPS=bin/flops  PORT=16500  DIR=build/bench            where things are
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
DIR=${DIR:-$root/build/bench}
FLOPS=${FLOPS:-$root/bin/flops}
PORT=${PORT:-16500}
OBJECTS=${OBJECTS:-5400}
WATCHERS=${WATCHERS:-1000}
CREATES=${CREATES:-20}
SECONDS_EACH=${SECONDS_EACH:-5}
settle_s=3
crd=$root/e2e/interop/testdata/widget-crd.yaml
tool=$root/build/tools/apibench
log=$DIR/log

note() { echo "bench: $*" >&2; }
die() { note "$*"; exit 1; }

build_tool() {
    local source=$root/hack/bench/apibench.c
    [ "$tool" -nt "$source" ] && return
    mkdir -p "$(dirname "$tool")"
    ${CC:-gcc} -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -o "$tool" "$source" -lssl -lcrypto -lpthread
}

# ---- one server: start_NAME sets $pids, $config and figure start_ms; stop_NAME ends it ---------------

start_flops() {
    local ready begin=$EPOCHREALTIME
    mkdir -p "$DIR/flops"
    rm -f "$DIR/flops.out"
    mkfifo "$DIR/flops.out"
    "$FLOPS" up --data-dir "$DIR/flops" --listen "127.0.0.1:$PORT" >"$DIR/flops.out" 2>"$DIR/flops.err" &
    pids=$!
    # It says one line when it is ready.
    exec 3<"$DIR/flops.out"
    read -r -t 60 ready <&3 || { cat "$DIR/flops.err" >&2; die "flops did not become ready"; }
    start_ms=$(elapsed_ms "$begin")
    echo "flops: $ready" >>"$log"
    config=$DIR/flops/kubeconfig
    address=127.0.0.1:$PORT
}

stop_flops() { kill "$pids" 2>/dev/null || true; wait "$pids" 2>/dev/null || true; exec 3<&-; }

start_kube() {
    config=$(COLLECTOR=no "$root/hack/yardstick.sh" start "$DIR/kube" "$((PORT + 10))")
    pids=$(cat "$DIR/kube/kube-apiserver.pid"),$(cat "$DIR/kube/etcd.pid")
    start_ms=$(cat "$DIR/kube/start_ms")
    address=127.0.0.1:$((PORT + 10))
}

stop_kube() { "$root/hack/yardstick.sh" stop "$DIR/kube"; }

elapsed_ms() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.0f", (b - a) * 1000 }'; }

# ---- measuring ----------------------------------------------------------------------------------------

# value KEY: from the kubeconfig, the value itself or the file its -data form holds.
value() {
    sed -n "s/.*[{ ]$1: *\"\{0,1\}\([^\",} ]*\).*/\1/p" "$config" | head -1
}

file_value() {
    local data
    data=$(value "$1-data")
    if [ -n "$data" ]; then
        (umask 077; base64 -d <<<"$data" >"$DIR/$side.$1")
        echo "$DIR/$side.$1"
    else
        value "$1"
    fi
}

read_credentials() {
    local token cert
    access=(--server "$address" --pid "$pids")
    request=(curl -sS --fail-with-body -o /dev/null)
    access+=(--ca "$(file_value certificate-authority)")
    request+=(--cacert "$(file_value certificate-authority)")
    token=$(value token)
    cert=$(file_value client-certificate)
    if [ -n "$token" ]; then
        access+=(--token "$token")
        request+=(-H "Authorization: Bearer $token")
    elif [ -n "$cert" ]; then
        access+=(--cert "$cert" --key "$(file_value client-key)")
        request+=(--cert "$cert" --key "$(file_value client-key)")
    else
        die "no token and no certificate in $config"
    fi
}

# measure MODE ARGS…: runs the tool, keeps its line in $line and the log.
measure() {
    line=$("$tool" "$1" "${access[@]}" "${@:2}") || die "$side: $* failed"
    echo "$side: $line" >>"$log"
}

get() { sed -n "s/.* $1=\([0-9.]*\).*/\1/p" <<<"$line"; }

# figure NAME VALUE: one cell of the table.
figure() { echo "$side $1 $2" >>"$DIR/figures"; }

# memory NAME: PSS of all the server's processes in MB; RSS goes to the log.
memory() {
    local pid pss=0 rss=0
    for pid in ${pids//,/ }; do
        pss=$((pss + $(awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup")))
        rss=$((rss + $(awk '/^Rss:/ {print $2}' "/proc/$pid/smaps_rollup")))
        echo "$side: memory $1 $(cat "/proc/$pid/comm") $(awk '/^(Rss|Pss):/ {printf "%s%s kB ", $1, $2}' "/proc/$pid/smaps_rollup")" >>"$log"
    done
    figure "$1" "$(awk -v k=$pss 'BEGIN { printf "%.1f", k / 1024 }')"
}

make_namespace() {
    "${request[@]}" -X POST -H 'Content-Type: application/json' "https://$address/api/v1/namespaces" \
        -d "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"$1\"}}" || die "$side: no namespace"
}

make_kind() {
    local until=$((SECONDS + 20))
    "${request[@]}" -X POST -H 'Content-Type: application/yaml' --data-binary "@$crd" \
        "https://$address/apis/apiextensions.k8s.io/v1/customresourcedefinitions" || die "$side: no CRD"
    until "${request[@]}" "https://$address$base/default/widgets" 2>/dev/null; do
        [ $SECONDS -lt $until ] || die "$side: the CRD is not served"
        sleep 0.1
    done
}

judge() {
    side=$1
    base=/apis/interop.flops.dev/v1/namespaces
    note "$side: start, memory"
    rm -rf "${DIR:?}/$side"
    "start_$side"
    trap '"stop_$side"' EXIT
    read_credentials
    figure start_first_ms "$start_ms"
    sleep $settle_s
    memory idle_mb

    note "$side: $OBJECTS objects"
    make_kind
    make_namespace fill
    make_namespace seen
    make_namespace later
    make_namespace one
    make_namespace eight
    measure create --path "$base/fill/widgets" --count "$OBJECTS" --parallel 8
    sleep $settle_s
    memory full_mb
    note "$side: reads"
    measure get --path "$base/fill/widgets" --objects "$OBJECTS" --parallel 8 --seconds "$SECONDS_EACH"
    figure gets_s "$(get rate)"
    figure get_p99_ms "$(get p99_ms)"
    figure get_cpu_us "$(get server_cpu_us)"
    measure list --path "$base/fill/widgets" --objects "$OBJECTS" --count 10
    figure list_ms "$(get p50_ms)"
    note "$side: writes"
    measure create --path "$base/one/widgets" --parallel 1 --seconds "$SECONDS_EACH"
    figure creates1_s "$(get rate)"
    measure create --path "$base/eight/widgets" --parallel 8 --seconds "$SECONDS_EACH"
    figure creates8_s "$(get rate)"
    figure create_p99_ms "$(get p99_ms)"
    figure create_cpu_us "$(get server_cpu_us)"
    note "$side: $WATCHERS watchers"
    measure watch --path "$base/seen/widgets" --watchers "$WATCHERS" --count "$CREATES"
    figure events_s "$(get rate)"
    figure event_cpu_us "$(get server_cpu_us)"
    # How late an event is when the server is not saturated: one create every half second.
    measure watch --path "$base/later/widgets" --watchers "$WATCHERS" --count 10 --pace-ms 500 --prefix slow
    figure lag_p50_ms "$(get p50_ms)"
    figure lag_p99_ms "$(get p99_ms)"
    memory busy_mb
    note "$side: start again with all that"
    "stop_$side"
    "start_$side"
    figure start_again_ms "$start_ms"
    "stop_$side"
    trap - EXIT
}

rows="creates1_s:creates/s, one in flight:up
creates8_s:creates/s, 8 in flight:up
create_p99_ms:create p99, 8 in flight, ms:down
create_cpu_us:server CPU a create, us:down
gets_s:GETs/s, 8 in flight:up
get_p99_ms:GET p99, ms:down
get_cpu_us:server CPU a GET, us:down
list_ms:LIST of $OBJECTS objects, ms:down
events_s:events/s to $WATCHERS watchers:up
event_cpu_us:server CPU an event, us:down
lag_p50_ms:event lag p50, paced, ms:down
lag_p99_ms:event lag p99, paced, ms:down
idle_mb:memory idle, MB (PSS):down
full_mb:memory, $OBJECTS objects, MB (PSS):down
busy_mb:memory after all of it, MB (PSS):down
start_first_ms:first start to ready, ms:down
start_again_ms:start with the data, ms:down"

table() {
    awk -v rows="$rows" '
        { v[$1, $2] = $3 }
        function cell(side, key) { return ((side, key) in v) ? v[side, key] : "-" }
        END {
            printf "%-38s %12s %12s %8s\n", "", "flops", "kube+etcd", "ratio"
            n = split(rows, row, "\n")
            for (i = 1; i <= n; i++) {
                m = split(row[i], part, ":")
                a = cell("flops", part[1]); b = cell("kube", part[1]); ratio = "-"
                if (a > 0 && b > 0) ratio = sprintf("%.1f", part[3] == "up" ? a / b : b / a)
                printf "%-38s %12s %12s %8s\n", part[2], a, b, ratio
            }
        }' "$DIR/figures"
}

[ $# -gt 0 ] || set -- flops kube
load=$(cut -d" " -f1 /proc/loadavg)
command -v curl >/dev/null || die "curl is needed"
mkdir -p "$DIR"
: >"$log"
: >"$DIR/figures"
build_tool
for each in "$@"; do
    case $each in
    flops) [ -x "$FLOPS" ] || { note "flops is left out: no $FLOPS"; continue; } ;;
    kube) [ -x "$root/build/tools/kube-apiserver" ] ||
        { note "kube is left out: run hack/yardstick.sh build"; continue; } ;;
    *) die "flops or kube, not $each" ;;
    esac
    judge "$each"
done
echo "$(nproc) processors, load average before: $load; $("$tool" disk --dir "$DIR" --count 200 | sed 's/ n=.*p50/: fdatasync of 1 KiB p50/')"
table
echo "details: $log"
