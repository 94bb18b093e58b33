#!/usr/bin/env bash
# A worker for emq in shell: runs a command for each task, one at a time.
#
#   examples/worker.sh [--url URL] QUEUE... -- COMMAND [ARGUMENT...]
#
# The command gets the task's content, as JSON, on its standard input, and the task's id, queue and attempt in EMQ_ID, EMQ_QUEUE
# and EMQ_ATTEMPT. If it ends with status 0, the task is acknowledged, with what it printed as the result if that is JSON.
# Otherwise the task is refused, with the last line of its standard error as the error: it is tried again, or is dead.
#
# Earlier queues go first. On SIGTERM and SIGINT the worker finishes the task in hand and exits. Needs curl 7.82 or newer, and
# jq (which rounds numbers of more than 17 digits before its version 1.7).
set -euo pipefail

case ${1:-} in
-h | --help)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac
url=http://localhost:8080
if [ "${1:-}" = --url ]; then
    url=${2:?--url is followed by a URL}
    shift 2
fi
queues=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in -*) queues=() && break ;; esac
    queues+=("$1")
    shift
done
if [ ${#queues[@]} -eq 0 ] || [ $# -lt 2 ]; then
    echo "usage: $0 [--url URL] QUEUE... -- COMMAND [ARGUMENT...]" >&2
    exit 2
fi
shift
for program in curl jq setsid "$1"; do
    command -v "$program" >/dev/null || { echo "$0: there is no command $program" >&2; exit 2; }
done

work=$(mktemp -d)
keeper=
poll=
stopping=
stop() {
    stopping=1
    # Its client gone, the server takes nothing for it.
    [ -z "$poll" ] || kill "$poll" 2>/dev/null || true
}
trap stop TERM INT
trap '[ -z "$keeper" ] || kill "$keeper" 2>/dev/null; rm -rf "$work"' EXIT

request=$(jq -cn --arg worker "$(hostname)-$$" '{queues: $ARGS.positional, max: 1, timeout: 30000, worker: $worker}' \
    --args "${queues[@]}")

# Tells the server something, and again as long as it is not there or has no room: the third argument, if there is one, is what
# to say then instead.
post() {
    local body=$2
    until printf %s "$body" | curl -sS --fail-with-body --json @- "$url$1"; do
        body=${3:-$body}
        sleep 1
    done
}

# Starts the lease of a task again and again, when half of it is over.
keep() {
    trap 'kill "$pause" 2>/dev/null; exit' TERM
    while true; do
        sleep "$2" >/dev/null 2>&1 &
        pause=$!
        wait "$pause"
        post /touch/ "{\"ids\": [\"$1\"]}" >/dev/null
    done
}

while [ -z "$stopping" ]; do
    rm -f "$work/answer"
    curl -sS --fail-with-body --json "$request" -o "$work/answer" "$url/wait/" &
    poll=$!
    # The signal may have come just now; and it ends a wait early.
    [ -z "$stopping" ] || stop
    status=0
    wait "$poll" || status=$?
    if [ "$status" -gt 128 ] && [ -n "$stopping" ]; then
        status=0
        wait "$poll" || status=$?
    fi
    poll=
    if [ "$status" -ne 0 ]; then
        [ -n "$stopping" ] || { cat "$work/answer" 2>/dev/null >&2 || true; sleep 1; }
        continue
    fi
    jq -c '.[]' "$work/answer" >"$work/task"
    [ -s "$work/task" ] || continue

    receipt=$(jq -r .receipt "$work/task")
    keep "$receipt" "$(jq '.retry / 2' "$work/task")" &
    keeper=$!
    status=0
    # In a session of its own, so that Ctrl-C stops the worker and not the work.
    jq -c .content "$work/task" |
        EMQ_ID=$(jq -r .id "$work/task") EMQ_QUEUE=$(jq -r .queue "$work/task") EMQ_ATTEMPT=$(jq -r .attempt "$work/task") \
            setsid --wait "$@" >"$work/output" 2>"$work/error" || status=$?
    id=$(jq -r .id "$work/task")
    kill "$keeper" 2>/dev/null || true
    wait "$keeper" 2>/dev/null || true
    keeper=

    if [ "$status" -eq 0 ]; then
        plain="{\"ids\": [\"$receipt\"]}"
        body=$plain
        if jq -se 'length == 1' "$work/output" >/dev/null 2>&1; then
            body=$(jq -c --arg id "$receipt" '{ids: [$id], result: .}' "$work/output")
        fi
        # A server that has no room for the result takes the acknowledgement without: work that is done makes room.
        post /ack/ "$body" "$plain" >/dev/null
        echo "$id done" >&2
    else
        error=$(tail -n 1 "$work/error" | head -c 1000)
        post /nak/ "$(jq -cn --arg id "$receipt" --arg error "${error:-exit status $status}" '{ids: [$id], error: $error}')" \
            >/dev/null
        echo "$id refused: ${error:-exit status $status}" >&2
    fi
done
