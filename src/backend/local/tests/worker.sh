#!/bin/sh
# A model's process that runs foreign code. The name under which it is started selects how it misbehaves.

say_ready() {
    echo '{"hello":{"version":6}}'
    echo '{"ready":{"n_ctx":512,"kv_cells":512,"load_ms":1}}'
}

wait_for_call() {
    while read -r command; do
        case $command in *call*) return ;; esac
    done
}

x() {
    head -c "$1" /dev/zero | tr '\0' x
}

case ${0##*/} in
endless-line)
    x 100000000000
    ;;
long-line-of-errors)
    x 1000000000 >&2
    echo >&2
    echo 'the end' >&2
    exit 3
    ;;
flood)
    yes 'ERROR llama-cpp-2: again' | head -n 1000000 >&2
    echo 'the end' >&2
    exit 3
    ;;
long-answer)
    say_ready
    wait_for_call
    printf '{"call":{"id":1,"update":{"done":{"generated":{"text":"'
    x 5121
    echo '","finish_reason":"stop","phase":"generate","still_thinking":false,"seed":1,"usage":{"prompt_tokens":1,"cached_tokens":0,"completion_tokens":1,"thinking_tokens":0,"forced_tokens":0,"drafted_tokens":0,"accepted_tokens":0,"queue_ms":0,"load_ms":0,"prefill_ms":0,"decode_ms":0}}}}}}'
    cat
    ;;
huge-answer)
    say_ready
    wait_for_call
    printf '{"call":{"id":1,"update":{"done":{"generated":{"text":"'
    x 100000000
    cat
    ;;
failed)
    say_ready
    wait_for_call
    echo '{"failed":{"kind":"load","text":"could not create a context of 512 cells"}}'
    cat
    ;;
child)
    say_ready
    wait_for_call
    # It inherits all pipes.
    sleep 1000 &
    echo "child $!" >&2
    exit 3
    ;;
escape)
    printf '{"load_failed":{"kind":"load","text":"why\\u001b[31m\\u202e\\n%s"}}\n' "$(x 100000)"
    ;;
esac
