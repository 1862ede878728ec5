#!/bin/bash
# cli.sh [FLOPS [KUBECONFIG]]
# Starts `flops up` on a free port in a folder of its own and drives it through every subcommand of the
# command line.  Prints "ok N - name" or "not ok N - name" a test, at the end "N passed, N failed"; fails
# when any failed.  FLOPS is the program, bin/flops by default.  With KUBECONFIG it drives the server named
# there, such as a real kube-apiserver (hack/yardstick.sh), and leaves out what stops and starts a server.
# shellcheck disable=SC2016,SC2034,SC2154,SC1091 # lib.sh has its variables, the program what is in quotes
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
FLOPS=$(realpath "${1:-$root/bin/flops}")
other=${2:-}
[ -z "$other" ] || [ -r "$other" ] || { echo "no such file: $other" >&2; exit 2; }
section=setup NS=default program=flops KUBECONFIG_FILE='' KUBECTL=''
# shellcheck source=../interop/lib.sh
. "$here/../interop/lib.sh"

# What of the environment could decide where a command goes.
unset KUBECONFIG FLOPS_DATA_DIR NO_COLOR
export HOME=$work

where=(--data-dir "$work/data")
[ -z "$other" ] || where=(--kubeconfig "$other")
server_pid='' port=$(python3 e2e/local/ports.py)
start_server() {
    [ -z "$other" ] || return 0
    : >"$work/ready"
    "$FLOPS" up --data-dir "$work/data" --listen "127.0.0.1:$port" >"$work/ready" 2>>"$work/up.log" &
    server_pid=$!
    for _ in $(seq 150); do
        grep -q 'is ready' "$work/ready" && break
        sleep 0.1
    done
    port=$(sed -n 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/ready")
    [ -n "$port" ] || { cat "$work/up.log"; echo "0 passed, 1 failed"; exit 1; }
}

stop_server() {
    [ -z "$other" ] || return 0
    kill "$server_pid" 2>/dev/null
    wait "$server_pid" 2>/dev/null
}

trap 'stop_server; rm -rf "$work"' EXIT

# lib.sh runs its programs through this: the subcommand first, then which server.
kube() {
    local sub=$1
    shift
    timeout "$command_timeout_s" "$FLOPS" "$sub" "${where[@]}" "$@"
}

in_background() {
    local file=$1
    shift
    kube "$@" >"$file" 2>"$file.err" </dev/null &
    background=$!
    last="$* (in the background)"
}

within() { [ $((SECONDS - begun)) -le "$1" ] || problem "took $((SECONDS - begun)) s, not $1"; }

widget() { # NAME SIZE [METADATA [MORE]]
    printf 'apiVersion: cli.test/v1\nkind: Widget\nmetadata: {name: %s%s}\nspec: {size: %s}\n%s\n' "$1" "${3:+, $3}" "$2" "${4:-}"
}
have() { widget "$@" | kube apply --force-conflicts -f - >/dev/null || problem "cannot make widget $1"; }
condition() { echo "status: {conditions: [{type: Ready, status: '$1', reason: $2, message: $3, lastTransitionTime: '2026-01-01T00:00:00Z'}]}"; }

cat >"$work/crd.yaml" <<'X'
apiVersion: cli.test/v1
kind: Widget
metadata: {name: first, namespace: shop}
spec: {size: 3}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.cli.test}
spec:
  group: cli.test
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wdg], categories: [goods]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Color, type: string, jsonPath: .spec.color, priority: 1}
    schema:
      openAPIV3Schema:
        description: Something to sell.
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How big it is.}
              color: {type: string, enum: [red, blue], default: red}
              parts: {type: array, items: {type: object, properties: {weight: {type: integer}}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
X

# ------------------------------------------------------------------------------------------------------

section_usage() {
    local sub
    it "help lists the subcommands"
    "$FLOPS" help >"$work/out"
    for sub in apply get describe delete wait diff explain events; do
        says "^  $sub +[a-z]"
    done
    for sub in apply get describe delete wait diff explain events; do
        it "$sub --help has examples and exit codes"
        works "$sub" --help
        says '^Usage: flops '"$sub"
        says '^Examples:'
        says "^  flops $sub "
        says '^Exit status: 0'
    done
    it "a wrong command line is 2, with a hint"
    ends_with 2 get
    complains '^flops get: say what'
    complains 'Try: flops get --help'
    ends_with 2 get cm --nope
    complains 'unknown option --nope'
    ends_with 2 get cm -o xml
    complains 'must be json, yaml, wide, name or jsonpath'
    ends_with 2 get cm -o 'jsonpath={.a'
    ends_with 2 apply
    ends_with 2 apply -f x extra
    ends_with 2 apply -f x --dry-run=client
    ends_with 2 delete cm x --cascade=sideways
    ends_with 2 delete
    ends_with 2 wait cm/x
    ends_with 2 wait cm/x --for=tea
    ends_with 2 wait cm/x --for=delete --timeout=soon
    ends_with 2 diff
    ends_with 2 explain
    ends_with 2 events extra
    ends_with 2 describe
}

section_server() {
    it "no server: says so at once, and where it looked"
    begun=$SECONDS
    printf 'current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]\n' >"$work/nobody"
    "$FLOPS" get cm --kubeconfig "$work/nobody" >"$work/out" 2>"$work/err"; rc=$?
    same $rc 1
    complains 'is `flops up` running'
    complains "$work/nobody"
    within 5
    it "a server that never answers: the request timeout"
    begun=$SECONDS
    local silent
    exec {silent}< <(exec python3 -c 'import socket,time
s=socket.socket(); s.bind(("127.0.0.1",0)); s.listen(); print(s.getsockname()[1],flush=True); time.sleep(30)')
    local silent_pid=$! silent_port
    read -r silent_port <&"$silent"
    sed "s/:1\"/:$silent_port\"/" "$work/nobody" >"$work/silent"
    "$FLOPS" get cm --kubeconfig "$work/silent" --request-timeout 1s >"$work/out" 2>"$work/err"; rc=$?
    same $rc 1
    within 4
    begun=$SECONDS
    "$FLOPS" wait cm/x --for=delete --timeout 1s --kubeconfig "$work/silent" >"$work/out" 2>"$work/err"; rc=$?
    same $rc 1
    within 4
    kill "$silent_pid" 2>/dev/null
    it "no kubeconfig anywhere"
    env -u KUBECONFIG HOME=/nonexistent "$FLOPS" get cm >"$work/out" 2>"$work/err"; rc=$?
    same $rc 1
    complains 'no kubeconfig'
    it "KUBECONFIG, --kubeconfig, --context"
    local config=${other:-$work/data/kubeconfig}
    KUBECONFIG=/nowhere:$config "$FLOPS" get ns >"$work/out" 2>"$work/err" || problem "KUBECONFIG is not read"
    says '^default +Active'
    "$FLOPS" get ns --kubeconfig "$config" --context "$(sed -n 's/^current-context: *//p' "$config" | tr -d '"')" >"$work/out" 2>"$work/err" || problem "--context"
    ends_with 1 get ns --context nope
    complains 'there is no context "nope"'
    [ -z "$other" ] || return 0
    it "a bearer token"
    "$FLOPS" kubeconfig --data-dir "$work/data" --user root --group system:masters --token >"$work/token"
    "$FLOPS" get ns --kubeconfig "$work/token" >"$work/out" 2>"$work/err" || problem "a token"
    says '^default +Active'
    it "another user, certificates in files"
    "$FLOPS" kubeconfig --data-dir "$work/data" --user jane >"$work/jane"
    "$FLOPS" get cm --kubeconfig "$work/jane" >"$work/out" 2>"$work/err"; rc=$?
    same $rc 1
    complains 'User "jane" cannot list resource "configmaps"'
    for name in certificate-authority client-certificate client-key; do
        sed -n "s/.*$name-data: //p" "$work/data/kubeconfig" | base64 -d >"$work/$name.pem"
    done
    sed -E 's/(certificate-authority|client-certificate|client-key)-data: .*/\1: \1.pem/' "$work/data/kubeconfig" >"$work/files"
    "$FLOPS" get ns --kubeconfig "$work/files" >"$work/out" 2>"$work/err" || problem "certificates in files"
    says '^default +Active'
}

section_odd() {
    local odd odd_pid odd_port
    exec {odd}< <(exec python3 "$here/odd_server.py")
    odd_pid=$!
    read -r odd_port <&"$odd"
    sed "s|https://127.0.0.1:1\"|http://127.0.0.1:$odd_port\"|" "$work/nobody" >"$work/odd"
    it "a server without aggregated discovery, and a group that is away"
    works get tl --kubeconfig "$work/odd" -o name
    prints 'tool.odd.test/hammer'
    it "a warning is told"
    works get tool/hammer --kubeconfig "$work/odd" -o name
    complains '^Warning: a "hammer" is old$'
    it "a page that expired: the whole list instead"
    works get tools --kubeconfig "$work/odd" --chunk-size 1 -o name
    prints 'tool.odd.test/hammer
tool.odd.test/saw'
    it "answers that are none"
    ends_with 1 get tool/html --kubeconfig "$work/odd" -o name
    complains 'answered with HTTP status 502'
    ends_with 1 get tool/garbage --kubeconfig "$work/odd" -o name
    complains "the server's answer"
    ends_with 1 get tool/moved --kubeconfig "$work/odd" -o name
    complains 'answered with HTTP status 301'
    it "a watch that is too old, then one that breaks off: all of it is shown, and nothing twice"
    in_background "$work/watch.odd" get tools --kubeconfig "$work/odd" -w -o name
    eventually 15 file_has "$work/watch.odd" drill
    same "$(tr '\n' ' ' <"$work/watch.odd")" "tool.odd.test/hammer tool.odd.test/saw tool.odd.test/file tool.odd.test/drill "
    end_background
    kill "$odd_pid" 2>/dev/null
}

section_apply() {
    it "definitions and namespaces before what needs them"
    works apply -f "$work/crd.yaml"
    prints "namespace/shop created
customresourcedefinition.apiextensions.k8s.io/widgets.cli.test created
widget.cli.test/first created"
    it "again: unchanged"
    works apply -f "$work/crd.yaml"
    prints "namespace/shop unchanged
customresourcedefinition.apiextensions.k8s.io/widgets.cli.test unchanged
widget.cli.test/first unchanged"
    it "a change: configured; a dry run stores nothing"
    sed 's/size: 3/size: 4/' "$work/crd.yaml" >"$work/four.yaml"
    works apply -f "$work/four.yaml" --dry-run=server
    says '^widget.cli.test/first configured \(dry run\)$'
    same "$(kube get wdg first -n shop -o 'jsonpath={.spec.size}')" 3
    works apply -f "$work/four.yaml"
    says '^widget.cli.test/first configured$'
    same "$(kube get wdg first -n shop -o 'jsonpath={.spec.size}')" 4
    widget ghost 1 | works apply --dry-run -f -
    prints "widget.cli.test/ghost created (dry run)"
    refused get widget ghost
    it "bad documents: named with file, line and field; the others are applied"
    {
        widget good 1
        printf -- '---\n'
        widget zero 0
        printf -- '---\n'
        widget odd 1 '' 'extra: 1'
        printf -- '---\napiVersion: cli.test/v1\nkind: Gadget\nmetadata: {name: g}\n---\nkind: Widget\n---\n'
        printf 'apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: listed}}\n'
    } >"$work/mixed.yaml"
    ends_with 1 apply -f "$work/mixed.yaml" -f "$work/absent.yaml"
    says '^widget.cli.test/good created$'
    says '^configmap/listed created$'
    complains "^flops apply: $work/mixed.yaml:7: Widget.*\"zero\" is invalid: spec.size: Invalid value: 0"
    complains "^flops apply: $work/mixed.yaml:13: .*extra"
    complains "^flops apply: $work/mixed.yaml:19: the server has no kind Gadget in cli.test/v1"
    complains "^flops apply: $work/mixed.yaml:23: apiVersion is not set"
    complains "^flops apply: $work/absent.yaml: cannot be read: No such file"
    it "several mistakes in one object: a line each"
    printf 'apiVersion: cli.test/v1\nkind: Widget\nmetadata: {name: bad}\nspec: {size: 0, color: green}\n' | ends_with 1 apply -f -
    complains '^flops apply: standard input:1: Widget.cli.test "bad" is invalid:$'
    complains '^  spec.size: '
    complains '^  spec.color: Unsupported value: "green"'
    it "text that is no YAML names its line"
    printf 'a: [\n' | ends_with 1 apply -f -
    complains '^flops apply: standard input: line [0-9]+'
    it "folders, -R"
    mkdir -p "$work/folder/deep"
    widget f1 1 >"$work/folder/one.yaml"
    widget f2 1 >"$work/folder/deep/two.yaml"
    echo 'no: manifest' >"$work/folder/notes.txt"
    works apply -f "$work/folder"
    prints "widget.cli.test/f1 created"
    works apply -R -f "$work/folder"
    prints "widget.cli.test/f2 created
widget.cli.test/f1 unchanged"
    it "-n, and an object of another namespace"
    widget spaced 1 | works apply -n shop -f -
    works get widget spaced -n shop
    ends_with 1 apply -n default -f "$work/crd.yaml"
    complains 'namespace "shop" is not the one chosen with -n, "default"'
    it "a namespace that is not there"
    widget x 1 | ends_with 1 apply -n nowhere -f -
    complains 'namespaces "nowhere" not found'
    it "conflicts: who owns which field, and how to take it"
    widget fought 1 | works apply --field-manager alice -f -
    widget fought 2 | ends_with 1 apply -f -
    complains 'others own fields that the file sets'
    complains '^  \.spec\.size +owned by "alice"'
    complains 'with --force-conflicts'
    widget fought 2 | works apply --force-conflicts -f -
    prints "widget.cli.test/fought configured"
}

section_get() {
    it "a table; wide; without headers"
    have g1 1 'labels: {tier: front}'
    have g2 20 'labels: {tier: back}'
    works get widgets -l tier
    says '^NAME +SIZE$'
    says '^g1 +1$'
    works get wdg -l tier -o wide
    says '^NAME +SIZE +COLOR$'
    works get widget.cli.test -l tier=back --no-headers
    prints 'g2    20'
    works get widgets.v1.cli.test g1 --show-labels
    says '^g1 +1 +tier=front$'
    it "several types, categories, TYPE/NAME: names with their type"
    works get wdg,cm -l tier=front
    says '^widget.cli.test/g1 +1'
    works get goods -l tier=front
    says '^widget.cli.test/g1 +1'
    works get wdg/g1 ns/shop
    says '^widget.cli.test/g1 +1'
    says '^namespace/shop +Active'
    works get wdg/g1 wdg/g2
    says '^g1 +1'
    says '^g2 +20'
    it "-o name, json, yaml, jsonpath"
    works get wdg -l tier -o name
    prints "widget.cli.test/g1
widget.cli.test/g2"
    works get wdg g1 -o json
    says '^  "kind": "Widget",$'
    says_not managedFields
    works get wdg g1 -o json --show-managed-fields
    says managedFields
    works get wdg g1 -o yaml
    says '^kind: Widget$'
    says '^  size: 1$'
    works get wdg -l tier -o yaml
    says '^kind: List$'
    works get wdg -l tier -o 'jsonpath={range .items[*]}{.metadata.name}={.spec.size}{"\n"}{end}'
    prints 'g1=1
g2=20'
    works get cm,wdg -o=name
    says '^configmap/listed$'
    it "items of built-in kinds say what they are"
    works get cm -o json
    says '^      "kind": "ConfigMap",$'
    it "--sort-by"
    works get wdg -l tier --sort-by .spec.size -o name
    prints "widget.cli.test/g1
widget.cli.test/g2"
    works get wdg -l tier --sort-by '{.metadata.labels.tier}' --no-headers
    prints 'g2    20
g1    1'
    it "-A, --field-selector"
    works get wdg -A
    says '^NAMESPACE +NAME +SIZE'
    says '^shop +first +4'
    says '^default +g1 +1'
    works get wdg -A --field-selector metadata.namespace=shop,metadata.name=first --no-headers
    prints 'shop   first   4'
    it "--chunk-size puts the pages together"
    works get wdg --chunk-size 2 -o name
    local paged
    paged=$(cat "$work/out")
    works get wdg --chunk-size 0 -o name
    prints "$paged"
    [ "$(wc -l <"$work/out")" -gt 4 ] || problem "fewer than three pages"
    it "nothing found is no failure"
    works get wdg -l tier=none
    complains '^No resources found in default namespace'
    works get wdg -A -l tier=none
    complains '^No resources found$'
    it "a name that is not there is one"
    ends_with 1 get wdg g1 nope
    says '^g1 +1'
    complains '^flops get: widgets.cli.test "nope" not found'
    works get wdg nope --ignore-not-found
    prints ''
    ends_with 1 get gadgets
    complains '^flops get: the server has no type "gadgets"'
    ends_with 2 get wdg g1 -A
    it "output that cannot be written is a failure; a reader that leaves is none of ours"
    kube get wdg >/dev/full 2>"$work/err"; rc=$?
    same $rc 1
    complains 'cannot be written'
    kube explain flp --recursive 2>"$work/err" | head -1 >/dev/null
    [ ! -s "$work/err" ] || problem "complained to a reader that left"
}

section_watch() {
    it "get -w shows changes in aligned columns"
    in_background "$work/watch" get wdg -w -l seen=yes
    in_background "$work/watch.json" get wdg -l seen=yes --watch-only -o 'jsonpath={.metadata.name}={.spec.size}'
    local json=$background
    in_background "$work/watch.events" get wdg --watch --output-watch-events -l seen=yes
    eventually 10 test -e "$work/watch.events.err"
    sleep 0.5
    have a-name-of-some-length 1 'labels: {seen: "yes"}'
    have w2 1 'labels: {seen: "yes"}'
    have w2 7 'labels: {seen: "yes"}'
    eventually 10 file_has "$work/watch" '^w2 +7$'
    file_has "$work/watch" '^NAME +SIZE$' || problem "no header"
    has_lines "$work/watch" '^NAME' 2 && problem "two headers"
    file_has "$work/watch" '^w2                      7$' || problem "not aligned: $(cat "$work/watch")"
    eventually 10 file_has "$work/watch.json" '^w2=7$'
    eventually 10 file_has "$work/watch.events" '^MODIFIED +w2 +7$'
    kube delete wdg w2 >/dev/null
    eventually 10 file_has "$work/watch.events" '^DELETED +w2 +7$'
    it "a server that comes back is followed on"
    stop_server
    [ -n "$other" ] || eventually 10 file_has "$work/watch.err" 'connection lost, trying again'
    start_server
    have w3 9 'labels: {seen: "yes"}'
    eventually 15 file_has "$work/watch" '^w3 +9$'
    eventually 15 file_has "$work/watch.json" '^w3=9$'
    has_lines "$work/watch" '^a-name-of-some-length' 2 && problem "told twice"
    kill "$json" 2>/dev/null
    end_background
    # shellcheck disable=SC2046
    kill $(jobs -p | grep -vx "$server_pid") 2>/dev/null
    it "one name; a watch of several types is refused"
    in_background "$work/watch.one" get wdg/w3 -w -o name
    eventually 10 file_has "$work/watch.one" '^widget.cli.test/w3$'
    have w4 1
    have w3 10 'labels: {seen: "yes"}'
    eventually 10 has_lines "$work/watch.one" w3 2
    file_has "$work/watch.one" w4 && problem "another name"
    end_background
    ends_with 2 get wdg,cm -w
    [ -z "$other" ] || return 0
    it "a server that stays away: gives up"
    "$FLOPS" get wdg --data-dir "$work/data" -w --request-timeout 2s >"$work/out" 2>"$work/err" &
    background=$!
    eventually 10 file_has "$work/out" '^w3'
    stop_server
    begun=$SECONDS
    wait "$background"; rc=$?
    same $rc 1
    complains 'gave up after'
    within 12
    start_server
}

section_describe() {
    it "metadata, spec, status, conditions and events"
    have owner 1
    uid=$(kube get wdg owner -o 'jsonpath={.metadata.uid}')
    have described 5 "labels: {a: b}, annotations: {note: hello}, ownerReferences: [{apiVersion: cli.test/v1, kind: Widget, name: owner, uid: $uid}]" "$(condition False Broken 'out of luck')"
    uid=$(kube get wdg described -o 'jsonpath={.metadata.uid}')
    for n in 2 1; do
        printf 'apiVersion: v1\nkind: Event\nmetadata: {name: described.%s}\ninvolvedObject: {apiVersion: cli.test/v1, kind: Widget, name: described, namespace: default, uid: %s}\nreason: Reason%s\nmessage: message %s\ntype: %s\nfirstTimestamp: "2026-01-0%sT00:00:00Z"\nlastTimestamp: "2026-01-0%sT00:00:00Z"\ncount: %s\n---\n' \
            $n "$uid" $n $n "$([ $n = 1 ] && echo Normal || echo Warning)" $n $n $n
    done | works apply -f -
    works describe wdg described
    says '^Name: +described$'
    says '^Namespace: +default$'
    says '^Labels: +a=b$'
    says '^Annotations: +note: hello$'
    says '^Created: .* \([0-9a-z]+ ago\)$'
    says '^Owned By: +Widget/owner$'
    says '^Spec:$'
    says '^  size: 5$'
    says '^  TYPE +STATUS +SINCE +REASON +MESSAGE$'
    says '^  Ready +False +[0-9a-z]+ +Broken +out of luck$'
    says '^  [0-9a-z]+ +Normal +Reason1 +message 1$'
    same "$(grep -Eo 'Reason[12]' "$work/out" | tr '\n' ' ')" "Reason1 Reason2 "
    says_not managedFields
    it "a Secret: sizes, never values"
    printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {kubectl.kubernetes.io/last-applied-configuration: "hunter2"}}\nstringData: {password: hunter2}\n' | works apply -f -
    works describe secret s
    says '^  password: 7 bytes$'
    says_not 'hunter2|aHVudGVyMg'
    it "several, by selector; none; not there"
    works describe wdg -l tier
    says '^Name: +g1$'
    says '^Name: +g2$'
    works describe wdg -l tier=none
    complains '^No resources found'
    ends_with 1 describe wdg nope
    complains 'widgets.cli.test "nope" not found'
}

section_events() {
    it "sorted by last seen, human ages"
    works events
    says '^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE$'
    says '^[0-9a-z]+ +Normal +Reason1 +widget/described +message 1$'
    says '^[0-9a-z]+ \(x2 over [0-9a-z]+\) +Warning +Reason2'
    same "$(grep -Eo 'Reason[12]' "$work/out" | tr '\n' ' ')" "Reason1 Reason2 "
    it "--for, --types, -A, -o"
    works events --for wdg/described --types Warning --no-headers
    says Reason2
    says_not 'Reason1|LAST SEEN'
    works events --for wdg/g1
    complains '^No events found'
    works events -A
    says '^NAMESPACE +LAST SEEN'
    works events -o name
    says '^event/described.1$'
    ends_with 1 events --for wdg
    it "-w"
    in_background "$work/watch.ev" events -w --for wdg/g1
    sleep 0.5
    printf 'apiVersion: v1\nkind: Event\nmetadata: {name: late}\ninvolvedObject: {kind: Widget, name: g1, namespace: default}\nreason: Late\nmessage: came late\ntype: Normal\n' | works apply -f -
    eventually 10 file_has "$work/watch.ev" 'Late +widget/g1 +came late'
    end_background
}

section_wait() {
    it "a condition that comes"
    have waited 1 '' "$(condition False Starting 'not yet')"
    in_background "$work/wait" wait wdg/waited --for=condition=Ready --timeout=20s
    sleep 0.5
    have waited 1 '' "$(condition True Done 'all well')"
    wait "$background"; same $? 0
    file_has "$work/wait" '^widget.cli.test/waited condition met$' || problem "$(cat "$work/wait" "$work/wait.err")"
    it "one that does not: its reason at the deadline"
    have waited 1 '' "$(condition False Stuck 'no room')"
    begun=$SECONDS
    ends_with 1 wait wdg/waited --for=condition=Ready --timeout=1s
    within 3
    complains '^flops wait: widget.cli.test/waited: not in time: Ready is False \(Stuck\): no room$'
    works wait wdg waited --for=condition=ready=false
    ends_with 1 wait wdg/waited --for=condition=Nope --timeout=0
    complains 'it has no condition Nope'
    it "the deadline holds while other things happen"
    (for _ in 1 2 3 4 5 6; do have waited 1 '' "$(condition False "Try$RANDOM" x)"; sleep 0.3; done) &
    begun=$SECONDS
    ends_with 1 wait wdg/waited --for=condition=Ready --timeout=1s
    within 3
    wait $!
    it "jsonpath, with and without a value"
    in_background "$work/wait" wait wdg/waited --for='jsonpath={.spec.size}=8' --timeout=20s
    sleep 0.3
    have waited 8
    wait "$background"; same $? 0
    works wait wdg/waited --for='jsonpath={.spec.color}'
    works wait wdg -l tier --for=jsonpath='{.spec.color}'=red
    has_lines "$work/out" 'condition met' 2 || problem "not both"
    ends_with 1 wait wdg/waited --for='jsonpath={.spec.size}=9' --timeout=1s
    complains '\{.spec.size\} is "8"'
    it "create and delete"
    in_background "$work/wait" wait wdg/newborn --for=create --timeout=20s
    sleep 0.3
    have newborn 1
    wait "$background"; same $? 0
    in_background "$work/wait" wait wdg/newborn --for=delete --timeout=20s
    sleep 0.3
    works delete wdg newborn
    wait "$background"; same $? 0
    works wait wdg/newborn --for=delete
    ends_with 1 wait wdg/g1 --for=delete --timeout=1s
    complains 'nobody has deleted it'
    ends_with 1 wait wdg/newborn --for=create --timeout=1s
    complains 'it does not exist'
    it "what is not there, or goes away"
    ends_with 1 wait wdg/newborn --for=condition=Ready
    complains 'widgets "newborn" not found'
    ends_with 1 wait wdg -l tier=none --for=condition=Ready
    complains 'no such objects'
    have shortlived 1
    in_background "$work/wait" wait wdg/shortlived --for=condition=Ready --timeout=20s
    sleep 0.5
    works delete wdg shortlived
    wait "$background"; same $? 1
    file_has "$work/wait.err" 'it was deleted' || problem "$(cat "$work/wait.err")"
}

section_diff() {
    it "no difference is 0"
    widget diffed 1 | works apply -f -
    widget diffed 1 | works diff -f -
    prints ''
    it "a difference is 1 and stores nothing"
    widget diffed 2 'labels: {new: label}' | ends_with 1 diff -f -
    says '^--- live/default/widget.cli.test/diffed$'
    says '^\+\+\+ applied/default/widget.cli.test/diffed$'
    says '^-  size: 1$'
    says '^\+  size: 2$'
    says '^\+    new: label$'
    says_not 'managedFields|resourceVersion|\[3[12]m'
    same "$(kube get wdg diffed -o 'jsonpath={.spec.size}')" 1
    it "a new object is all new, with its defaults"
    widget unborn 1 | ends_with 1 diff -f -
    says '^\+  color: red$'
    says_not '^-[^-]'
    refused get wdg unborn
    it "others' fields are compared, not fought for"
    widget fought 9 | ends_with 1 diff --field-manager bob -f -
    says '^\+  size: 9$'
    it "values of Secrets are stars"
    printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: other, more: x}\n' | ends_with 1 diff -f -
    says '^-  password: .\*\*\* \(before\)'
    says '^\+  password: .\*\*\* \(after\)'
    says_not 'hunter2|aHVudGVyMg|b3RoZXI'
    it "a failure is 2"
    widget diffed 0 | ends_with 2 diff -f -
    complains '^flops diff: standard input:1: .*spec.size'
    ends_with 2 diff -f "$work/absent.yaml"
}

section_explain() {
    it "a kind"
    works explain wdg
    says '^GROUP: +cli.test$'
    says '^KIND: +Widget$'
    says '^VERSION: +v1$'
    says '^    Something to sell.$'
    says '^  spec.<Object> -required-$'
    says '^  metadata.<ObjectMeta>$'
    it "a field, through a list; enums and defaults"
    works explain wdg.spec
    says '^FIELD: spec <Object>$'
    says '^  size.<integer> -required-$'
    says '^    How big it is.$'
    says 'enum: red, blue'
    says 'default: red'
    says '^  parts.<\[\]Object>$'
    works explain widgets.cli.test.spec.parts.weight
    says '^FIELD: weight <integer>$'
    it "--recursive, --api-version, what is shared by all"
    works explain wdg --recursive
    says '^      weight.<integer>$'
    says '^    ownerReferences.<\[\]OwnerReference>$'
    works explain cm.data
    says '^FIELD: data <map\[string\]string>$'
    works explain event --api-version events.k8s.io/v1
    says '^GROUP: +events.k8s.io$'
    works explain flp.spec.training.rounds
    works explain crd --recursive
    it "what there is not"
    ends_with 1 explain wdg.spec.nope
    complains 'there is no field "nope" in spec'
    ends_with 1 explain gadget
    complains 'the server has no type "gadget"'
}

section_delete() {
    it "by name, several, TYPE/NAME, dry run"
    have d1 1
    have d2 1
    works delete wdg/d1 --dry-run=server
    prints 'widget.cli.test "d1" deleted (dry run)'
    works get wdg d1
    works delete wdg d1 d2
    prints 'widget.cli.test "d1" deleted
widget.cli.test "d2" deleted'
    ends_with 1 delete wdg d1
    complains '^flops delete: widgets.cli.test "d1" not found'
    works delete wdg d1 --ignore-not-found
    it "finalizers: said, waited for, and the deadline"
    have held 1 'finalizers: [cli.test/hold, cli.test/more]'
    begun=$SECONDS
    ends_with 1 delete wdg held --timeout=1s
    within 3
    complains '^widget.cli.test "held" waits for its finalizers: cli.test/hold, cli.test/more$'
    complains 'not gone in time, held by its finalizers: cli.test/hold, cli.test/more'
    works delete wdg held --wait=false
    says 'is being deleted, held by its finalizers'
    in_background "$work/held" delete wdg held --timeout=20s
    eventually 10 file_has "$work/held.err" 'waits for'
    have held 1 'finalizers: [cli.test/more]'
    eventually 10 file_has "$work/held.err" 'finalizers: cli.test/more$'
    have held 1
    wait "$background"; same $? 0
    file_has "$work/held" '^widget.cli.test "held" deleted$' || problem "$(cat "$work/held")"
    it "--cascade: orphan keeps, foreground waits"
    have parent 1
    uid=$(kube get wdg parent -o 'jsonpath={.metadata.uid}')
    have child 1 "ownerReferences: [{apiVersion: cli.test/v1, kind: Widget, name: parent, uid: $uid}]"
    works delete wdg parent --cascade=orphan
    works get wdg child
    have parent 1
    uid=$(kube get wdg parent -o 'jsonpath={.metadata.uid}')
    have child2 1 "ownerReferences: [{apiVersion: cli.test/v1, kind: Widget, name: parent, uid: $uid, blockOwnerDeletion: true}]"
    works delete wdg parent --cascade=foreground
    refused get wdg child2
    it "-l, --all, -f; last first"
    works delete wdg -l tier=front
    prints 'widget.cli.test "g1" deleted'
    ends_with 1 delete -f "$work/mixed.yaml" --ignore-not-found --dry-run=server
    says '^widget.cli.test "good" deleted \(dry run\)$'
    complains "^flops delete: $work/mixed.yaml:23: apiVersion is not set"
    works delete wdg --all -n shop
    says '"first" deleted'
    says '"spaced" deleted'
    works delete wdg --all -n shop
    complains '^No resources found'
    ends_with 1 delete wdg
    complains 'name the objects'
    works delete -f "$work/crd.yaml" --ignore-not-found
    says '^customresourcedefinition.apiextensions.k8s.io "widgets.cli.test" deleted$'
    same "$(tail -1 "$work/out")" 'namespace "shop" deleted'
    refused get wdg
    it "the example of a project, from its beginning to its end"
    works apply -f "$root/examples/flproject-minimal.yaml"
    works get flp
    says '^minimal '
    works describe flp/minimal
    says '^    rounds: 5$'
    works delete -f "$root/examples/flproject-minimal.yaml"
    prints 'flproject.flops.dev "minimal" deleted'
}

start_server
if [ -n "$other" ]; then # what an earlier run left
    kube delete cm/listed secret/s --ignore-not-found
    kube delete events --all
fi >/dev/null 2>&1
for section in usage server odd apply get watch describe events wait diff explain delete; do
    "section_$section"
done
if [ -z "$other" ]; then
    section=end
    it "the server stops well"
    stop_server
    grep -aE 'Sanitizer|"level":"error"|level=error' "$work/up.log" >"$work/out" && problem "it complained"
fi
finish
