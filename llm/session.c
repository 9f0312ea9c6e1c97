/* SPDX-License-Identifier: Apache-2.0
 *
 * session.c - one generation: admission, steps, and text that never breaks a character nor shows a stop string.
 *
 * In:   a prompt of token ids and sampling parameters. Out: pieces of text.
 * Bytes of new tokens gather in `held`. What could still become a stop string or is an unfinished character stays
 * there; the rest goes out.
 */
#include <math.h>
#include <string.h>

#include "model.h"
#include "sampler.h"

enum { CHUNK_DEFAULT = 128, HELD_BYTES_MAX = 1 << 20 };

struct stop {
    char text[LLM_STOP_BYTES_MAX];
    size_t len;
};

struct llm_session {
    struct llm_model *model;
    struct llm_kv kv;
    int32_t *prompt;
    uint32_t prompt_count, prefilled, answered, max_tokens, chunk;
    int32_t last; /* sampled, not computed yet */
    struct llm_sampler sampler;
    struct sampler_scratch scratch;
    float *logits; /* [n_vocab] */
    struct stop stops[LLM_STOPS_MAX];
    size_t stop_count;
    struct base_buf held, out;
    bool ignore_eos, done;
    atomic_bool cancel;
};

/* ---- admission --------------------------------------------------------------------------------------------------- */

uint64_t llm_session_kv_bytes(const struct llm_model *m, size_t n_tokens)
{
    return llm_kv_bytes(&m->kv_pool, n_tokens);
}

static dbe_err check_params(const struct llm_session_params *p, struct dbe_diag *diag)
{
    if (!(p->temperature >= 0 && p->temperature <= 2))
        return dbe_fail(diag, DBE_E_ARGUMENT, "temperature", 0, "temperature must be from 0 to 2");
    if (!(p->top_p >= 0 && p->top_p <= 1))
        return dbe_fail(diag, DBE_E_ARGUMENT, "top_p", 0, "top_p must be from 0 to 1");
    if (p->stop_count > LLM_STOPS_MAX)
        return dbe_fail(diag, DBE_E_ARGUMENT, "stop", 0, "%zu stop strings, at most %d", p->stop_count, LLM_STOPS_MAX);
    for (size_t i = 0; i < p->stop_count; i++) {
        const size_t len = strlen(p->stops[i]);
        if (len == 0 || len > LLM_STOP_BYTES_MAX || !base_utf8_valid(p->stops[i], len))
            return dbe_fail(diag, DBE_E_ARGUMENT, "stop", i, "stop string %zu must be UTF-8 of 1 to %d bytes", i,
                            LLM_STOP_BYTES_MAX);
    }
    return DBE_OK;
}

static dbe_err check_prompt(const struct llm_model *m, const int32_t *prompt, size_t count, uint32_t max_tokens,
                            struct dbe_diag *diag)
{
    if (count == 0)
        return dbe_fail(diag, DBE_E_ARGUMENT, "prompt", 0, "the prompt has no tokens");
    if (count >= m->shape.n_ctx || max_tokens > m->shape.n_ctx - count)
        return dbe_fail(diag, DBE_E_CONTEXT, "prompt", 0,
                        "a prompt of %zu tokens and an answer of %u do not fit into the context of %u", count,
                        max_tokens ? max_tokens : 1, m->shape.n_ctx);
    for (size_t i = 0; i < count; i++)
        if (prompt[i] < 0 || (uint32_t)prompt[i] >= m->shape.n_vocab)
            return dbe_fail(diag, DBE_E_ARGUMENT, "prompt", i, "token %d is not in the vocabulary of %u", prompt[i],
                            m->shape.n_vocab);
    return DBE_OK;
}

static dbe_err session_fill(struct llm_session *s, const int32_t *prompt, const struct llm_session_params *p,
                            struct dbe_diag *diag)
{
    const size_t vocab = s->model->shape.n_vocab;

    s->prompt = base_alloc(s->prompt_count, sizeof *s->prompt);
    s->logits = base_alloc(vocab, sizeof *s->logits);
    if (!s->prompt || !s->logits || llm_sampler_scratch_init(vocab, &s->scratch) != DBE_OK)
        return dbe_fail(diag, DBE_E_NOMEM, "session", 0, "no memory for a session");
    memcpy(s->prompt, prompt, s->prompt_count * sizeof *prompt);
    DBE_TRY(llm_sampler_init(p, s->model->shape.n_vocab, (size_t)s->prompt_count + s->max_tokens, &s->sampler, diag));
    for (uint32_t i = 0; i < s->prompt_count; i++)
        llm_sampler_note(&s->sampler, prompt[i], true);
    for (size_t i = 0; i < p->stop_count; i++) {
        s->stops[i].len = strlen(p->stops[i]);
        memcpy(s->stops[i].text, p->stops[i], s->stops[i].len);
    }
    s->stop_count = p->stop_count;
    return llm_kv_init(s->model, s->prompt_count + s->max_tokens, &s->kv, diag);
}

