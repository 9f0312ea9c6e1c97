/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_run.c - the verb run: a prompt or one turn of a chat, its answer as it comes or as one JSON object.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

enum { ANSWER_DEFAULT = 256, ANSWER_BYTES_MAX = 4 << 20, PROBS_BYTES_MAX = 256 << 20 };

struct run {
    struct llm_model *m;
    struct base_buf probs;     /* of the tokens, as JSON, where they were asked for */
    struct base_buf text;      /* of the answer, for JSON */
    uint64_t first_ns, end_ns; /* since the first step */
    enum llm_finish finish;
};

static dbe_err make_prompt(const struct tool_args *a, struct llm_model *m, struct llm_tokens *out,
                           struct dbe_diag *diag)
{
    struct llm_message msgs[2];
    size_t count = 0;

    if (a->raw)
        return llm_tokenize(m, a->prompt, strlen(a->prompt), LLM_TOKENIZE_BOS | (a->special ? LLM_TOKENIZE_SPECIAL : 0),
                            out);
    if (a->system)
        msgs[count++] = (struct llm_message){"system", a->system, strlen(a->system)};
    msgs[count++] = (struct llm_message){"user", a->prompt, strlen(a->prompt)};
    return llm_chat_render(m, msgs, count, out, diag);
}

/* {"id":5,"token":"x","logprob":-0.1 */
static void put_token(struct base_buf *out, const struct llm_model *m, int32_t id, float logprob)
{
    size_t len;
    const char *bytes = llm_token_bytes(m, id, &len);

    base_buf_fmt(out, "{\"id\":%d,\"token\":", id);
    base_json_str(out, bytes, len);
    if (isfinite(logprob))
        base_buf_fmt(out, ",\"logprob\":%.6f", (double)logprob);
    else
        base_buf_str(out, ",\"logprob\":null");
}

static void put_probs(struct run *run, const struct llm_piece *piece)
{
    struct base_buf *out = &run->probs;

    for (size_t i = 0; i < piece->prob_count; i++) {
        const struct llm_token_prob *p = &piece->probs[i];
        base_buf_str(out, out->len > 0 ? "," : "");
        put_token(out, run->m, p->id, p->logprob);
        base_buf_str(out, ",\"top\":[");
        for (uint32_t k = 0; k < p->top_count; k++) {
            base_buf_str(out, k > 0 ? "," : "");
            put_token(out, run->m, p->top[k].id, p->top[k].logprob);
            base_buf_u8(out, '}');
        }
        base_buf_str(out, "]}");
    }
}

static dbe_err generate(struct llm_session *s, bool json, struct run *run)
{
    const uint64_t start = base_mono_ns();
    struct llm_piece piece = {0};

    while (!piece.done) {
        DBE_TRY(llm_session_step(s, &piece));
        if (run->first_ns == 0 && llm_session_answer_tokens(s) > 0)
            run->first_ns = base_mono_ns() - start;
        if (json) {
            base_buf_bytes(&run->text, piece.text, piece.text_len);
            put_probs(run, &piece);
        } else {
            fwrite(piece.text, 1, piece.text_len, stdout);
            fflush(stdout);
        }
    }
    run->end_ns = base_mono_ns() - start;
    run->finish = piece.finish;
    return run->text.err != DBE_OK ? run->text.err : run->probs.err;
}

static int tell(const struct llm_session *s, struct run *run, bool json)
{
    const uint32_t answer = llm_session_answer_tokens(s), prompt = llm_session_prompt_tokens(s);
    const double decode_s = (double)(run->end_ns - run->first_ns) / 1e9;
    const double per_s = answer > 1 && decode_s > 0 ? (answer - 1) / decode_s : 0;
    const char *finish = run->finish == LLM_FINISH_STOP ? "stop" : "length";
    struct base_buf out;

    if (!json) {
        fprintf(stderr, "\n[%u prompt tokens, %u answer tokens, finish: %s; first token after %.3f s, %.2f tokens/s]\n",
                prompt, answer, finish, (double)run->first_ns / 1e9, per_s);
        return 0;
    }
    base_buf_init(&out, 6 * ANSWER_BYTES_MAX + PROBS_BYTES_MAX);
    base_buf_str(&out, "{\"text\":");
    base_json_str(&out, base_buf_cstr(&run->text), run->text.len);
    base_buf_fmt(&out,
                 ",\"finish\":\"%s\",\"prompt_tokens\":%u,\"answer_tokens\":%u,\"first_token_s\":%.6f,"
                 "\"tokens_per_s\":%.2f",
                 finish, prompt, answer, (double)run->first_ns / 1e9, per_s);
    if (run->probs.len > 0) {
        base_buf_str(&out, ",\"logprobs\":[");
        base_buf_bytes(&out, run->probs.data, run->probs.len);
        base_buf_u8(&out, ']');
    }
    base_buf_u8(&out, '}');
    return tool_print(&out);
}

static int run_prompt(const struct tool_args *a, struct llm_model *m, const struct llm_tokens *prompt)
{
    const uint32_t n_ctx = llm_model_info(m)->n_ctx;
    const uint32_t left = prompt->count < n_ctx ? n_ctx - (uint32_t)prompt->count : 0;
    struct llm_session_params params = a->sampling;
    struct run run = {.m = m};
    struct llm_session *s = NULL;
    struct dbe_diag diag = {0};
    int status;

    params.max_tokens = BASE_MIN(a->n ? a->n : ANSWER_DEFAULT, left);
    base_buf_init(&run.text, ANSWER_BYTES_MAX);
    base_buf_init(&run.probs, PROBS_BYTES_MAX);
    if (!a->json)
        params.logprobs = 0; /* nowhere to tell them */
    dbe_err err = llm_session_new(m, prompt->ids, prompt->count, &params, &s, &diag);
    if (err == DBE_OK)
        err = generate(s, a->json, &run);
    status = err == DBE_OK ? tell(s, &run, a->json) : tool_fail(err, &diag);
    llm_session_free(s);
    base_buf_free(&run.text);
    base_buf_free(&run.probs);
    return status;
}

int tool_run(const struct tool_args *a)
{
    struct dbe_diag diag = {0};
    struct llm_tokens prompt = {0};
    struct llm_model *m;
    int status;

    if (!a->prompt)
        return tool_usage();
    m = tool_load(a);
    if (!m)
        return 1;
    const dbe_err err = make_prompt(a, m, &prompt, &diag);
    status = err == DBE_OK ? run_prompt(a, m, &prompt) : tool_fail(err, &diag);
    llm_tokens_free(&prompt);
    llm_model_free(m);
    return status;
}
