/* SPDX-License-Identifier: Apache-2.0
 *
 * tool_run.c - the verb run: a prompt or one turn of a chat, its answer as it comes; or several answers, or JSON, at
 * the end. Several answers are computed together and differ by their seeds.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "grammar.h"
#include "tool.h"

enum { TOKENS_DEFAULT = 256, ANSWER_BYTES_MAX = 4 << 20, PROBS_BYTES_MAX = 256 << 20, JSON_BYTES_MAX = 1 << 30 };

struct answer {
    struct llm_session *session;
    struct base_buf text, probs; /* probs: of the tokens, as JSON, where they were asked for */
    uint64_t first_ns, end_ns;   /* since the first step */
    enum llm_finish finish;
    bool done;
};

struct run {
    const struct tool_args *a;
    struct llm_model *m, *draft; /* draft: a smaller one that guesses, or NULL */
    struct llm_grammar *grammar;
    struct answer *answers;
    size_t count;
};

/* ---- before ------------------------------------------------------------------------------------------------------ */

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

static dbe_err start(struct run *run, const struct llm_tokens *prompt, struct dbe_diag *diag)
{
    const uint32_t n_ctx = llm_model_info(run->m)->n_ctx;
    const uint32_t left = prompt->count < n_ctx ? n_ctx - (uint32_t)prompt->count : 0;
    struct llm_session_params params = run->a->sampling;

    params.max_tokens = BASE_MIN(run->a->n ? run->a->n : TOKENS_DEFAULT, left);
    params.grammar = run->grammar;
    params.draft = run->draft;
    if (!run->a->json)
        params.logprobs = 0; /* nowhere to tell them */
    if (params.echo != LLM_ECHO_NONE && run->a->raw)
        params.echo = LLM_ECHO_TEXT;
    for (size_t i = 0; i < run->count; i++, params.seed++) {
        base_buf_init(&run->answers[i].text, ANSWER_BYTES_MAX);
        base_buf_init(&run->answers[i].probs, PROBS_BYTES_MAX);
        DBE_TRY(llm_session_new(run->m, prompt->ids, prompt->count, &params, &run->answers[i].session, diag));
    }
    return DBE_OK;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

/* {"id":5,"token":"x","logprob":-0.1 */
static void put_token(struct base_buf *out, const struct llm_model *m, int32_t id, size_t lead, float logprob)
{
    size_t len;
    const char *bytes = llm_token_bytes(m, id, &len);

    base_buf_fmt(out, "{\"id\":%d,\"token\":", id);
    base_json_str(out, bytes + lead, len - lead);
    if (isfinite(logprob))
        base_buf_fmt(out, ",\"logprob\":%.6f", (double)logprob);
    else
        base_buf_str(out, ",\"logprob\":null");
}

static void put_probs(struct base_buf *out, const struct llm_model *m, const struct llm_piece *piece)
{
    for (size_t i = 0; i < piece->prob_count; i++) {
        const struct llm_token_prob *p = &piece->probs[i];
        base_buf_str(out, out->len > 0 ? "," : "");
        put_token(out, m, p->id, p->lead, p->logprob);
        base_buf_str(out, ",\"top\":[");
        for (uint32_t k = 0; k < p->top_count; k++) {
            base_buf_str(out, k > 0 ? "," : "");
            put_token(out, m, p->top[k].id, 0, p->top[k].logprob);
            base_buf_u8(out, '}');
        }
        base_buf_str(out, "]}");
    }
}

static dbe_err take(const struct run *run, struct answer *answer, const struct llm_piece *piece, uint64_t ns)
{
    if (answer->first_ns == 0 && llm_session_answer_tokens(answer->session) > 0)
        answer->first_ns = ns;
    if (run->a->json && run->a->sampling.logprobs > 0)
        put_probs(&answer->probs, run->m, piece);
    if (run->a->json || run->count > 1) {
        base_buf_bytes(&answer->text, piece->text, piece->text_len);
    } else {
        tool_print_text(piece->text, piece->text_len);
        fflush(stdout);
    }
    answer->end_ns = ns;
    answer->finish = piece->finish;
    answer->done = piece->done;
    return answer->text.err != DBE_OK ? answer->text.err : answer->probs.err;
}

static dbe_err generate(struct run *run)
{
    struct llm_session *sessions[LLM_SESSIONS_MAX];
    struct answer *live[LLM_SESSIONS_MAX];
    struct llm_piece pieces[LLM_SESSIONS_MAX];
    dbe_err errs[LLM_SESSIONS_MAX];
    const uint64_t begin = base_mono_ns();
    size_t count;

    for (;;) {
        count = 0;
        for (size_t i = 0; i < run->count; i++)
            if (!run->answers[i].done) {
                live[count] = &run->answers[i];
                sessions[count++] = run->answers[i].session;
            }
        if (count == 0)
            return DBE_OK;
        DBE_TRY(llm_batch_step(run->m, sessions, count, pieces, errs));
        const uint64_t ns = base_mono_ns() - begin;
        for (size_t i = 0; i < count; i++) {
            DBE_TRY(errs[i]);
            DBE_TRY(take(run, live[i], &pieces[i], ns));
        }
    }
}

/* ---- after ------------------------------------------------------------------------------------------------------- */

static double tokens_per_s(const struct answer *answer)
{
    const uint32_t n = llm_session_answer_tokens(answer->session);

    return n > 1 && answer->end_ns > answer->first_ns ? (n - 1) * 1e9 / (double)(answer->end_ns - answer->first_ns) : 0;
}

static const char *finish_name(const struct answer *answer)
{
    return answer->finish == LLM_FINISH_STOP ? "stop" : "length";
}

static void put_answer(struct base_buf *out, struct answer *answer)
{
    base_buf_str(out, "{\"text\":");
    base_json_str(out, base_buf_cstr(&answer->text), answer->text.len);
    base_buf_fmt(out,
                 ",\"finish\":\"%s\",\"prompt_tokens\":%u,\"answer_tokens\":%u,\"first_token_s\":%.6f,"
                 "\"tokens_per_s\":%.2f",
                 finish_name(answer), llm_session_prompt_tokens(answer->session),
                 llm_session_answer_tokens(answer->session), (double)answer->first_ns / 1e9, tokens_per_s(answer));
    if (answer->probs.len > 0) {
        base_buf_str(out, ",\"logprobs\":[");
        base_buf_bytes(out, answer->probs.data, answer->probs.len);
        base_buf_u8(out, ']');
    }
    base_buf_u8(out, '}');
}

static int tell_json(struct run *run)
{
    struct base_buf out;

    base_buf_init(&out, JSON_BYTES_MAX);
    base_buf_str(&out, run->count > 1 ? "{\"answers\":[" : "");
    for (size_t i = 0; i < run->count; i++) {
        base_buf_str(&out, i > 0 ? "," : "");
        put_answer(&out, &run->answers[i]);
    }
    base_buf_str(&out, run->count > 1 ? "]}" : "");
    return tool_print(&out);
}

static int tell(struct run *run)
{
    if (run->a->json)
        return tell_json(run);
    for (size_t i = 0; i < run->count; i++) {
        const struct answer *answer = &run->answers[i];
        if (run->count > 1) {
            printf("%s--- %zu ---\n", i > 0 ? "\n" : "", i + 1);
            tool_print_text((const char *)answer->text.data, answer->text.len);
            putchar('\n');
        }
        fprintf(stderr, "\n[%u prompt tokens, %u answer tokens, finish: %s; first token after %.3f s, %.2f tokens/s]\n",
                llm_session_prompt_tokens(answer->session), llm_session_answer_tokens(answer->session),
                finish_name(answer), (double)answer->first_ns / 1e9, tokens_per_s(answer));
    }
    return 0;
}

static void finish(struct run *run)
{
    for (size_t i = 0; run->answers && i < run->count; i++) {
        llm_session_free(run->answers[i].session);
        base_buf_free(&run->answers[i].text);
        base_buf_free(&run->answers[i].probs);
    }
    base_free(run->answers);
    llm_grammar_free(run->grammar);
    llm_model_free(run->m);
    llm_model_free(run->draft);
}

int tool_run(const struct tool_args *a)
{
    struct run run = {.a = a, .count = a->answers ? a->answers : 1};
    struct llm_tokens prompt = {0};
    struct dbe_diag diag = {0};

    if (a->interactive)
        return tool_chat(a);
    if (!a->prompt)
        return tool_wrong("run needs -p PROMPT, or -i");
    run.m = tool_load(a);
    if (!run.m)
        return 1;
    run.answers = base_alloc(run.count, sizeof *run.answers);
    dbe_err err = run.answers ? tool_grammar(a, &run.grammar, &diag) : DBE_E_NOMEM;
    if (err == DBE_OK && a->draft)
        err = tool_load_draft(a, &run.draft, &diag);
    if (err == DBE_OK)
        err = make_prompt(a, run.m, &prompt, &diag);
    if (err == DBE_OK)
        err = start(&run, &prompt, &diag);
    if (err == DBE_OK)
        err = generate(&run);
    const int status = err == DBE_OK ? tell(&run) : tool_fail(err, &diag);
    llm_tokens_free(&prompt);
    finish(&run);
    return status;
}
