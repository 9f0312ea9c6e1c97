/* SPDX-License-Identifier: Apache-2.0
 *
 * batch_plan.c - who gets which rows of a pass.
 *
 * In:   sessions, what the prefix cache has. Out: rows for llm_forward, and whose they are.
 *
 * Rows of answers come first and each has its logits in the shared buffer, one behind the other, so that the output
 * matrix runs over all of them at once. What room is left belongs to prompts. It is granted a page at a time to the
 * salt, and of its sessions to the one, that was served longest ago: who asks for much does not push aside who asks for
 * little.
 */
#include <string.h>

#include "batch_pass.h"
#include "prefix.h"

enum { PREFILL_BESIDE_DECODE = 128 }; /* rows of prompts in a pass that others wait for with a token each */

static float *take_logits(struct llm_model *m)
{
    return m->batch->logits + m->batch->logits_used++ * m->shape.n_vocab;
}

/* What a session asks of guesses; false: nothing. `share`: rows that it may have for them. */
static bool asks_for(struct llm_session *s, uint32_t share, struct llm_ask *out)
{
    s->spec.count = 0;
    if (s->done || atomic_load(&s->cancel) || llm_spec_most(&s->spec) == 0)
        return false;
    *out = (struct llm_ask){&s->spec, s->tokens, s->prompt_count + s->answered, 0, &s->sampler};
    if (batch_in_prompt(s))
        return s->spec.draft != NULL;
    out->most = BASE_MIN(share, s->max_tokens - s->answered - 1);
    return out->most > 0;
}

/* Many answers in a pass use the machine well without guesses, so they share a number of rows for these. */
void batch_guess(struct llm_session *const *sessions, size_t count)
{
    struct llm_ask asks[LLM_SESSIONS_MAX];
    uint32_t answers = 0;
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        answers += !batch_in_prompt(sessions[i]) && !sessions[i]->done;
    const uint32_t share = answers < BATCH_GUESSED_ROWS ? (BATCH_GUESSED_ROWS - answers) / BASE_MAX(answers, 1U) : 0;
    for (size_t i = 0; i < count; i++)
        n += asks_for(sessions[i], share, &asks[n]);
    llm_spec_guess(asks, n, answers);
}

void batch_plan_decode(struct llm_model *m)
{
    struct llm_batch *b = m->batch;

    for (size_t i = 0; i < b->slot_count; i++) {
        struct batch_slot *t = &b->slots[i];
        struct llm_session *s = t->s;
        if (batch_in_prompt(s))
            continue;
        const uint32_t pos = s->prompt_count + s->answered - 1;
        t->first = (uint32_t)b->row_count;
        t->count = 1 + s->spec.count;
        for (uint32_t r = 0; r < t->count; r++) {
            float *logits = take_logits(m);
            t->logits = r == 0 ? logits : t->logits;
            b->rows[b->row_count++] =
                (struct llm_row){&s->kv, pos + r, r == 0 ? s->tokens[pos] : s->spec.drafts[r - 1], logits, false};
        }
    }
}

static bool same_salt(const struct llm_session *a, const struct llm_session *b)
{
    return a->has_salt == b->has_salt && memcmp(a->salt, b->salt, sizeof a->salt) == 0;
}

/* Does `other` compute the page that `slot` needs next, so that it can be shared? The one that is ahead computes; of
 * equals the first. */
static bool computes_for(const struct batch_slot *other, const struct batch_slot *slot)
{
    const struct llm_session *o = other->s, *s = slot->s;
    const uint32_t page = s->prefilled / LLM_KV_PAGE * LLM_KV_PAGE, end = page + LLM_KV_PAGE;

    if (!s->has_salt || s->scored || o == s || o->prefilled >= end || o->prompt_count < end || s->prompt_count <= end)
        return false;
    if (o->prefilled < s->prefilled || (o->prefilled == s->prefilled && other > slot))
        return false;
    return same_salt(o, s) && memcmp(o->tokens, s->tokens, end * sizeof *s->tokens) == 0;
}

static void take_cached(struct llm_model *m, struct llm_session *s)
{
    const uint32_t done = llm_prefix_take(m, s->salt, s->tokens, s->prompt_count, s->prefilled, &s->kv);

    s->cached += done - s->prefilled;
    s->prefilled = done;
}

/* Take what the prefix cache has for sessions in their prompts, and find their tenants. */
static void look_at_prompts(struct llm_model *m)
{
    struct llm_batch *b = m->batch;

    for (uint32_t i = 0; i < b->slot_count; i++) {
        struct llm_session *s = b->slots[i].s;
        if (batch_in_prompt(s) && s->has_salt && !s->scored)
            take_cached(m, s);
    }
    for (uint32_t i = 0; i < b->slot_count; i++) {
        struct batch_slot *t = &b->slots[i];
        for (t->tenant = 0; t->tenant < i && !same_salt(b->slots[t->tenant].s, t->s);)
            t->tenant++;
        b->served[i] = 0;
        b->served[t->tenant] = BASE_MAX(b->served[t->tenant], t->s->turn);
        for (uint32_t j = 0; batch_in_prompt(t->s) && j < b->slot_count && !t->waits; j++)
            t->waits = computes_for(&b->slots[j], t);
    }
}

/* Who gets the next rows: of the salts, then of the sessions, the one served longest ago. NULL: nobody needs any. */
static struct batch_slot *next_prompt(struct llm_batch *b)
{
    struct batch_slot *best = NULL;

    for (size_t i = 0; i < b->slot_count; i++) {
        struct batch_slot *t = &b->slots[i];
        if (!batch_in_prompt(t->s) || t->waits ||
            t->count >= BASE_MIN(t->s->chunk, t->s->prompt_count - t->s->prefilled))
            continue;
        if (!best || b->served[t->tenant] < b->served[best->tenant] ||
            (t->tenant == best->tenant && t->s->turn < best->s->turn))
            best = t;
    }
    return best;
}

/* Share `room` rows out. */
static void grant(struct llm_batch *b, uint32_t room)
{
    struct batch_slot *t;

    while (room > 0 && (t = next_prompt(b)) != NULL) {
        const uint32_t most = BASE_MIN(t->s->chunk, t->s->prompt_count - t->s->prefilled) - t->count;
        const uint32_t n = BASE_MIN(BASE_MIN(most, (uint32_t)LLM_KV_PAGE), room);
        t->count += n;
        room -= n;
        t->s->turn = b->served[t->tenant] = ++b->clock;
    }
}

void batch_plan_prompts(struct llm_model *m)
{
    struct llm_batch *b = m->batch;
    const uint32_t room = LLM_BATCH_MAX - (uint32_t)b->row_count;

    look_at_prompts(m);
    grant(b, b->row_count > 0 ? BASE_MIN(room, (uint32_t)PREFILL_BESIDE_DECODE) : room);
    for (size_t i = 0; i < b->slot_count; i++) {
        struct batch_slot *t = &b->slots[i];
        struct llm_session *s = t->s;
        if (!batch_in_prompt(s) || t->count == 0)
            continue;
        t->first = (uint32_t)b->row_count;
        for (uint32_t r = 0; r < t->count; r++) {
            const uint32_t pos = s->prefilled + r;
            if (pos + 1 == s->prompt_count && !s->prompt_only)
                t->logits = take_logits(m);
            b->rows[b->row_count++] = (struct llm_row){&s->kv, pos, s->tokens[pos], NULL, true};
        }
        b->rows[b->row_count - 1].logits = t->logits;
    }
}