dbe_err llm_session_new(struct llm_model *m, const int32_t *prompt, size_t count,
                        const struct llm_session_params *params, struct llm_session **ret, struct dbe_diag *diag)
{
    static const struct llm_session_params defaults = {0};
    const struct llm_session_params *p = params ? params : &defaults;
    struct llm_session *s;
    dbe_err err;

    DBE_TRY(check_params(p, diag));
    DBE_TRY(check_prompt(m, prompt, count, p->max_tokens, diag));
    s = base_alloc(1, sizeof *s);
    if (!s)
        return dbe_fail(diag, DBE_E_NOMEM, "session", 0, "no memory for a session");
    s->model = m;
    s->prompt_count = (uint32_t)count;
    s->max_tokens = p->max_tokens ? p->max_tokens : m->shape.n_ctx - (uint32_t)count;
    s->chunk = p->prefill_chunk ? BASE_MIN(p->prefill_chunk, (uint32_t)LLM_BATCH_MAX) : CHUNK_DEFAULT;
    s->ignore_eos = p->ignore_eos;
    base_buf_init(&s->held, HELD_BYTES_MAX);
    base_buf_init(&s->out, HELD_BYTES_MAX);
    err = session_fill(s, prompt, p, diag);
    if (err != DBE_OK) {
        llm_session_free(s);
        return err;
    }
    *ret = s;
    return DBE_OK;
}

