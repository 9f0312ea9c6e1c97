/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_chat_request.c - what a worker reads: L7ChatRequest and L7EmbedRequest payloads, with the schemas in them, and
 * the text of calls.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "devices/l7_worker/request.h"
#include "devices/l7_worker/tools.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void fuzz_chat(const uint8_t *data, size_t size)
{
    struct worker_defaults defaults = {.temperature = 0.5f, .top_p = 1.0f, .vocab = 1000, .tools.form = size % 4};
    struct worker_request request;
    const char *reason = NULL;

    if (worker_request_read(data, size, &defaults, &request, &reason) != DBE_OK)
        return;
    must(request.n >= 1 && request.n <= request.count && request.count <= WORKER_ANSWERS_MAX);
    for (size_t i = 0; i < request.chat.count; i++)
        must(strlen(request.chat.messages[i].text) == request.chat.messages[i].text_len &&
             (defaults.tools.form != LLM_TOOLS_TEXT || strcmp(request.chat.messages[i].role, "tool") != 0));
    must(request.chat.count >= 1 || (request.chat.raw && request.chat.tokens != NULL));
    for (uint32_t i = 0; i < request.count; i++) {
        struct engine_chat one = request.chat;
        worker_request_prompt(&one, i, request.n);
        must(one.tokens != NULL ? one.tokens->count >= 1 : one.messages->text != NULL);
    }
    if (!request.formed && worker_request_form(&request, NULL) != DBE_OK) {
        request.chat.free_owned(request.chat.owned);
        return;
    }
    must((request.chat.call.mark != NULL) == (request.chat.call.grammar != NULL));
    request.chat.free_owned(request.chat.owned);
}

static void fuzz_embed(const uint8_t *data, size_t size)
{
    struct engine_chat chat;
    const char *reason = NULL;

    const struct worker_defaults defaults = {.vocab = 1000};
    if (worker_request_read_embed(data, size, &defaults, &chat, &reason) != DBE_OK)
        return;
    must(chat.input_count >= 1);
    for (size_t i = 0; i < chat.input_count; i++)
        must(chat.tokens != NULL ? chat.tokens[i].count >= 1 : chat.inputs[i][0] != '\0');
    chat.free_owned(chat.owned);
}

static void fuzz_call(const uint8_t *data, size_t size)
{
    struct worker_calls calls;

    if (worker_calls_read((const char *)data, size, &calls) != DBE_OK)
        return;
    must(calls.end <= size && calls.count <= WORKER_CALLS_MAX);
    for (size_t i = 0; i < calls.count; i++)
        must(calls.list[i].name != NULL && calls.list[i].arguments != NULL &&
             strncmp(calls.list[i].id, "call_", 5) == 0);
    worker_calls_free(&calls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 3) {
    case 0: fuzz_chat(data + 1, size - 1); break;
    case 1: fuzz_embed(data + 1, size - 1); break;
    default: fuzz_call(data + 1, size - 1); break;
    }
    return 0;
}
