/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_gguf.c - a model file as anybody could offer it: container, vocabulary, weights. One that loads must also
 * tokenise and say a few tokens.
 */
#include <stdlib.h>

#include "base/base.h"
#include "llm/llm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 4 };

static void require(bool cond)
{
    if (!cond)
        abort();
}

static void generate(struct llm_model *m)
{
    static const char text[] = "a<s> \xff\xe4\xbd\xa0 hello 123\n";
    const struct llm_message chat[] = {{"user", text, sizeof text - 1}};
    const struct llm_session_params params = {.max_tokens = STEPS, .temperature = 1, .seed = 1};
    struct llm_tokens t = {0};
    struct llm_session *s;
    struct llm_piece piece = {0};

    require(llm_tokenize(m, text, sizeof text - 1, LLM_TOKENIZE_BOS | LLM_TOKENIZE_SPECIAL, &t) == DBE_OK);
    t.count = 0;
    if (llm_chat_render(m, chat, 1, &t, NULL) == DBE_OK &&
        llm_session_new(m, t.ids, t.count, &params, &s, NULL) == DBE_OK) {
        while (!piece.done) {
            require(llm_session_step(s, &piece) == DBE_OK);
            require(piece.text_len == 0 || base_utf8_valid(piece.text, piece.text_len));
        }
        llm_session_free(s);
    }
    llm_tokens_free(&t);
}

static void embed(struct llm_model *m)
{
    const int32_t tokens[] = {0, 0, 0};
    const size_t n = llm_model_info(m)->n_embd;
    float *out = base_alloc(n, sizeof *out);
    const dbe_err err = out ? llm_embed(m, tokens, BASE_ARRAY_LEN(tokens), out, NULL) : DBE_E_NOMEM;

    for (size_t i = 0; err == DBE_OK && i < n; i++)
        require(out[i] >= -1.001f && out[i] <= 1.001f);
    base_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct llm_model_params params = {.threads = 1, .kv_budget_bytes = 1 << 20, .n_ctx_max = 256};
    struct llm_model *m;
    struct dbe_diag diag = {0};
    const dbe_err err = llm_model_load_mem(data, size, &params, &m, &diag);

    if (err != DBE_OK) {
        require(diag.text[0] != '\0'); /* a refusal says what is wrong */
        return 0;
    }
    generate(m);
    embed(m);
    llm_model_free(m);
    return 0;
}
