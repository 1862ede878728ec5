#!/bin/bash
# Installs crds/ on a server and holds the documents of crds/testdata/ and examples/ against it.
#
#   usage: crds.sh KUBECTL KUBECONFIG
#
# crds/testdata/<kind>/ holds, by the first word of the file name:
#   valid-*    one document that must be accepted without a warning (dry run)
#   invalid-*  one document that must be refused; the first lines are "# error: TEXT", and every TEXT must be part of
#              the answer
#   update-*   two documents: the first is created, the second replaces it and must be accepted, or, with
#              "# error: TEXT" in the first lines, be refused with every TEXT
#   status-*   one document with a status, which is written through the status subresource; line 1 is
#              "# row: CELLS", what `kubectl get` prints between name and age
# The server is left as it was, apart from the CRDs. Exits with 1 if anything differs.
set -u -o pipefail

if [ $# -ne 2 ]; then
    echo "usage: $0 KUBECTL KUBECONFIG" >&2
    exit 2
fi
kubectl=$1
export KUBECONFIG=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
space=flops-crds-$$
work=$(mktemp -d)
passed=0
failed=0

k() { "$kubectl" --namespace "$space" --request-timeout=20s "$@"; }

finish()
{
    k delete namespace "$space" --ignore-not-found --wait=false > "$work/out" 2>&1 || cat "$work/out" >&2
    rm -rf "$work"
}
trap finish EXIT

pass() { passed=$((passed + 1)); }

fail()
{
    failed=$((failed + 1))
    echo "FAIL ${1#"$top"/}: $2"
    sed 's/^/     /' "$work/out"
}

# directives FILE WORD: the texts after "# WORD: " in the first lines, one a line
directives() { sed -n -e "s/^# $2: //p" -e '/^# /!q' "$1"; }

check_valid()
{
    if ! k create --dry-run=server --validate=true -f "$1" > "$work/out" 2>&1; then
        fail "$1" "refused"
    elif grep -q '^Warning' "$work/out"; then
        fail "$1" "accepted with a warning"
    else
        pass
    fi
}

check_refusal() # FILE TEXTS: $work/out holds what kubectl said when it failed
{
    local text missing=
    while read -r text; do
        grep -qF -- "$text" "$work/out" || missing=$text
    done <<< "$2"
    if [ -z "$missing" ]; then pass; else fail "$1" "refused, but not with: $missing"; fi
}

check_invalid()
{
    local text
    text=$(directives "$1" error)
    if [ -z "$text" ]; then
        echo "the first line must be: # error: TEXT" > "$work/out"
        fail "$1" "no expectation"
    elif k create --dry-run=server --validate=true -f "$1" > "$work/out" 2>&1; then
        fail "$1" "accepted"
    else
        check_refusal "$1" "$text"
    fi
}

check_update()
{
    local text
    text=$(directives "$1" error)
    awk -v dir="$work" 'BEGIN { n = 1 } /^---$/ { n++; next } { print > (dir "/doc" n ".yaml") }' "$1"
    if ! k create -f "$work/doc1.yaml" > "$work/out" 2>&1; then
        fail "$1" "the first document is refused"
    elif k replace -f "$work/doc2.yaml" > "$work/out" 2>&1; then
        if [ -z "$text" ]; then pass; else fail "$1" "accepted"; fi
    elif [ -z "$text" ]; then
        fail "$1" "refused"
    else
        check_refusal "$1" "$text"
    fi
    k delete -f "$work/doc1.yaml" --ignore-not-found > "$work/out" 2>&1 || fail "$1" "cannot be deleted"
}

check_status()
{
    local want name row
    want=$(directives "$1" row)
    name=$(k create -f "$1" -o name 2> "$work/out")
    if [ -z "$name" ]; then
        fail "$1" "refused"
        return
    fi
    if [ "$(k get "$name" -o 'jsonpath={.status}' 2>&1)" != '{"observedGeneration":-1}' ]; then
        k get "$name" -o yaml > "$work/out" 2>&1
        fail "$1" "status is not empty after create"
    elif ! k replace --subresource=status -f "$1" > "$work/out" 2>&1; then
        fail "$1" "status refused"
    else
        k get "$name" --no-headers > "$work/out" 2>&1
        row=$(awk '{ NF--; $1 = ""; $0 = $0; $1 = $1; print }' "$work/out")
        if [ "$row" = "$want" ]; then pass; else fail "$1" "columns are \"$row\", not \"$want\""; fi
    fi
    k delete "$name" > "$work/out" 2>&1 || fail "$1" "cannot be deleted"
}

# check_names FILE: the CRD's short name and its category lead to the resource
check_names()
{
    local short plural
    plural=$(sed -n 's/^    plural: //p' "$1")
    short=$(sed -n 's/^    shortNames: \[\(.*\)\]$/\1/p' "$1")
    if ! k get "$short" > "$work/out" 2>&1; then
        fail "$1" "short name $short is not known"
    elif k api-resources --api-group=flops.dev --categories=flops -o name > "$work/out" 2>&1 &&
        grep -qx "$plural.flops.dev" "$work/out"; then
        pass
    else
        fail "$1" "not in category flops"
    fi
}

# check_scale FILE FIELD: the scale subresource sets spec.FIELD
check_scale()
{
    local file=$top/$1 name
    name=$(k create -f "$file" -o name 2> "$work/out")
    if k scale "$name" --replicas=3 > "$work/out" 2>&1 &&
        [ "$(k get "$name" -o "jsonpath={.spec.$2}")" = 3 ]; then
        pass
    else
        fail "$file" "cannot be scaled"
    fi
    k delete "$name" > "$work/out" 2>&1 || fail "$file" "cannot be deleted"
}

# check_selector FILE YES NO: the field selector YES finds the object, NO does not
check_selector()
{
    local file=$top/$1 name resource
    name=$(k create -f "$file" -o name 2> "$work/out")
    resource=${name%/*}
    if [ "$(k get "$resource" --field-selector "$2" -o name 2>> "$work/out")" = "$name" ] &&
        [ -z "$(k get "$resource" --field-selector "$3" -o name 2>> "$work/out")" ]; then
        pass
    else
        fail "$file" "field selector $2 or $3 is wrong"
    fi
    k delete "$name" > "$work/out" 2>&1 || fail "$file" "cannot be deleted"
}

set -e
for file in "$top"/crds/*.yaml; do
    "$kubectl" apply -f "$file" >> "$work/applied"
    "$kubectl" wait --for=condition=Established --timeout=60s -f "$file" > "$work/out"
done
# A server that had other CRDs by these names takes a moment until it validates with the new ones.
if grep -q ' configured$' "$work/applied"; then sleep 2; fi
"$kubectl" create namespace "$space" > "$work/out"
set +e

for file in "$top"/crds/testdata/*/*.yaml; do
    name=${file##*/}
    case $name in
    valid-*) check_valid "$file" ;;
    invalid-*) check_invalid "$file" ;;
    update-*) check_update "$file" ;;
    status-*) check_status "$file" ;;
    *)
        echo "names begin with valid-, invalid-, update- or status-" > "$work/out"
        fail "$file" "unknown kind of check"
        ;;
    esac
done
for file in "$top"/crds/*.yaml; do
    check_names "$file"
done
check_scale crds/testdata/flproject/valid-minimal.yaml learners.count
check_scale crds/testdata/inferenceserver/valid-minimal.yaml replicas
check_scale crds/testdata/workload/valid-process.yaml instances
check_selector crds/testdata/workload/valid-container.yaml spec.role=Aggregator spec.role=Learner
check_selector crds/testdata/flround/valid-minimal.yaml spec.project.name=mnist spec.project.name!=mnist
made=() # namespaces that examples are in; here nobody makes them
for name in flops-system hospital; do
    if k create namespace "$name" > /dev/null 2>&1; then made+=("$name"); fi
done
for file in "$top"/examples/*.yaml; do
    if "$kubectl" --request-timeout=20s apply --dry-run=server -f "$file" > "$work/out" 2>&1; then pass; else fail "$file" "refused"; fi
done

for name in "${made[@]}"; do k delete namespace "$name" --wait=false > /dev/null; done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
