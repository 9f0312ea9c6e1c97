/* SPDX-License-Identifier: Apache-2.0
 *
 * answer.c - see answer.h.
 *
 * Memory for the pieces of one message is taken in one block a kind and given back when it is packed.
 */
#include "devices/l7_worker/answer.h"

#include <math.h>
#include <string.h>

#include "dbe/payload.h"
#include "devices/l7_worker/tools.h"

enum { LOGPROB_MIN = -9999 }; /* stands for minus infinity, which payloads do not carry */

/* Returns how many of the last `behind` bytes are left. */
static size_t remove_nuls(struct base_buf *text, size_t behind)
{
    const size_t before = text->len - BASE_MIN(behind, text->len);
    size_t to = 0, left = 0;

    for (size_t from = 0; from < text->len; from++)
        if (text->data[from] != '\0') {
            text->data[to++] = text->data[from];
            left += from >= before;
        }
    text->len = to;
    return left;
}

static float ms_of(uint64_t ns)
{
    return (float)((double)ns / (double)BASE_NS_PER_MS);
}

/* ---- probabilities ---------------------------------------------------------------------------------------------- */

struct probs { /* of one choice, as the packer wants them */
    Dsmil__TokenLogprob *tokens, **list;
    Dsmil__TokenAlternative *tops, **top_list;
    size_t count;
};

static void probs_free(struct probs *p)
{
    base_free(p->tokens);
    base_free(p->list);
    base_free(p->tops);
    base_free(p->top_list);
}

/* Without the first `lead`, which are not told. */
static ProtobufCBinaryData bytes_of(const struct llm_model *model, int32_t id, size_t lead)
{
    ProtobufCBinaryData data = {0};
    const char *bytes = llm_token_bytes(model, id, &data.len);

    lead = BASE_MIN(lead, data.len);
    data.data = (uint8_t *)(uintptr_t)(bytes + lead);
    data.len -= lead;
    return data;
}

static float told_logprob(float logprob)
{
    return isfinite(logprob) ? BASE_MAX(logprob, (float)LOGPROB_MIN) : (float)LOGPROB_MIN;
}

static void fill_prob(const struct llm_model *model, const struct llm_token_prob *from, Dsmil__TokenLogprob *to,
                      Dsmil__TokenAlternative *tops, Dsmil__TokenAlternative **list)
{
    dsmil__token_logprob__init(to);
    to->token = bytes_of(model, from->id, from->lead);
    to->first = isnan(from->logprob);
    if (to->first)
        return;
    to->logprob = told_logprob(from->logprob);
    to->top = list;
    /* the chosen one is an alternative, too: it stands where its probability puts it */
    bool placed = false;
    for (uint32_t i = 0; i <= from->top_count; i++) {
        bool chosen = !placed && (i == from->top_count || from->logprob >= from->top[i].logprob);
        int32_t id = chosen ? from->id : from->top[placed ? i - 1 : i].id;
        float logprob = chosen ? from->logprob : from->top[placed ? i - 1 : i].logprob;
        dsmil__token_alternative__init(&tops[i]);
        tops[i].token = bytes_of(model, id, chosen ? from->lead : 0);
        tops[i].logprob = told_logprob(logprob);
        list[i] = &tops[i];
        placed |= chosen;
    }
    to->n_top = from->top_count + 1U;
}

static dbe_err fill_probs(const struct llm_model *model, const struct base_buf *from, struct probs *ret)
{
    struct llm_token_prob prob;
    size_t count = from != NULL ? from->len / sizeof prob : 0;

    if (count == 0)
        return DBE_OK;
    ret->tokens = base_alloc(count, sizeof *ret->tokens);
    ret->list = base_alloc(count, sizeof *ret->list);
    ret->tops = base_alloc(count, LLM_LOGPROBS_MAX * sizeof *ret->tops);
    ret->top_list = base_alloc(count, LLM_LOGPROBS_MAX * sizeof *ret->top_list);
    if (ret->tokens == NULL || ret->list == NULL || ret->tops == NULL || ret->top_list == NULL)
        return DBE_E_NOMEM;
    for (size_t i = 0; i < count; i++) {
        memcpy(&prob, from->data + i * sizeof prob, sizeof prob);
        fill_prob(model, &prob, &ret->tokens[i], &ret->tops[i * LLM_LOGPROBS_MAX],
                  &ret->top_list[i * LLM_LOGPROBS_MAX]);
        ret->list[i] = &ret->tokens[i];
    }
    ret->count = count;
    return DBE_OK;
}

/* ---- choices ---------------------------------------------------------------------------------------------------- */

struct packing {
    Dsmil__Choice choice;
    Dsmil__ChatMessage message;
    Dsmil__ToolCall calls[WORKER_CALLS_MAX], *call_list[WORKER_CALLS_MAX];
    struct worker_calls read;
    struct probs probs;
};

static dbe_err fill_calls(const struct base_buf *from, size_t *called, struct packing *to)
{
    DBE_TRY(worker_calls_read((const char *)from->data + *called, from->len - *called, &to->read));
    *called += to->read.end;
    for (size_t i = 0; i < to->read.count; i++) {
        to->call_list[i] = &to->calls[i];
        dsmil__tool_call__init(&to->calls[i]);
        to->calls[i].id = to->read.list[i].id;
        to->calls[i].name = to->read.list[i].name;
        to->calls[i].arguments = to->read.list[i].arguments;
    }
    to->message.tool_calls = to->call_list;
    to->message.n_tool_calls = to->read.count;
    return DBE_OK;
}

