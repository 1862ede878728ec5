#!/bin/bash
# data.sh [FLOPS]
# Drives `flops data` with files that it makes, and kills it at random while it keeps and replaces data
# sets: what is there afterwards is whole.  Prints "ok N - name" or "not ok N - name" a test, at the end
# "N passed, N failed"; fails when any failed.  FLOPS is the program, bin/flops by default.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
FLOPS=$(realpath "${1:-$root/bin/flops}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FLOPS_DATA_DIR=$work/state
passed=0 failed=0

# test NAME: the status of the last command decides.
check() {
    local rc=$?
    if [ $rc -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok $((passed + failed)) - $1"
    else
        failed=$((failed + 1))
        echo "not ok $((passed + failed)) - $1"
    fi
}
data() { "$FLOPS" data "$@" >"$work/out" 2>"$work/err"; }
says() { grep -qF -- "$1" "$work/out" "$work/err"; }
# refused STATUS TEXT ARGUMENTS...
refused() {
    local want=$1 text=$2
    shift 2
    data "$@"
    [ $? -eq "$want" ] && says "$text"
}

# table ROWS SHIFT: two features and a text label.
table() {
    echo 'width,height,kind'
    awk -v n="$1" -v shift="$2" 'BEGIN { for (i = 0; i < n; i++) printf "%d.5,%d,kind %d\n", i + shift, -i, i % 4 }'
}
table 200 0 >"$work/train.csv"
table 40 7 | grep -v 'kind 2' >"$work/test.csv"
# IDX: 3 images of 2 x 2, labels 0 1 2.
printf '\0\0\10\3\0\0\0\3\0\0\0\2\0\0\0\2abcdefghijkl' >"$work/images-idx3"
printf '\0\0\10\1\0\0\0\3\0\1\2' >"$work/labels-idx1"
gzip -k "$work/images-idx3"

data push train "$work/train.csv" && says '200 examples of 2, 4 classes'; check "a CSV file becomes a data set"
data push train "$work/train.csv" && says unchanged; check "the same again changes nothing"
refused 1 'is there already, with other data' push train "$work/test.csv"; check "other data does not take its place"
data push test "$work/test.csv" --like train && says '4 classes'; check "a test set has the classes of its training set"
data push images "$work/images-idx3.gz" "$work/labels-idx1" && says '3 examples of 2 x 2, 3 classes'; check "IDX, one of both packed"
sed 's/^50\.5/fifty/' "$work/train.csv" >"$work/bad.csv"
refused 1 'row 52, column 1 (width): "fifty" is no number' push bad "$work/bad.csv"; check "what is wrong is told by row and column"
refused 1 'not a regular file' push bad "$work/images-idx3" /dev/null; check "a device is no data set"
refused 2 'needs 2 files' push bad "$work/images-idx3"; check "labels that are missing are asked for"
refused 1 'is no tag' push ../bad "$work/train.csv"; check "a tag is no path"
data ls -o name && [ "$(cat "$work/out")" = "$(printf 'images\ntest\ntrain')" ]; check "ls names them all"

data partition train --learners 8 --kind Dirichlet --alpha 0.3 --seed 5 && says '"train.0" to "train.7"'; check "divided by Dirichlet shares"
data partition train --as pairs --learners 20 --kind labels && data verify train.parts pairs.parts; check "a second division, and both are whole"
refused 1 'is there already' partition train --learners 8 --seed 6; check "another division does not take its place"
data partition train --learners 8 --seed 6 --replace; check "unless it shall"
[ "$(stat -c %i "$FLOPS_DATA_DIR/data/train/data.safetensors")" = "$(stat -c %i "$FLOPS_DATA_DIR/data/pairs.parts/data.safetensors")" ]; check "parts share the file of the whole"
refused 1 'at least 2 of 3 examples' partition images --learners 3 --min-examples 2; check "a minimum that cannot be is refused"
data rm train && data verify pairs.parts; check "a division outlives its data set"
refused 1 'there is no data set' rm train; check "what is gone cannot be removed"

printf 'x' | dd of="$FLOPS_DATA_DIR/data/test/data.safetensors" bs=1 seek=300 conv=notrunc status=none
refused 1 'data.safetensors is sha256:' verify test; check "damage is found"

# Killed anywhere: "big" is one of both, or not there yet, and always whole.
table 60000 0 >"$work/one.csv"
table 60000 1 >"$work/two.csv"
broken=0 killed=0
for i in $(seq 40); do
    "$FLOPS" data push big "$work/$([ $((i % 2)) = 0 ] && echo one || echo two).csv" --replace >/dev/null 2>&1 &
    pid=$!
    sleep "0.0$((RANDOM % 90 + 10))"
    kill -9 $pid 2>/dev/null && killed=$((killed + 1))
    wait $pid 2>/dev/null
    [ -e "$FLOPS_DATA_DIR/data/big" ] || continue
    data verify big || broken=$((broken + 1))
done
[ $broken -eq 0 ] && [ $killed -gt 0 ]; check "killed $killed times, never in part"
data push big "$work/one.csv" --replace && data verify big && [ -z "$(find "$FLOPS_DATA_DIR/data" -maxdepth 1 \( -name .new -o -name .gone \))" ]
check "and the next change clears what was left"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
