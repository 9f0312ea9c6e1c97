/* SPDX-License-Identifier: Apache-2.0
 *
 * echo.c - see echo.h.
 */
#include "echo.h"

#include "batch.h"

size_t llm_echo_probs(const struct llm_session *s)
{
    return s->scored ? 1 + (size_t)s->chunk : 0; /* the first token comes with those behind it */
}

/* SentencePiece puts a space before a text, which becomes a part of its first token; user-defined tokens are read
 * before that. A text without any token that has bytes has none to leave out. */
static uint32_t find_lead(const struct llm_session *s)
{
    const struct llm_vocab *v = &s->model->vocab;

    if (s->echo != LLM_ECHO_TEXT || v->kind != VOCAB_SPM || !v->add_space_prefix)
        return UINT32_MAX;
    for (uint32_t i = 0; i < s->prompt_count; i++) {
        const struct vocab_token *t = &v->tokens[s->tokens[i]];
        if (t->text_len > 0)
            return t->type != VOCAB_USER && t->text[0] == ' ' ? i : UINT32_MAX;
    }
    return UINT32_MAX;
}

dbe_err llm_echo_init(struct llm_session *s, struct dbe_diag *diag)
{
    const struct vocab_token *tokens = s->model->vocab.tokens;
    uint64_t bytes = 0;

    s->lead_at = find_lead(s);
    for (uint32_t i = 0; s->echo != LLM_ECHO_NONE && i < s->prompt_count; i++)
        bytes += tokens[s->tokens[i]].text_len;
    if (bytes > LLM_TEXT_BYTES_MAX)
        return dbe_fail(diag, DBE_E_TOO_LARGE, "prompt", 0,
                        "the prompt's tokens stand for %llu bytes of text; at most %d are told again",
                        (unsigned long long)bytes, LLM_TEXT_BYTES_MAX);
    if (s->scored && llm_batch_room(s->model, LLM_ECHO_ROWS) != DBE_OK)
        return dbe_fail(diag, DBE_E_NOMEM, "session", 0, "no memory for the probabilities of a prompt");
    return DBE_OK;
}

void llm_echo_tell(struct llm_session *s, uint32_t end)
{
    for (; s->echoed < end; s->echoed++) {
        const struct vocab_token *t = &s->model->vocab.tokens[s->tokens[s->echoed]];
        const size_t lead = s->echoed == s->lead_at;
        llm_text_echo(&s->text, t->text + lead, t->text_len - lead);
    }
}