static dbe_err fill_choice(const struct llm_model *model, const struct worker_choice *from, struct packing *to)
{
    static char assistant[] = "assistant", stop[] = "stop", length[] = "length", tool_calls[] = "tool_calls";

    dsmil__choice__init(&to->choice);
    to->choice.behind_calls = (uint32_t)remove_nuls(from->text, from->behind);
    dsmil__chat_message__init(&to->message);
    to->message.role = assistant;
    to->message.content = (char *)(uintptr_t)base_buf_cstr(from->text);
    to->choice.index = from->index;
    to->choice.message = &to->message;
    DBE_TRY(from->text->err);
    if (from->call != NULL && from->call->len > *from->called)
        DBE_TRY(fill_calls(from->call, from->called, to));
    if (from->result != NULL)
        to->choice.finish_reason = from->result->finish == LLM_FINISH_LENGTH ? length
                                   : from->call != NULL && *from->called > 0 ? tool_calls
                                                                             : stop;
    DBE_TRY(fill_probs(model, from->probs, &to->probs));
    to->choice.logprobs = to->probs.list;
    to->choice.n_logprobs = to->probs.count;
    return DBE_OK;
}

static void fill_usage(Dsmil__Usage *usage, const struct engine_result *r)
{
    dsmil__usage__init(usage);
    usage->prompt_tokens = r->prompt_tokens;
    usage->cached_tokens = r->cached_tokens;
    usage->completion_tokens = r->answer_tokens;
    usage->total_tokens = r->prompt_tokens + r->answer_tokens;
}

/* A receiver takes no more elements than that, however small they are. */
static dbe_err check_elements(const Dsmil__L7ChatResponse *r)
{
    size_t count = r->n_choices;

    for (size_t i = 0; i < r->n_choices; i++) {
        count += r->choices[i]->n_logprobs + r->choices[i]->message->n_tool_calls;
        for (size_t k = 0; k < r->choices[i]->n_logprobs; k++)
            count += r->choices[i]->logprobs[k]->n_top;
    }
    return count <= DBE_PAYLOAD_ELEMENTS_MAX ? DBE_OK : DBE_E_TOO_LARGE;
}

dbe_err worker_answer_pack(const struct worker_answer *answer, struct base_buf *out)
{
    Dsmil__L7ChatResponse response = DSMIL__L7_CHAT_RESPONSE__INIT;
    struct packing *all = base_alloc(WORKER_ANSWERS_MAX, sizeof *all);
    Dsmil__Choice *list[WORKER_ANSWERS_MAX];
    Dsmil__Usage usage;
    dbe_err err = all == NULL ? DBE_E_NOMEM : answer->count <= WORKER_ANSWERS_MAX ? DBE_OK : DBE_E_ARGUMENT;

    response.choices = list;
    response.model = (char *)(uintptr_t)answer->model;
    response.fingerprint = (char *)(uintptr_t)answer->fingerprint;
    response.device_id = answer->device;
    for (size_t i = 0; i < answer->count && err == DBE_OK; i++) {
        err = fill_choice(answer->llm, &answer->choices[i], &all[i]);
        list[response.n_choices++] = &all[i].choice;
    }
    if (answer->totals != NULL) {
        fill_usage(&usage, answer->totals);
        response.usage = &usage;
        response.latency_ms = ms_of(answer->totals->total_ns);
        response.ttft_ms = ms_of(answer->totals->first_token_ns);
        if (answer->receipt != NULL)
            response.receipt = (ProtobufCBinaryData){answer->receipt->len, answer->receipt->data};
    }
    if (err == DBE_OK)
        err = check_elements(&response);
    if (err == DBE_OK) {
        void *room = base_buf_grow(out, dsmil__l7_chat_response__get_packed_size(&response));
        err = room == NULL ? out->err : DBE_OK;
        if (room != NULL)
            (void)dsmil__l7_chat_response__pack(&response, room);
    }
    for (size_t i = 0; all != NULL && i < WORKER_ANSWERS_MAX; i++) {
        worker_calls_free(&all[i].read);
        probs_free(&all[i].probs);
    }
    base_free(all);
    return err;
}

/* ---- vectors ---------------------------------------------------------------------------------------------------- */

dbe_err worker_answer_pack_embed(const struct worker_answer *answer, const struct base_buf *vectors, size_t count,
                                 struct base_buf *out)
{
    Dsmil__L7EmbedResponse response = DSMIL__L7_EMBED_RESPONSE__INIT;
    const size_t bytes = count > 0 ? vectors->len / count : 0;
    Dsmil__Embedding *data = base_alloc(count + 1, sizeof *data), **list = base_alloc(count + 1, sizeof(void *));
    Dsmil__Usage usage;
    void *room = NULL;

    if (data != NULL && list != NULL) {
        for (size_t i = 0; i < count; i++) {
            dsmil__embedding__init(&data[i]);
            data[i].values = (ProtobufCBinaryData){bytes, vectors->data + i * bytes};
            list[i] = &data[i];
        }
        fill_usage(&usage, answer->totals);
        response.n_data = count;
        response.data = list;
        response.model = (char *)(uintptr_t)answer->model;
        response.device_id = answer->device;
        response.usage = &usage;
        room = base_buf_grow(out, dsmil__l7_embed_response__get_packed_size(&response));
        if (room != NULL)
            (void)dsmil__l7_embed_response__pack(&response, room);
    }
    const dbe_err err = data == NULL || list == NULL ? DBE_E_NOMEM : out->err;
    base_free(data);
    base_free(list);
    return room != NULL ? DBE_OK : err;
}
