#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The requests of docs/openai.md by curl, against the gateway that DSMIL_URL and DSMIL_KEY name.
# Out: a line a case; exit code 0 if all are as they should be.
set -euo pipefail
failed=0

# ask NAME STATUS PATTERN PATH [CURL OPTIONS]: the answer's status, and a pattern that it holds
ask() {
    local name=$1 status=$2 pattern=$3 path=$4 out
    shift 4
    out=$(curl -sS --max-time 60 -w '\n%{http_code}' "$DSMIL_URL/$path" -H "Authorization: Bearer $DSMIL_KEY" \
        -H 'Content-Type: application/json' "$@")
    if [ "${out##*$'\n'}" = "$status" ] && grep -q -- "$pattern" <<<"$out"; then
        echo "ok   $name"
    else
        echo "FAIL $name: $out"
        failed=1
    fi
}

chat='"model": "dsmil", "messages": [{"role": "user", "content": "What is DSMIL?"}], "max_tokens": 8'
ask models 200 '"object":"list"' models
ask chat 200 '"object":"chat.completion"' chat/completions -d "{$chat}"
ask stream 200 '^data: \[DONE\]' chat/completions -N -d "{$chat, \"stream\": true}"
ask completion 200 '"object":"text_completion"' completions -d '{"model": "dsmil", "prompt": "DSMIL is"}'
ask embedding 200 '"object":"embedding"' embeddings -d '{"model": "dsmil", "input": "DSMIL"}'
ask response 200 '"object":"response"' responses -d '{"model": "dsmil", "input": "Hi", "max_output_tokens": 8}'
ask 'ignored parameter' 400 '"param":"top_k"' chat/completions -d "{$chat, \"top_k\": 4}"
ask 'broken JSON' 400 invalid_json chat/completions -d '{'
DSMIL_KEY=wrong ask 'wrong key' 401 invalid_api_key models
exit $failed
