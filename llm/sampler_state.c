/* SPDX-License-Identifier: Apache-2.0
 *
 * sampler_state.c - what a sampler keeps: parameters that were checked, the tokens so far, memory to work in.
 *
 * In:   parameters of a request, which are hostile; tokens. Out: a sampler, or which parameter is wrong.
 * Not:  no draw (sampler.c).
 */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "sampler_best.h"

static dbe_err bad(struct dbe_diag *diag, const char *name, const char *range)
{
    return dbe_fail(diag, DBE_E_ARGUMENT, name, 0, "%s must be %s", name, range);
}

static dbe_err check(const struct llm_session_params *p, uint32_t n_vocab, struct dbe_diag *diag)
{
    if (!(p->temperature >= 0 && p->temperature <= 2))
        return bad(diag, "temperature", "from 0 to 2");
    if (!(p->top_p >= 0 && p->top_p <= 1))
        return bad(diag, "top_p", "from 0 to 1");
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return bad(diag, "min_p", "from 0 to 1");
    if (!(p->repetition_penalty >= 0 && p->repetition_penalty <= 2))
        return bad(diag, "repetition_penalty", "from 0 to 2");
    if (!(p->presence_penalty >= -2 && p->presence_penalty <= 2))
        return bad(diag, "presence_penalty", "from -2 to 2");
    if (!(p->frequency_penalty >= -2 && p->frequency_penalty <= 2))
        return bad(diag, "frequency_penalty", "from -2 to 2");
    if (p->logprobs > LLM_LOGPROBS_MAX)
        return bad(diag, "logprobs", "at most 21");
    if (p->bias_count > LLM_BIASES_MAX)
        return bad(diag, "logit_bias", "for at most 1024 tokens");
    for (size_t i = 0; i < p->bias_count; i++) {
        if (p->biases[i].id < 0 || (uint32_t)p->biases[i].id >= n_vocab)
            return bad(diag, "logit_bias", "for tokens of the vocabulary");
        if (!(p->biases[i].bias >= -100 && p->biases[i].bias <= 100))
            return bad(diag, "logit_bias", "from -100 to 100");
    }
    return DBE_OK;
}

/* A power of two that stays at most half full. */
static size_t slots_for(uint32_t tokens)
{
    size_t slots = 16;

    while (slots < 2 * (size_t)tokens)
        slots *= 2;
    return slots;
}

dbe_err llm_sampler_init(const struct llm_session_params *p, uint32_t n_vocab, size_t tokens_max,
                         struct llm_sampler *out, struct dbe_diag *diag)
{
    const float repetition = p->repetition_penalty > 0 ? p->repetition_penalty : 1;
    struct llm_sampler s = {p->temperature,
                            p->top_p,
                            p->min_p,
                            repetition,
                            p->presence_penalty,
                            p->frequency_penalty,
                            p->top_k,
                            p->logprobs,
                            n_vocab,
                            p->seed,
                            0,
                            NULL,
                            p->bias_count,
                            NULL,
                            NULL,
                            0,
                            0,
                            0};
    const bool counts = repetition < 1 || repetition > 1 || fabsf(s.presence) > 0 || fabsf(s.frequency) > 0;

    DBE_TRY(check(p, n_vocab, diag));
    if (counts) {
        s.seen_max = (uint32_t)BASE_MIN(tokens_max, (size_t)n_vocab);
        s.slot_mask = (uint32_t)(slots_for(s.seen_max) - 1);
        s.seen = base_alloc((size_t)s.seen_max + 1, sizeof *s.seen);
        s.slots = base_alloc((size_t)s.slot_mask + 1, sizeof *s.slots);
    }
    if (p->bias_count > 0)
        s.biases = base_alloc(p->bias_count, sizeof *s.biases);
    if ((counts && (!s.seen || !s.slots)) || (p->bias_count > 0 && !s.biases)) {
        llm_sampler_fini(&s);
        return dbe_fail(diag, DBE_E_NOMEM, "sampler", 0, "no memory for sampling");
    }
    if (p->bias_count > 0)
        memcpy(s.biases, p->biases, p->bias_count * sizeof *s.biases);
    *out = s;
    return DBE_OK;
}

void llm_sampler_fini(struct llm_sampler *s)
{
    base_free(s->biases);
    base_free(s->seen);
    base_free(s->slots);
    *s = (struct llm_sampler){0};
}

void llm_sampler_note(struct llm_sampler *s, int32_t id, bool is_prompt)
{
    uint32_t at;

    if (!is_prompt)
        s->position++;
    if (!s->seen || id < 0 || (uint32_t)id >= s->n_vocab)
        return;
    at = ((uint32_t)id * 0x9e3779b1u >> 7) & s->slot_mask;
    while (s->slots[at] != 0 && s->seen[s->slots[at] - 1].id != id)
        at = (at + 1) & s->slot_mask;
    if (s->slots[at] == 0) {
        if (s->seen_count == s->seen_max)
            return;
        s->seen[s->seen_count++] = (struct sampler_seen){id, 0};
        s->slots[at] = s->seen_count;
    }
    if (!is_prompt)
        s->seen[s->slots[at] - 1].answer++;
}

dbe_err llm_sampler_scratch_init(size_t n, struct sampler_scratch *out)
{
    const size_t blocks = n / SAMPLER_BLOCK + 1;
    struct sampler_scratch s = {n, base_alloc(blocks * SAMPLER_BLOCK, sizeof(float)),
                                base_alloc(blocks * SAMPLER_BLOCK, sizeof(float)), base_alloc(blocks, sizeof(float)),
                                base_alloc(n, sizeof(struct sampler_candidate))};

    if (!s.z || !s.p || !s.tops || !s.list) {
        llm_sampler_scratch_fini(&s);
        return DBE_E_NOMEM;
    }
    *out = s;
    return DBE_OK;
}

void llm_sampler_scratch_fini(struct sampler_scratch *s)
{
    base_free(s->z);
    base_free(s->p);
    base_free(s->tops);
    base_free(s->list);
    *s = (struct sampler_scratch){0};
}