void llm_session_free(struct llm_session *s)
{
    if (!s)
        return;
    llm_kv_free(s->model, &s->kv);
    if (s->prompt)
        base_wipe(s->prompt, s->prompt_count * sizeof *s->prompt);
    base_free(s->prompt);
    base_free(s->logits);
    llm_sampler_scratch_fini(&s->scratch);
    llm_sampler_fini(&s->sampler);
    base_buf_free(&s->held);
    base_buf_free(&s->out);
    base_free(s);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* Offset of the first stop string in the held bytes; SIZE_MAX: none. */
static size_t find_stop(const struct llm_session *s)
{
    size_t first = SIZE_MAX;

    for (size_t i = 0; i < s->stop_count && s->held.len > 0; i++) {
        const uint8_t *hit = memmem(s->held.data, s->held.len, s->stops[i].text, s->stops[i].len);
        if (hit && (size_t)(hit - s->held.data) < first)
            first = (size_t)(hit - s->held.data);
    }
    return first;
}

/* Bytes at the end of the held ones that are the beginning of a stop string: the most of any. */
static size_t stop_prefix(const struct llm_session *s)
{
    size_t most = 0;

    for (size_t i = 0; i < s->stop_count; i++)
        for (size_t n = BASE_MIN(s->stops[i].len - 1, s->held.len); n > most; n--)
            if (memcmp(s->held.data + s->held.len - n, s->stops[i].text, n) == 0)
                most = n;
    return most;
}

/* Could these bytes, fewer than a character has, become one with more to come? */
static bool unfinished(const uint8_t *p, size_t len)
{
    const size_t want = p[0] >= 0xf0 && p[0] <= 0xf4   ? 4
                        : p[0] >= 0xe0 && p[0] <= 0xef ? 3
                        : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
                                                       : 0;

    if (len >= want)
        return false;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return false;
    return true;
}

/* Move up to `limit` held bytes out as whole characters; bytes that are none become U+FFFD. What is unfinished at the
 * end stays, or is dropped when nothing follows. */
static void release(struct llm_session *s, size_t limit, bool last)
{
    size_t at = 0, n;

    while (at < limit) {
        const char *p = (const char *)s->held.data + at;
        const uint32_t code = llm_utf8_next(p, limit - at, &n);
        if (code == UINT32_MAX && unfinished(s->held.data + at, limit - at))
            break;
        if (code == UINT32_MAX || code == 0)
            base_buf_str(&s->out, "\xef\xbf\xbd");
        else
            base_buf_bytes(&s->out, p, n);
        at += n;
    }
    base_buf_consume(&s->held, last ? s->held.len : at);
}

static void finish(struct llm_session *s, enum llm_finish why, size_t limit, struct llm_piece *piece)
{
    release(s, limit, true);
    s->done = true;
    piece->done = true;
    piece->finish = why;
}

/* Take the new token in: its text, and whether it was the last. */
static void accept_token(struct llm_session *s, int32_t id, struct llm_piece *piece)
{
    const struct vocab_token *t = &s->model->vocab.tokens[id];

    s->last = id;
    s->answered++;
    if (!s->ignore_eos && llm_vocab_is_eog(&s->model->vocab, id)) {
        finish(s, LLM_FINISH_STOP, s->held.len, piece);
        return;
    }
    base_buf_bytes(&s->held, t->text, t->text_len);
    const size_t stop = find_stop(s);
    if (stop != SIZE_MAX)
        finish(s, LLM_FINISH_STOP, stop, piece);
    else if (s->answered >= s->max_tokens)
        finish(s, LLM_FINISH_LENGTH, s->held.len, piece);
    else
        release(s, s->held.len - stop_prefix(s), false);
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static dbe_err prefill_chunk(struct llm_session *s)
{
    struct llm_row rows[LLM_BATCH_MAX];
    const uint32_t n = BASE_MIN(s->chunk, s->prompt_count - s->prefilled);

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t pos = s->prefilled + i;
        rows[i] = (struct llm_row){&s->kv, pos, s->prompt[pos], pos + 1 == s->prompt_count ? s->logits : NULL, true};
    }
    DBE_TRY(llm_forward(s->model, rows, n, &s->cancel));
    s->prefilled += n;
    return DBE_OK;
}

static dbe_err decode_one(struct llm_session *s)
{
    const struct llm_row row = {&s->kv, s->prompt_count + s->answered - 1, s->last, s->logits, false};

    return llm_forward(s->model, &row, 1, &s->cancel);
}

dbe_err llm_session_step(struct llm_session *s, struct llm_piece *out)
{
    struct llm_piece piece = {.text = ""};
    dbe_err err;

    if (atomic_load(&s->cancel))
        return DBE_E_CANCELLED;
    if (s->done)
        return DBE_E_STATE;
    base_buf_clear(&s->out);
    pthread_mutex_lock(&s->model->step);
    err = s->prefilled < s->prompt_count ? prefill_chunk(s) : decode_one(s);
    pthread_mutex_unlock(&s->model->step);
    if (err != DBE_OK)
        return err;
    if (s->prefilled == s->prompt_count) {
        struct llm_sampled sampled;
        llm_sample(&s->sampler, s->logits, s->model->shape.n_vocab, NULL, &s->scratch, &sampled);
        llm_sampler_note(&s->sampler, sampled.id, false);
        accept_token(s, sampled.id, &piece);
    }
    if (s->held.err != DBE_OK || s->out.err != DBE_OK)
        return s->held.err != DBE_OK ? s->held.err : s->out.err;
    piece.text_len = s->out.len;
    piece.text = s->out.len > 0 ? (const char *)s->out.data : "";
    *out = piece;
    return DBE_OK;
}

void llm_session_cancel(struct llm_session *s)
{
    atomic_store(&s->cancel, true);
}

uint32_t llm_session_prompt_tokens(const struct llm_session *s)
{
    return s->prompt_count;
}

uint32_t llm_session_prefilled_tokens(const struct llm_session *s)
{
    return s->prefilled;
}

uint32_t llm_session_answer_tokens(const struct llm_session *s)
{
    return s->answered;
}

/* ---- logits ------------------------------------------------------------------------------------------------------ */

static dbe_err logits_batches(struct llm_model *m, struct llm_kv *kv, const int32_t *tokens, size_t count, float *out)
{
    struct llm_row rows[LLM_BATCH_MAX];

    for (size_t at = 0; at < count; at += LLM_BATCH_MAX) {
        const size_t n = BASE_MIN(count - at, (size_t)LLM_BATCH_MAX);
        for (size_t i = 0; i < n; i++)
            rows[i] = (struct llm_row){kv, (uint32_t)(at + i), tokens[at + i], out + (at + i) * m->shape.n_vocab, true};
        DBE_TRY(llm_forward(m, rows, n, NULL));
    }
    return DBE_OK;
}

dbe_err llm_logits(struct llm_model *m, const int32_t *tokens, size_t count, float *out, struct dbe_diag *diag)
{
    struct llm_kv kv;
    dbe_err err;

    if (count > m->shape.n_ctx)
        return dbe_fail(diag, DBE_E_CONTEXT, "tokens", 0, "%zu tokens exceed the context of %u", count, m->shape.n_ctx);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= m->shape.n_vocab)
            return dbe_fail(diag, DBE_E_ARGUMENT, "tokens", i, "token %d is not in the vocabulary", tokens[i]);
    DBE_TRY(llm_kv_init(m, (uint32_t)count, &kv, diag));
    pthread_mutex_lock(&m->step);
    err = logits_batches(m, &kv, tokens, count, out);
    pthread_mutex_unlock(&m->step);
    llm_kv_free(m, &kv);
    return err;
}
