# A small vocabulary for judging a server through kubectl.  Sourced, not run.
#
#   it "TEXT"            begins a test; it ends where the next begins
#   works ARGS…          runs kubectl; it must succeed
#   refused ARGS…        runs kubectl; it must fail
#   ends_with N ARGS…    runs kubectl; its exit code must be N
#   says RE / says_not RE     a line of its standard output does / does not match
#   complains RE / complains_not RE   the same for standard error
#   prints TEXT          standard output is exactly TEXT
#   eventually S CMD…    CMD becomes true within S seconds; it is run again each time, so give it a
#                        function and words, not a $(…) that was looked up before
#   skip "TEXT" "WHY"    a test this kubectl cannot take: said, never silent
#
# works, refused and ends_with read the manifest on standard input when the arguments say "-f -".
# Every kubectl is given a deadline, and a cache of its own, so that runs do not help one another.
# The sourcing script sets KUBECTL, KUBECONFIG_FILE, NS, minor and section.
# shellcheck shell=bash disable=SC2154

tests=0 failed=0 skipped=0 current='' problems='' last=''
command_timeout_s=${COMMAND_TIMEOUT_S:-40}
rc=0

# "manifest | works create -f -" must set variables here, not in a subshell.
shopt -s lastpipe
work=$(mktemp -d "${TMPDIR:-/tmp}/interop.XXXXXX")
touch "$work/out" "$work/err"

kube() {
    HOME=$work TMPDIR=$work timeout "$command_timeout_s" "$KUBECTL" --kubeconfig="$KUBECONFIG_FILE" \
        --cache-dir="$work/cache" -n "$NS" "$@"
}

finish_test() {
    [ -n "$current" ] || return 0
    tests=$((tests + 1))
    if [ -z "$problems" ]; then
        echo "ok $tests - $current"
    else
        failed=$((failed + 1))
        echo "not ok $tests - $current"
        printf '%s' "$problems" | sed 's/^/    /'
    fi
    current='' problems=''
}

it() {
    finish_test
    current="$section: $1"
}

skip() {
    finish_test
    tests=$((tests + 1)) skipped=$((skipped + 1))
    echo "ok $tests - $section: $1 # SKIP $2"
}

problem() {
    [ -n "$current" ] || { echo "problem outside of a test: $1" >&2; exit 2; }
    problems+="$1"$'\n'"  command: ${program:-kubectl} $last"$'\n'"  exit code: $rc"$'\n'
    problems+="  stdout: $(head -c 3000 "$work/out")"$'\n'"  stderr: $(head -c 3000 "$work/err")"$'\n'
}

run() {
    last="$*" rc=0
    case " $* " in
    *" - "*) kube "$@" >"$work/out" 2>"$work/err" || rc=$? ;;
    *) kube "$@" >"$work/out" 2>"$work/err" </dev/null || rc=$? ;;
    esac
}

works() { run "$@"; [ $rc -eq 0 ] || problem "expected success"; }
refused() { run "$@"; [ $rc -ne 0 ] || problem "expected a refusal"; [ $rc -ne 124 ] || problem "it hung"; }
ends_with() { local want=$1; shift; run "$@"; [ $rc -eq "$want" ] || problem "expected exit code $want"; }

says() { grep -Eq -- "$1" "$work/out" || problem "stdout lacks /$1/"; }
says_not() { ! grep -Eq -- "$1" "$work/out" || problem "stdout has /$1/"; }
complains() { grep -Eq -- "$1" "$work/err" || problem "stderr lacks /$1/"; }
complains_not() { ! grep -Eq -- "$1" "$work/err" || problem "stderr has /$1/"; }
prints() { [ "$(cat "$work/out")" = "$1" ] || problem "stdout is not \"$1\""; }
same() { [ "$1" = "$2" ] || problem "\"$1\" is not \"$2\""; }
differ() { [ "$1" != "$2" ] || problem "\"$1\" is the same"; }

eventually() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $until ]; then
            problem "never became true: $*"
            return 0
        fi
        sleep 0.1
    done
}

# field RESOURCE NAME JSONPATH: one field of an object as text.
field() { kube get "$1" "$2" -o "jsonpath=$3" 2>&1; }
gone() {
    ! kube get "$1" "$2" >"$work/gone" 2>&1 && grep -q NotFound "$work/gone"
}
field_is() { [ "$(field "$1" "$2" "$3")" = "$4" ]; }
absent() { ! kube get "$1" "$2" -o name; }
has_lines() { [ "$(grep -Ec -- "$2" "$1")" -ge "$3" ]; } # FILE RE N
file_has() { grep -Eq -- "$2" "$1"; }

# in_background FILE ARGS…: starts kubectl with its output in FILE; its process id in $background.
# It tells its requests on standard error, by which watch_begun knows that the server has answered.
in_background() {
    local file=$1
    shift
    HOME=$work TMPDIR=$work timeout "$command_timeout_s" "$KUBECTL" --kubeconfig="$KUBECONFIG_FILE" \
        --cache-dir="$work/cache" -n "$NS" -v=6 "$@" >"$file" 2>"$file.err" </dev/null &
    background=$!
    last="$* (in the background)"
}

watch_begun() { eventually 20 file_has "$1.err" 'watch=true.*200 OK'; }

end_background() {
    kill "$background" 2>/dev/null || true
    wait "$background" 2>/dev/null || true
}

since() { [ "$minor" -ge "$1" ]; }

finish() {
    finish_test
    [ $skipped -eq 0 ] || echo "$skipped skipped"
    echo "$((tests - failed - skipped)) passed, $failed failed"
    [ $failed -eq 0 ]
}
