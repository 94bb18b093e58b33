#!/usr/bin/env bash
# A worker for emq in shell: runs a command for each task, one at a time.
#
#   examples/worker.sh [--url URL] QUEUE... -- COMMAND [ARGUMENT...]
#
# The command reads the task's content, as JSON, from its standard input. EMQ_ID, EMQ_QUEUE and EMQ_ATTEMPT have the
# task's id, queue and attempt. If the command exits with status 0, the worker acknowledges the task; if the output is
# JSON, it is the task's result. Otherwise the worker naks the task, with the last line of standard error as the
# error. emq then tries the task again, or the task is dead.
#
# If the server requires a token, set EMQ_TOKEN to one that allows work.
#
# The worker takes tasks from earlier queues first. On SIGTERM and SIGINT it finishes the current task and exits. It
# needs bash, curl 7.82 or newer, and jq (versions before 1.7 round numbers of more than 17 digits).
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # so that `sh worker.sh` works too
set -euo pipefail

case ${1:-} in
-h | --help)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac
url=http://localhost:8080
if [ "${1:-}" = --url ]; then
    url=${2:?--url needs a URL}
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
    command -v "$program" >/dev/null || { echo "$0: command not found: $program" >&2; exit 2; }
done

work=$(mktemp -d)
# In a file, no other user sees the token in the list of processes.
printf '%s' "${EMQ_TOKEN:+Authorization: Bearer $EMQ_TOKEN}" >"$work/fields"
keeper=
poll=
stopping=
stop() {
    stopping=1
    # When the client disconnects, the server takes no task for it.
    [ -z "$poll" ] || kill "$poll" 2>/dev/null || true
}
trap stop TERM INT
trap '[ -z "$keeper" ] || kill "$keeper" 2>/dev/null; rm -rf "$work"' EXIT

request=$(jq -cn --arg worker "$(hostname)-$$" '{queues: $ARGS.positional, max: 1, timeout: 30000, worker: $worker}' \
    --args "${queues[@]}")

# Sends a request, and retries while the server is unreachable or has no memory or disk space. If there is a third
# argument, the retries send that instead.
post() {
    local body=$2
    until printf %s "$body" | curl -sS --fail-with-body -H "@$work/fields" --json @- "$url$1"; do
        body=${3:-$body}
        sleep 1
    done
}

# Restarts the lease of a task each time half of it is over.
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
    curl -sS --fail-with-body -H "@$work/fields" --json "$request" -o "$work/answer" "$url/wait/" &
    poll=$!
    # The signal may have come before poll was set. A signal also ends the `wait` below early.
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
    # The command has its own session, so that Ctrl-C stops the worker but not the command.
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
        # A server without memory for the result accepts the acknowledgement without it, because that frees memory.
        post /ack/ "$body" "$plain" >/dev/null
        echo "$id done" >&2
    else
        error=$(tail -n 1 "$work/error" | head -c 1000)
        post /nak/ "$(jq -cn --arg id "$receipt" --arg error "${error:-exit status $status}" '{ids: [$id], error: $error}')" \
            >/dev/null
        echo "$id nak: ${error:-exit status $status}" >&2
    fi
done
