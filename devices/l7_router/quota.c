/* SPDX-License-Identifier: Apache-2.0
 *
 * quota.c - see quota.h.
 *
 * What a request takes at most is reserved: its prompt has no more tokens than its payload has bytes, its answer no
 * more than it asks for or than the context leaves. A payload that the router cannot read (it is sealed) counts as a
 * whole context. Only requests of tenants with a limit of tokens or of KV bytes are looked into, for these numbers.
 */
#include "devices/l7_router/quota.h"

#include <string.h>

#include "dbe/payload.h"
#include "devices/l7_router/router.h"
#include "dsmil.pb-c.h"

enum { ANSWERS_MAX = 32, CONTEXT_UNKNOWN = 131072 }; /* no worker has said; it will be refused or wait anyway */

/* Of the models that serve the profile, the largest. */
static void model_bounds(const struct router_job *job, uint64_t *ret_context, uint64_t *ret_kv_per_token)
{
    const struct router *r = job->router;

    *ret_context = *ret_kv_per_token = 0;
    for (size_t i = 0; i < r->worker_count; i++)
        for (size_t m = 0; m < r->workers[i].model_count; m++) {
            const struct router_model *model = &r->workers[i].models[m];
            if (strcmp(model->profile, job->profile->name) != 0)
                continue;
            *ret_context = BASE_MAX(*ret_context, (uint64_t)model->context_tokens);
            *ret_kv_per_token = BASE_MAX(*ret_kv_per_token, model->kv_bytes_per_token);
        }
    if (*ret_context == 0)
        *ret_context = CONTEXT_UNKNOWN;
}

/* Tokens of prompt and answers together, at most. */
static uint64_t chat_bound(const struct dbe_msg *msg, uint64_t context)
{
    Dsmil__L7ChatRequest *chat = NULL;
    uint64_t one = context, answers = 1;

    if (dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) == DBE_OK)
        chat = dsmil__l7_chat_request__unpack(NULL, msg->payload_len, msg->payload);
    if (chat == NULL)
        return context;
    if (chat->has_max_tokens_case == DSMIL__L7_CHAT_REQUEST__HAS_MAX_TOKENS_MAX_TOKENS)
        one = BASE_MIN(context, (uint64_t)msg->payload_len + chat->max_tokens);
    answers = BASE_MAX(chat->n, 1u);
    if (chat->sealed.len > 0) { /* what it asks for cannot be read, but for this */
        one = context;
        answers = BASE_MAX(BASE_MIN(chat->answers, (uint32_t)ANSWERS_MAX), 1u);
    } else if (chat->raw)
        answers *= BASE_MAX(chat->n_messages + chat->n_prompts, (size_t)1);
    dsmil__l7_chat_request__free_unpacked(chat, NULL);
    return one * answers;
}

static uint64_t token_bound(const struct router_job *job, const struct dbe_msg *msg, uint64_t context)
{
    if (msg->type == DBE_MSG_L7_CHAT_REQ)
        return chat_bound(msg, context);
    return job->profile->task ? 0 : BASE_MIN((uint64_t)msg->payload_len, UINT32_MAX); /* an agent's calls count */
}

dbe_err router_quota_take(struct router_job *job, const struct dbe_msg *msg)
{
    const char *name = svc_req_labels(job->req)->tenant;
    const struct pol_tenant *tenant = pol_policy_tenant(svc_policy(job->svc), name);
    uint64_t tokens = 0, context, kv_per_token = 0;

    if (tenant == NULL) /* the policy changed after the message was let in */
        return DBE_OK;
    const struct pol_limits *l = &tenant->limits;
    if (l->tokens.count != 0 || l->kv_bytes != 0) {
        model_bounds(job, &context, &kv_per_token);
        tokens = token_bound(job, msg, context);
    }
    dbe_err err = pol_rate_reserve(job->router->rates, name, l, tokens, tokens * kv_per_token,
                                   svc_now_ns(job->svc) / BASE_NS_PER_MS, &job->hold.ticket, &job->hold.why);
    return err == DBE_E_LIMIT && job->hold.why.retry_after_ms == 0 ? DBE_E_TOO_LARGE : err;
}

/* What the worker counted, where it says so. */
static void note_usage(struct router_job *job, const Dsmil__Usage *usage)
{
    job->hold.told = usage != NULL;
    if (usage != NULL)
        job->hold.tokens = (uint64_t)usage->prompt_tokens + usage->completion_tokens;
}

void router_quota_note(struct router_job *job, const struct dbe_msg *msg)
{
    if (job->hold.ticket.tokens == 0 || dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL) != DBE_OK)
        return;
    if (msg->type == DBE_MSG_L7_CHAT_RESP) {
        Dsmil__L7ChatResponse *chat = dsmil__l7_chat_response__unpack(NULL, msg->payload_len, msg->payload);
        if (chat != NULL)
            note_usage(job, chat->usage);
        dsmil__l7_chat_response__free_unpacked(chat, NULL);
    } else if (msg->type == DBE_MSG_L7_EMBED_RESP) {
        Dsmil__L7EmbedResponse *embed = dsmil__l7_embed_response__unpack(NULL, msg->payload_len, msg->payload);
        if (embed != NULL)
            note_usage(job, embed->usage);
        dsmil__l7_embed_response__free_unpacked(embed, NULL);
    }
}

void router_quota_end(struct router_job *job)
{
    const uint64_t now_ms = svc_now_ns(job->svc) / BASE_NS_PER_MS;
    struct pol_ticket *t = &job->hold.ticket;

    if (job->attempts == 0) /* no worker ever had it */
        pol_rate_refund(job->router->rates, t, now_ms);
    else if (job->hold.told)
        pol_rate_settle(job->router->rates, t, job->hold.tokens, now_ms);
    else if (!job->relayed) /* nothing of an answer: the request counts, its tokens do not */
        pol_rate_settle(job->router->rates, t, 0, now_ms);
    else /* broken off: nobody said how many it were */
        pol_rate_settle(job->router->rates, t, t->tokens, now_ms);
}
